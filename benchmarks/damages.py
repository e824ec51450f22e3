"""Two hundred damaged files, each given to the command that reads it.

    python benchmarks/damages.py                 # writes docs/damages.md; some ten minutes of one core
    python benchmarks/damages.py --count 20 --only manifest.csv --out /tmp/damages.md

A small finished project is damaged in one file, by a kind of damage and at a place that a seed draws, and a command
that reads it is run (in a forked process, through the command line). Right is one of two: exit code 1 with one sentence
that names the file, no traceback, and every other file as before or whole as after an undisturbed run; or exit code 0
with every product equal to the undamaged project's by hash. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import repository
from repository import ROOT

sys.path.insert(0, os.fspath(ROOT / "tests"))

from helpers import forked, whole_project
from helpers.forked import listing
from helpers.mirrored import Mirror

PATIENCE = 600.0  # seconds until a command counts as hanging, on a busy machine too
MEMORY = 12 << 30  # bytes of address space: what takes more counts as a fault
Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """A file that is damaged, and a command that reads it."""

    path: str
    command: str  # a stage, with the set or setup that is meant, or another command
    kinds: str  # of damages: names of KINDS, separated by blanks
    named: tuple[str, ...] = ()  # other names for it that a message may use


@dataclass(frozen=True, kw_only=True)
class Outcome:
    path: str
    kind: str
    command: str
    became: str  # refused, harmless, told or fault
    said: str


# --- damages of bytes -------------------------------------------------------------------------------------------------


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: int(len(data) * draw.uniform(0.05, 0.95))]


def empty(data: bytes, draw: random.Random) -> bytes:
    return b""


def nul(data: bytes, draw: random.Random) -> bytes:
    """A block of zeros, as a disk that lost power leaves it."""
    at = draw.randrange(max(1, len(data) // 2))
    return data[:at] + bytes(min(4096, max(8, len(data) // 4))) + data[at + 8 :]


def noise(data: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(max(64, len(data) // 2))


def utf16(data: bytes, draw: random.Random) -> bytes:
    """As an editor of another system saves it."""
    return data.decode(errors="replace").encode("utf-16")


def latin1(data: bytes, draw: random.Random) -> bytes:
    """An umlaut in one byte."""
    at = draw.randrange(len(data) // 2, len(data))
    return data[:at] + b"\xe4" + data[at:]


def html(data: bytes, draw: random.Random) -> bytes:
    """What a proxy answers instead of the file."""
    return b"<!DOCTYPE html><html><body>403 Forbidden</body></html>\n"


def pointer(data: bytes, draw: random.Random) -> bytes:
    """git lfs was not installed when it was cloned."""
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 12345\n"


def conflict(data: bytes, draw: random.Random) -> bytes:
    """A merge that was not finished."""
    lines = data.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    return b"".join(
        [*lines[:at], b"<<<<<<< HEAD\n", lines[at], b"=======\n", lines[at], b">>>>>>> other\n", *lines[at + 1 :]]
    )


# --- damages of JSON and YAML -----------------------------------------------------------------------------------------


def _places(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    found = [] if found is None else found
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(items):
        found.append((value, key))
        _places(one, found)
    return found


def _edited(
    change: Callable[[Any, Any, random.Random], None], keep: Callable[[Any], bool] = lambda value: True
) -> Damage:
    """A damage at a drawn place of a JSON or YAML file whose value fits."""

    def damage(data: bytes, draw: random.Random) -> bytes:
        from partsynth.store.yaml_rule import dump_yaml, load_yaml

        as_json = data.lstrip()[:1] in b"{["
        value = json.loads(data) if as_json else load_yaml(data)
        places = _places(value)
        change(*draw.choice([(held, key) for held, key in places if keep(held[key])] or places), draw)
        return json.dumps(value).encode() if as_json else dump_yaml(value).encode()

    return damage


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _set(value: Any) -> Callable[[Any, Any, random.Random], None]:
    return lambda held, key, draw: held.__setitem__(key, value)


def doubled(data: bytes, draw: random.Random) -> bytes:
    """A key that stands twice, with two values: readers take the last without a word."""
    text = data.decode()
    if text.lstrip()[:1] == "{":
        key = next(iter(json.loads(text)))
        return text.replace("{", "{" + f'{json.dumps(key)}: "first", ', 1).encode()
    key = re.search(r"^(\w+):", text, re.MULTILINE)
    return f"{key[1] if key else 'a'}: {{}}\n{text}".encode()


def deep(data: bytes, draw: random.Random) -> bytes:
    return b"[" * 100_000 + b"]" * 100_000


def top(data: bytes, draw: random.Random) -> bytes:
    """Another thing than a mapping."""
    return draw.choice([b"[]", b"3", b'"text"', b"null", b"[[1]]"])


def laughs(data: bytes, draw: random.Random) -> bytes:
    """Aliases of aliases: ten lines that stand for 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return data + ("\n".join(lines) + "\n").encode()


def itself(data: bytes, draw: random.Random) -> bytes:
    """An alias that holds itself."""
    return re.sub(rb"^(\w+):", rb"zz: &zz {again: *zz}\n\1:", data, count=1, flags=re.MULTILINE)


def tag(data: bytes, draw: random.Random) -> bytes:
    return data + b"\nzz: !!python/object/apply:os.system ['touch owned']\n"


def tabs(data: bytes, draw: random.Random) -> bytes:
    return re.sub(rb"^  ", b"\t", data, flags=re.MULTILINE)


# --- damages of tables ------------------------------------------------------------------------------------------------


def _table(change: Callable[[list[list[str]], random.Random], None]) -> Damage:
    """A damage of a CSV file's lines; the first is the header."""

    def damage(data: bytes, draw: random.Random) -> bytes:
        rows = list(csv.reader(io.StringIO(data.decode())))
        change(rows, draw)
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        return buffer.getvalue().encode()

    return damage


def _in_column(pattern: str, value: Callable[[str, random.Random], str]) -> Damage:
    """Another value in one row of a column that fits; in any where none does."""

    def change(rows: list[list[str]], draw: random.Random) -> None:
        columns = [n for n, name in enumerate(rows[0]) if re.fullmatch(pattern, name)]
        column = draw.choice(columns or range(len(rows[0])))
        row = draw.randrange(1, len(rows))
        rows[row][column] = value(rows[row][column], draw)

    return _table(change)


def _longer(rows: list[list[str]], draw: random.Random) -> None:
    rows[draw.randrange(1, len(rows))] += ["", "more"]


def _shorter(rows: list[list[str]], draw: random.Random) -> None:
    rows[draw.randrange(1, len(rows))][:] = rows[1][:2]


def _no_column(rows: list[list[str]], draw: random.Random) -> None:
    column = draw.randrange(min(3, len(rows[0])))
    for row in rows:
        del row[column]


def _same_column(rows: list[list[str]], draw: random.Random) -> None:
    for row in rows:
        row.append(row[0])


def quote(data: bytes, draw: random.Random) -> bytes:
    """A quote that is never closed."""
    at = data.index(b"\n") + 1
    return data[:at] + b'"' + data[at:]


ESCAPES = ("../../../../etc/passwd", "/etc/passwd", "data/real/../../../x.png", "..\\x.png", "")
NUMBERS = r"percentile|drift|strength|seed|variant|confidence|calibration_n|copy_similarity|class_margin|fpr|tpr|count"


# --- damages of images and weights ------------------------------------------------------------------------------------


def bomb(data: bytes, draw: random.Random) -> bytes:
    """A header that promises 60,000 x 60,000 pixels."""
    import zlib

    side = (60_000).to_bytes(4, "big")
    head = b"IHDR" + side + side + b"\x08\x02\x00\x00\x00"
    return data[:8] + (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big") + data[33:]


def _image(change: Callable[[Any, random.Random], Any]) -> Damage:
    def damage(data: bytes, draw: random.Random) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        with Image.open(io.BytesIO(data)) as image:
            change(image.copy(), draw).save(buffer, "PNG")
        return buffer.getvalue()

    return damage


def header(data: bytes, draw: random.Random) -> bytes:
    """A length of the header that no file has."""
    return (draw.choice([2**63 - 1, 2**40, len(data) * 2, 3])).to_bytes(8, "little") + data[8:]


def _tensors(change: Callable[[dict[str, Any], dict[str, str], random.Random], None]) -> Damage:
    def damage(data: bytes, draw: random.Random) -> bytes:
        from safetensors.numpy import load, save

        end = 8 + int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8:end]).get("__metadata__", {})
        tensors = load(data)
        change(tensors, metadata, draw)
        return save(tensors, metadata)

    return damage


def _lost(tensors: dict[str, Any], metadata: dict[str, str], draw: random.Random) -> None:
    del tensors[draw.choice(sorted(tensors))]


def _shape(tensors: dict[str, Any], metadata: dict[str, str], draw: random.Random) -> None:
    import numpy as np

    name = draw.choice(sorted(tensors))
    tensors[name] = np.zeros((3, 5), tensors[name].dtype)


def _nan(tensors: dict[str, Any], metadata: dict[str, str], draw: random.Random) -> None:
    import numpy as np

    name = draw.choice(sorted(n for n in tensors if tensors[n].dtype.kind == "f"))
    tensors[name] = np.full_like(tensors[name], np.nan)


def _text_type(tensors: dict[str, Any], metadata: dict[str, str], draw: random.Random) -> None:
    name = draw.choice(sorted(tensors))
    tensors[name] = tensors[name].astype("int8")


def _no_metadata(tensors: dict[str, Any], metadata: dict[str, str], draw: random.Random) -> None:
    metadata.clear()


def torn_line(data: bytes, draw: random.Random) -> bytes:
    """A journal whose last record was cut off: what a kill leaves."""
    return data.rstrip(b"\n")[:-7]


KINDS: dict[str, Damage | None] = {
    "cut": cut,
    "empty": empty,
    "NUL bytes": nul,
    "noise": noise,
    "UTF-16": utf16,
    "one byte of Latin-1": latin1,
    "HTML": html,
    "LFS pointer": pointer,
    "merge conflict": conflict,
    "folder": None,  # in place of the file
    "link to itself": None,
    "swapped": None,  # with another file of its kind in the same folder, else with params.yaml
    "not readable": None,  # a directory's permission cannot be tested as root: a dangling link
    "wrong type": _edited(lambda held, key, draw: held.__setitem__(key, {"a": [1]}), lambda v: not isinstance(v, dict)),
    "text for a number": _edited(_set("many"), _is_number),
    "huge number": _edited(
        lambda held, key, draw: held.__setitem__(key, draw.choice([10**400, -(10**30), 10**18])), _is_number
    ),
    "NaN": _edited(_set(float("nan")), _is_number),
    "null": _edited(_set(None)),
    "missing key": _edited(lambda held, key, draw: held.__delitem__(key), lambda v: True),
    "path escape": _edited(
        lambda held, key, draw: held.__setitem__(key, draw.choice(ESCAPES[:2])), lambda v: isinstance(v, str)
    ),
    "doubled key": doubled,
    "deep nesting": deep,
    "another top": top,
    "billion laughs": laughs,
    "alias of itself": itself,
    "python tag": tag,
    "tabs": tabs,
    "doubled row": _table(lambda rows, draw: rows.append(rows[draw.randrange(1, len(rows))])),
    "too many fields": _table(_longer),
    "too few fields": _table(_shorter),
    "column missing": _table(_no_column),
    "column doubled": _table(_same_column),
    "header renamed": _table(lambda rows, draw: rows[0].__setitem__(0, "pfad")),
    "open quote": quote,
    "huge field": _in_column("class_name|setup|reasons", lambda value, draw: "x" * 200_000),
    "NaN in a row": _in_column(NUMBERS, lambda value, draw: draw.choice(["nan", "inf", "-inf"])),
    "huge number in a row": _in_column(NUMBERS, lambda value, draw: draw.choice(["9" * 400, "1e999"])),
    "text in a row": _in_column(NUMBERS, lambda value, draw: "viel"),
    "path escape in a row": _in_column("path|mask|source", lambda value, draw: draw.choice(ESCAPES)),
    "other hash in a row": _in_column("sha256", lambda value, draw: value[::-1]),
    "no hash in a row": _in_column("sha256", lambda value, draw: draw.choice(["", "none", value[:10]])),
    "other class in a row": _in_column("class_name", lambda value, draw: draw.choice(["", "nobody's", "../gear"])),
    "other word in a row": _in_column("split|role|verdict|part", lambda value, draw: "maybe"),
    "bomb": bomb,
    "other size": _image(lambda image, draw: image.resize((image.width * 2, image.height + 1))),
    "other content": _image(lambda image, draw: image.transpose(1)),
    "header": header,
    "tensor missing": _tensors(_lost),
    "other shape": _tensors(_shape),
    "NaN weights": _tensors(_nan),
    "whole numbers": _tensors(_text_type),
    "no metadata": _tensors(_no_metadata),
    "torn last line": torn_line,
}
ANY = "cut|empty|NUL bytes|noise|HTML|folder|link to itself|swapped|LFS pointer|not readable"
TREE = (
    f"{ANY}|UTF-16|one byte of Latin-1|wrong type|text for a number|huge number|null|missing key|doubled key|"
    "deep nesting|another top|merge conflict|NaN"
)
YAML = f"{TREE}|billion laughs|alias of itself|python tag|tabs"
TABLE = (
    f"{ANY}|UTF-16|one byte of Latin-1|doubled row|too many fields|too few fields|column missing|column doubled|"
    "merge conflict|header renamed|open quote|huge field"
)
ROWS = f"{TABLE}|path escape in a row"
HASHED = f"{ROWS}|other hash in a row|no hash in a row|other class in a row"  # where images are read too
NUMBERED = "NaN in a row|huge number in a row|text in a row"  # where a column of numbers stands
WORDED = "other word in a row"  # where a column takes certain words alone
IMAGE = f"{ANY}|bomb|other size|other content"
# before it is ingested, another photograph is no damage, and a folder one of those that are passed over by name
PHOTO = f"{ANY.replace('|swapped', '').replace('|folder', '')}|bomb"
WEIGHTS = f"{ANY}|header|tensor missing|other shape|NaN weights|whole numbers|no metadata"

TARGETS = [
    Target("params.yaml", "check", YAML),
    Target("params.yaml", "select real_id", YAML),
    Target("params.yaml", "train real", YAML),
    Target("dvc.yaml", "check", YAML),
    Target("dvc.yaml", "audit verify", YAML),
    Target("dvc.lock", "audit verify", f"{YAML}|path escape"),
    Target("dvc.lock", "check", YAML),
    Target("partsynth.json", "select real", TREE),
    Target("partsynth.json", "upgrade", TREE),
    Target("data/real/manifest.csv", "select real", f"{ROWS}|{WORDED}"),
    Target("data/real/manifest.csv", "generate id", f"{HASHED}|{WORDED}"),
    Target("data/real/manifest.csv", "audit verify", HASHED),
    Target("data/ood/manifest.csv", "evaluate", HASHED),
    Target("data/augmented/id/manifest.csv", "select real_id", f"{ROWS}|{NUMBERED}"),
    Target("data/augmented/id/manifest.csv", "quality id", f"{HASHED}|{NUMBERED}"),
    Target("data/quality/id.csv", "select real_id", f"{ROWS}|{NUMBERED}|{WORDED}"),
    Target("data/quality/id.csv", "report", f"{ROWS}|{WORDED}"),
    Target("data/selected/real.csv", "train real", HASHED.replace("|swapped", "")),  # any whole table can be trained on
    Target("data/selected/real.csv", "select real_id", ROWS),
    Target("data/selected/real_id.csv", "evaluate", f"{ROWS}|{WORDED}|text in a row"),
    Target("data/strengths/id.json", "generate id", TREE),
    Target("data/strengths/id.json", "audit verify", TREE),
    Target("models/tokens/gear.safetensors", "generate id", WEIGHTS),
    Target("models/tokens/gear.safetensors", "tokens", WEIGHTS),
    Target("models/supcon/real/0/encoder.safetensors", "evaluate", WEIGHTS),
    Target("models/supcon/real/0/encoder.safetensors", "train real", WEIGHTS),
    Target("models/supcon/real/0/classifier.safetensors", "evaluate", WEIGHTS),
    Target("models/supcon/real/0/config.json", "evaluate", TREE),
    Target("models/supcon/real/0/config.json", "register", TREE),
    Target("models/supcon/real/0/config.json", "train real", TREE),
    Target("models/supcon/real/0/history.csv", "evaluate", TABLE),
    Target("models/runs/real/0.json", "evaluate", TREE),
    Target("models/runs/real/0.json", "register", TREE),
    Target("models/runs/real/0.json", "train real", TREE),
    Target("models/runs/real/0.json", "audit verify", f"{TREE}|path escape"),
    Target("reports/metrics/summary.json", "report", TREE),
    Target("reports/metrics/summary.json", "summary", TREE),
    Target("reports/metrics/predictions.csv", "recompute", f"{TABLE}|{NUMBERED}|{WORDED}"),
    Target("reports/plots/roc_near.csv", "report", TABLE),
    Target("reports/studies/partsynth.json", "report", TREE),
    Target(".work/study.journal", "study show", f"{ANY}|UTF-16|torn last line|deep nesting|another top|merge conflict"),
    Target("data/real/train/gear/0.png", "train real", IMAGE),
    Target("data/real/train/gear/0.png", "quality id", IMAGE),
    Target("data/real/train/gear/0.png", "report", IMAGE),
    Target("data/real/val/gear/0.png", "calibrate id", IMAGE),
    Target("data/augmented/id/gear/0.png", "quality id", IMAGE),
    Target("data/augmented/id/gear/0.png", "train real_id", IMAGE),
    Target("data/augmented/id/gear/0.png", "generate id", IMAGE),
    Target("../photos/gear/05.png", "ingest", PHOTO),
    Target("../mvip/gear/meta.json", "ingest mvip", f"{TREE}"),
    Target("../mvip/gear/train_data/set0/cam0/0_rgb_mask_gen.png", "ingest mvip", IMAGE, ("set0/cam0/0_rgb.png",)),
    Target("models/base/model_index.json", "generate id", TREE, ("models/base", "diffusion.model")),
    Target("models/base/unet/config.json", "generate id", TREE, ("models/base", "diffusion.model")),
    Target("models/base/unet/diffusion_pytorch_model.safetensors", "generate id", WEIGHTS, ("models/base",)),
    Target("models/base/tokenizer/tokenizer.json", "tokens", TREE, ("models/base", "diffusion.model")),
    Target("models/base/reference_encoder/config.json", "quality id", TREE, ("reference_encoder", "reference.model")),
    Target("models/base/reference_encoder/model.safetensors", "quality id", WEIGHTS, ("reference_encoder",)),
    Target("models/base.dvc", "check", YAML),
    Target("mlflow.db", "register", ANY),
    Target("mlflow.db", "train real_id", ANY),
    Target("exported/export.json", "predict", TREE),
    Target("exported/model.onnx", "predict", ANY),
    Target(".dvc/config", "check", f"{ANY}|UTF-16"),
]


class Bench:
    """A finished project, restored before each case."""

    def __init__(self, work: Path, until: str = "") -> None:
        self.work, self.until = work, until  # the last stage that is needed; nothing: all
        self.pristine, self.case = work / "pristine", work / "case"
        self.root, self.log = self.case / "project", work / "command.log"
        self.mirror = Mirror(self.pristine, self.case)
        self.before: dict[str, str] = {}
        self.after: dict[str, dict[str, str]] = {}  # command -> listing after it ran on the undamaged project
        self.kept = work / f"undamaged-{_code()}.json"  # the same, for when it goes on
        self.warm: set[str] = set()

    def prepare(self) -> None:
        if not (self.work / "prepared").is_file():
            forked.warm()
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True)
            whole_project.make(self.pristine)
            root = self.pristine / "project"
            self._mvip()
            commands = whole_project.commands(self.pristine)
            for stage, command in commands.items():
                self._must(command, root)
                if stage == self.until:
                    break
            if not self.until:
                dvc = [sys.executable, "-m", "dvc"]
                subprocess.run([*dvc, "commit", "-f", "-q"], cwd=root, check=True, capture_output=True)
                exporting = ["export", "--out", "exported"]
                for command in (["study", "--trials", "2"], ["study", "show"], ["register"], exporting):
                    self._must(command, root)
                self._must(commands["report"], root)  # with the study
                subprocess.run([*dvc, "commit", "-f", "-q"], cwd=root, check=True, capture_output=True)
            (self.work / "prepared").touch()
        self.restore()
        self.before = self._listing()
        if self.kept.is_file():
            self.after = json.loads(self.kept.read_text())

    def _mvip(self) -> None:
        """The same photographs in MVIP's layout."""
        from PIL import Image

        for name in ("flange", "gear"):
            folder = self.pristine / "mvip" / name
            photos = sorted((self.pristine / "photos" / name).glob("*.png"))
            for n, photo in enumerate(photos):
                split = ("train_data", "train_data", "valid_data", "test_data")[n % 4]
                place = folder / split / f"set{n}" / "cam0"
                place.mkdir(parents=True)
                shutil.copyfile(photo, place / "0_rgb.png")
                mask = Image.new("L", (48, 48))
                mask.paste(255, (8, 8, 40, 40))
                mask.save(place / "0_rgb_mask_gen.png")
            meta = {"super_class": ["Part"], "description": {"state": ["used"], "colour": ["grey"]}}
            (folder / "meta.json").write_text(json.dumps(meta))
        text = (self.pristine / "project/params.yaml").read_text()
        mvip = text.replace("source: folder", "source: mvip\n  super_class: Part").replace(
            "masks: none", "masks: required"
        )
        mvip = mvip.replace("- shaft", "").replace("holdout_classes:", "holdout_classes: []")
        (self.pristine / "project/mvip.yaml").write_text(mvip)

    def _must(self, command: Sequence[str], root: Path) -> None:
        running = forked.forked(command, root, self.log)
        if (code := running.wait()) != 0:
            raise SystemExit(f"the undamaged project fails at {' '.join(command)} ({code}):\n{running.text()}")

    def _listing(self) -> dict[str, str]:
        found = listing(self.root, known=self.mirror.digests)
        return {key: value for key, value in found.items() if not key.startswith(".work/features")}

    def restore(self) -> None:
        self.mirror.restore()

    def undamaged(self, command: str) -> dict[str, str]:
        """The listing after the command ran on the whole project. What it imports is imported here too, once."""
        modules = self.work / f"modules-{command.replace(' ', '-')}"
        if command not in self.after:
            self.restore()
            running = forked.forked(spelled(command, self.pristine), self.root, self.log, modules=os.fspath(modules))
            if running.wait(PATIENCE) != 0:
                raise SystemExit(f"{command} fails on the undamaged project:\n{running.text()}")
            self.after[command] = self._listing()
            self.kept.write_text(json.dumps(self.after))
        if command not in self.warm and modules.is_file():
            forked.warm(modules.read_text().splitlines())
        self.warm.add(command)
        return self.after[command]

    def run(self, target: Target, kind: str, seed: int) -> Outcome:
        """One damage."""
        wanted, told = self.undamaged(target.command), False
        self.restore()
        path = damaged(self.root, target.path, kind, random.Random(f"{seed} {target.path} {kind} {target.command}"))
        self.mirror.changed(path)
        name = os.path.relpath(path, self.root)
        given = self._listing()
        running = forked.forked(spelled(target.command, self.pristine), self.root, self.log, before=_limited)
        code = running.wait(PATIENCE)
        text = running.text()
        if code is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        found = self._listing()
        faults = []
        if code is None:
            faults.append("hangs")
        elif code == 0:
            other = {k for k in wanted.keys() | found.keys() if found.get(k) != wanted.get(k)}
            other = {k for k in other if k != name and not k.startswith(f"{name}/")}
            if target.command.startswith("train"):  # trained anew, it names another MLflow run
                other = {k for k in other if not k.startswith("models/runs/")}
            told = bool(other) and any(n in text for n in (name, *target.named)) and "Traceback" not in text
            if other and not told:
                faults.append(f"exit code 0, other products: {', '.join(sorted(other)[:3])}")
        else:
            faults += self._judge(code, text, (path.name, name, *target.named))
            half = [k for k, v in found.items() if v not in (given.get(k), wanted.get(k), self.before.get(k))]
            half += [k for k in found if k.endswith(".tmp")]
            if half:
                faults.append(f"half written: {', '.join(sorted(half)[:3])}")
        if (self.root / "owned").exists():
            faults.append("code of the file was run")
        said = next((line for line in text.splitlines() if line.startswith("partsynth: ")), "") or _last(text)
        if said.endswith(":"):
            said = " ".join(text[text.index(said) :].split())
        became = "fault" if faults else "told" if told else "harmless" if code == 0 else "refused"
        if told:
            said = next(line for line in text.splitlines() if any(n in line for n in (name, *target.named)))
        said = said.replace(os.fspath(self.case), "…").removeprefix("partsynth: ")[:300]
        said = "; ".join([*faults, said]) if faults else said if code or told else ""
        return Outcome(path=name, kind=kind, command=target.command, became=became, said=said)

    def _judge(self, code: int, text: str, names: Sequence[str]) -> list[str]:
        faults = []
        if code != 1:
            faults.append(f"exit code {code}")
        if "Traceback" in text:
            faults.append("traceback")
        elif not any(name in text for name in names):
            faults.append("does not name the file")
        return faults


def _code() -> str:
    """A hash of the package's code."""
    files = sorted((ROOT / "src").rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return " ".join(lines[-1].split()) if lines else ""


def spelled(command: str, folder: Path) -> list[str]:
    """The arguments of a command of TARGETS."""
    stages = whole_project.commands(folder)
    others = {
        "recompute": ["recompute", "reports/metrics/predictions.csv"],
        "predict": ["predict", "../photos/gear", "--model", "exported", "--out", "predicted"],
        "ingest mvip": [
            *("ingest", "--raw", "../mvip", "--real", "data/real", "--ood", "data/ood", "--params", "mvip.yaml")
        ],
    }
    stage = command.replace(" ", "@") + ("-0" if command.startswith("train") else "")
    return others.get(command) or stages.get(stage) or command.split()


def damaged(root: Path, name: str, kind: str, draw: random.Random) -> Path:
    """Damage one file of a project; returns it. Of a name that is not there, the first of its folder."""
    path = root / name
    if not path.exists():
        path = sorted(p for p in path.parent.glob(f"*{path.suffix}") if p.is_file())[0]
    data = path.read_bytes()
    change = KINDS[kind]
    if change is not None:
        path.write_bytes(change(data, draw))
    elif kind == "folder":
        path.unlink()
        path.mkdir()
        (path / "inside.txt").write_text("here")
    elif kind == "link to itself":
        path.unlink()
        path.symlink_to(path.name)
    elif kind == "not readable":
        path.unlink()
        path.symlink_to("gone/nowhere")
    else:
        others = sorted(p for p in path.parent.glob(f"*{path.suffix}") if p != path and p.is_file())
        other = draw.choice(others) if others else root / "README.md"
        path.write_bytes(other.read_bytes())
    return path


def drawn(count: int, seed: int) -> list[tuple[Target, str]]:
    """Pairs of target and kind: every target and every kind, as often as ``count`` allows."""
    draw = random.Random(seed)
    queues = []
    for target in TARGETS:
        kinds = target.kinds.split("|")
        draw.shuffle(kinds)
        queues.append((target, kinds))
    used: Counter[str] = Counter()
    chosen: list[tuple[Target, str]] = []
    while len(chosen) < count and any(kinds for _, kinds in queues):
        for target, kinds in queues:
            if kinds and len(chosen) < count:
                kind = min(kinds, key=lambda k: used[k])  # the rarest so far; ties as shuffled
                kinds.remove(kind)
                used[kind] += 1
                chosen.append((target, kind))
    return chosen


LIGHT = ("summary", "recompute", "select", "upgrade", "check", "audit", "study", "register")  # need no torch


def _weight(command: str) -> tuple[bool, str]:
    """Cases of one command follow one another, those that start quickly come first."""
    return not command.startswith(LIGHT), command


def run(
    work: Path, pairs: Sequence[tuple[Target, str]], seed: int, until: str = "", so_far: bool = False
) -> list[Outcome]:
    """All outcomes; they are kept in ``work/results.jsonl``. ``so_far``: run nothing, and return those that there are.

    ``until``: the last stage of the project that ``pairs`` need.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}
    os.environ |= {"COLUMNS": "200", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    bench, results = Bench(work, until), work / "results.jsonl"
    if not so_far:
        bench.prepare()
    done = {}
    if results.is_file():
        for line in results.read_text().splitlines():
            kept = json.loads(line)
            key = kept.pop("case")
            done[key] = Outcome(**kept)
    outcomes = []
    for target, kind in sorted(pairs, key=lambda pair: _weight(pair[0].command)):
        key = f"{seed}|{target.path}|{kind}|{target.command}"
        if so_far and key not in done:
            continue
        if key not in done:
            done[key] = bench.run(target, kind, seed)
            with open(results, "a") as file:
                file.write(json.dumps({"case": key, **asdict(done[key])}) + "\n")
        outcomes.append(done[key])
        if done[key].became == "fault":
            print(f"{target.path}, {kind}, {target.command}: {done[key].said}", flush=True)
    return outcomes


def markdown(outcomes: Sequence[Outcome], command: str, commit: str, seed: int, total: int) -> str:
    """The page; ``total`` are the damages that there would be."""
    counts = Counter(o.became for o in outcomes)
    lines = [
        "# Damaged files",
        "",
        "A small finished project is damaged in one file, and a command that reads it is run. **refused**: exit",
        "code 1, a sentence that names the file, no traceback, nothing half-written. **harmless**: exit code 0, and",
        "every product is that of the undamaged project, by hash. **told**: exit code 0, other products, and a line",
        "names the file (records that a killed process cut off are left out).",
        "",
        f"Command `{command}`, commit {commit}, seed {seed}: {len(outcomes)} of {total} damages tried, "
        f"{counts['refused']} refused, {counts['harmless']} harmless, {counts['told']} told, {counts['fault']} faults.",
        "",
        "| file | damage | command | | what was said |",
        "|---|---|---|---|---|",
    ]
    for o in sorted(outcomes, key=lambda o: (o.path, o.command, o.kind)):
        said = " ".join(o.said.replace("|", "\\|").replace("<", "&lt;").split())
        became = f"**{o.became}**" if o.became == "fault" else o.became
        lines.append(f"| `{o.path}` | {o.kind} | {o.command} | {became} | {said[:220]} |")
    return "\n".join(lines) + "\n"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("/tmp/partsynth-damages"), help="for project and results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/damages.md", help="the page")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", default="", help="cases whose path, kind or command has this in it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--so-far", action="store_true", help="run nothing: write the page of what has been run")
    return parser.parse_args(given)


def main() -> None:
    given = arguments()
    pairs = [
        (target, kind)
        for target, kind in drawn(given.count, given.seed)
        if given.only in f"{target.path} {kind} {target.command}"
    ]
    outcomes = run(given.work, pairs, given.seed, so_far=given.so_far)
    told = " ".join(["python benchmarks/damages.py", *sys.argv[1:]])
    given.out.write_text(markdown(outcomes, told, repository.commit(), given.seed, len(pairs)))
    bad = sum(o.became == "fault" for o in outcomes)
    print(f"{given.out}: {len(outcomes)} damages, {bad} faults")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
