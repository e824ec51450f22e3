"""Which data made this model, where did this picture come from, what came of this photograph: answered by hash.

Every command collects what it can say and every fault on the way; a fault, that is anything missing or unverifiable,
makes the exit code 1. Runs are read from MLflow and, where a fresh clone has no store, from the ``run.json`` beside
each trained model; data from the workspace or by hash from DVC's cache and remotes, never by git revision.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from partsynth import lineage, tracking, verification
from partsynth.objects import Objects, folder_files, listing_md5, path_md5
from partsynth.records import (
    AugmentedRecord,
    RealRecord,
    Record,
    SelectedRecord,
    UserError,
    VerdictRecord,
    inside,
    locate_base,
    read_manifest,
    sha256_bytes,
    sha256_file,
    write_bytes_atomic,
    write_json,
)
from partsynth.verification import OOD, REAL, TOKENS, Fault, token_metadata

SHA = re.compile(r"^[0-9a-f]{8,64}$")
AUGMENTED, SELECTED = "data/augmented", "data/selected"
TOLERANCE = 2.0  # of 255: mean difference allowed of a picture made again on another machine
SHOWN = 20  # entries of a list shown to people


@dataclass
class Result:
    """What a command found out: ``data`` is JSON, ``faults`` decide the exit code."""

    command: str
    data: dict[str, Any]
    faults: list[Fault] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return int(bool(self.faults))

    def as_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "ok": not self.faults,
            **self.data,
            "faults": [vars(fault) for fault in self.faults],
        }


# --- runs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunRecord:
    """A training run as an audit sees it. ``stored`` says where it was read: "MLflow" or the path of a run.json."""

    run_id: str
    name: str
    status: str
    live: bool
    tags: dict[str, str]
    inputs: tuple[tracking.DataInput, ...]
    stored: str
    record: dict[str, Any] | None = None  # run.json, where MLflow does not know the run

    @property
    def selected(self) -> tuple[str, str] | None:
        """Path and md5 of the training table."""
        return next(((i.path, i.digest) for i in self.inputs if i.name.startswith("selected") and i.digest), None)

    def brief(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "name": self.name, "status": self.status, "live": self.live}


def all_runs(root: Path) -> list[RunRecord]:
    """Every training run that left a trace, failed and replaced ones too, oldest first."""
    found = {
        view.run_id: RunRecord(view.run_id, view.name, view.status, view.live, view.tags, view.inputs, "MLflow")
        for view in tracking.find_runs(root, live=False)
        if "lineage_sha256" in view.tags
    }
    for path in sorted(root.glob("models/supcon/*/*/run.json")):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a torn file names no run
            run = _from_file(path.relative_to(root).as_posix(), json.loads(path.read_text()))
            found.setdefault(run.run_id, run)
    return list(found.values())


def _from_file(path: str, record: dict[str, Any]) -> RunRecord:
    inputs = tuple(tracking.DataInput(**item) for item in record["inputs"])
    name = f"{record['setup']}-seed{record['seed']}"
    return RunRecord(record["run_id"], name, "FINISHED", True, record["tags"], inputs, path, record)


def find_run(root: Path, name: str) -> RunRecord:
    """By run id, registry alias, or run name; from MLflow, else from the run.json files of the workspace."""
    runs = all_runs(root)
    try:
        run_id = tracking.get_run(root, name).run_id
    except UserError:
        run_id = name
    fitting = [run for run in runs if run.run_id == run_id] or [run for run in runs if run.live and run.name == name]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{len(fitting)} live runs are named {name}: " + ", ".join(run.run_id for run in fitting))
    known = ", ".join(sorted({run.name for run in runs if run.live})) or "none"
    raise UserError(
        f"no run, alias or run name {name!r} in {tracking.tracking_uri(root)}, nor in models/supcon/*/*/run.json "
        f"(live runs: {known})"
    )


def stage_graph(root: Path, run: RunRecord) -> dict[str, Any]:
    """The run's own stage graph, checked against the hash in its tags.

    Raises
    ------
    UserError
        where it is missing, altered, incomplete, or disagrees with itself.
    """
    if run.record is not None:
        graph = run.record["lineage"]
        data = (json.dumps(graph, indent=1, sort_keys=True) + "\n").encode()
    else:
        data = tracking.read_artifact(root, run.run_id, "lineage/stages.json") or b""
        if not data:
            raise UserError(f"run {run.run_id} has no artifact lineage/stages.json")
        graph = json.loads(data)
    if sha256_bytes(data) != run.tags.get("lineage_sha256"):
        raise UserError(f"run {run.run_id}: its stage graph was altered (sha256 differs from tag lineage_sha256)")
    if not run.tags.get("lineage", "").startswith(("complete", "of the inputs")):
        raise UserError(f"run {run.run_id} cannot be traced, its lineage is {run.tags.get('lineage')!r}")
    if graph["disagree"]:
        raise UserError(f"run {run.run_id}: dependencies and outputs disagree in its stage graph")
    return graph


def outputs(graph: dict[str, Any]) -> dict[str, str]:
    """Path -> md5 of every output in a run's stage graph."""
    outs = (out for stage in graph["stages"].values() for out in stage.get("outs", []))
    return {out["path"]: out["md5"] for out in outs if "md5" in out}


# --- versions of the data -------------------------------------------------------------------------------------------


class Version:
    """One state of the data: the workspace (``graph`` None), or what a run saw, read by hash."""

    def __init__(self, root: Path, objects: Objects | None = None, graph: dict[str, Any] | None = None) -> None:
        self.root, self._objects = root, objects
        self.outs = outputs(graph) if graph else None

    def md5(self, path: str) -> str | None:
        """Of a file of a run's version, found in its folder's listing."""
        for out, md5 in (self.outs or {}).items():
            if out == path:
                return md5
            if md5.endswith(".dir") and lineage.covers(out, path):
                return _listing(self._objects, md5).get(path[len(out) + 1 :])
        return None

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where this version has no such file."""
        if self.outs is None:
            try:
                return (self.root / path).read_bytes()  # DVC may have linked it to its cache
            except (FileNotFoundError, IsADirectoryError):
                return None
        md5 = self.md5(path)
        return None if md5 is None else _object(self._objects, md5)

    def sets(self) -> list[str]:
        if self.outs is not None:
            return sorted(path for path in self.outs if lineage.covers(AUGMENTED, path))
        folders = (self.root / AUGMENTED).glob("*/manifest.csv")
        return sorted(path.parent.relative_to(self.root).as_posix() for path in folders)

    def tables(self) -> list[str]:
        if self.outs is not None:
            return sorted(path for path in self.outs if lineage.covers(SELECTED, path))
        return sorted(path.relative_to(self.root).as_posix() for path in (self.root / SELECTED).glob("*.csv"))


@functools.lru_cache(maxsize=64)
def _object(objects: Objects, md5: str) -> bytes:
    objects.fetch([md5])
    return objects.read(md5)


@functools.lru_cache(maxsize=64)
def _listing(objects: Objects, md5: str) -> dict[str, str]:
    if not objects.path(md5).is_file():
        objects.fetch([md5])
    return objects.listing(md5)


def rows_with(data: bytes | None, kind: type[Record], needle: str, path: str) -> list[Any]:
    """The manifest's rows whose text holds ``needle``; only these are parsed, so 10,000 rows take milliseconds."""
    if data is None:
        return []
    text = data.decode()
    if needle not in text:
        return []
    head, _, body = text.partition("\n")
    lines = [line for line in body.splitlines() if needle in line]
    try:
        return [kind.model_validate(row) for row in csv.DictReader(io.StringIO("\n".join([head, *lines])))]
    except ValueError as error:
        raise UserError(f"{path} has a faulty row: {error}") from None


def _pictures(version: Version, what: str) -> list[tuple[str, Any]]:
    """(manifest, row) of every picture whose path or sha256 (or its beginning) is ``what``."""
    found: list[tuple[str, Any]] = []
    kinds: list[tuple[str, type[Record]]] = [(f"{REAL}/manifest.csv", RealRecord), (f"{OOD}/manifest.csv", RealRecord)]
    kinds += [(f"{folder}/manifest.csv", AugmentedRecord) for folder in version.sets()]
    for path, kind in kinds:
        for row in rows_with(version.read(path), kind, what, path):
            if row.path == what or (SHA.match(what) and row.sha256.startswith(what)):
                found.append((path, row))
    return found


@dataclass
class Found:
    version: Version
    label: str  # "workspace" or the run whose version it is
    manifest: str
    row: Any


def _find_picture(root: Path, objects: Objects, runs: list[RunRecord], what: str) -> Found:
    """A picture by path or sha256, in the workspace, else in what earlier runs were trained on."""
    wanted, on_disk = _wanted(root, what)
    for needle in wanted:
        rows = _pictures(workspace := Version(root), needle)
        if len({row.sha256 for _, row in rows}) > 1:
            named = ", ".join(row.path for _, row in rows)
            raise UserError(f"{what} fits several pictures: {named}")
        if rows:
            return Found(workspace, "workspace", *rows[0])
    for needle in wanted:
        for run, version in versions(root, objects, runs):
            if rows := _pictures(version, needle):
                return Found(version, f"run {run.run_id} ({run.name})", *rows[0])
    kind = f"the file {what}" if on_disk else repr(what)
    raise UserError(f"{kind} is in no manifest of the workspace, nor of any run's data: it cannot be traced")


def _wanted(root: Path, what: str) -> tuple[list[str], bool]:
    """What to look for: a repository path, a sha256, or (for a file from elsewhere) the sha256 of its bytes."""
    if SHA.match(what) and not Path(what).exists():
        return [what], False
    path = Path(what)
    name = path.as_posix()
    with contextlib.suppress(ValueError):
        name = Path(os.path.abspath(path)).relative_to(root).as_posix()
    for candidate in (path, root / name):
        if candidate.is_file():
            return [name, sha256_bytes(candidate.read_bytes())], True
    return [name], False


def versions(root: Path, objects: Objects, runs: list[RunRecord]) -> Iterator[tuple[RunRecord, Version]]:
    """Each distinct state of the data that a traceable run saw, the newest first."""
    seen: set[tuple[str, ...]] = set()
    for run in reversed(runs):
        data = tuple(sorted(f"{i.path} {i.digest}" for i in run.inputs))
        if data in seen or not run.selected:
            continue
        seen.add(data)
        with contextlib.suppress(UserError):  # of a run without lineage nothing can be said
            yield run, Version(root, objects, stage_graph(root, run))


# --- audit verify ---------------------------------------------------------------------------------------------------


def verify(root: Path) -> Result:
    """The workspace against its hashes, manifests and the leak rules."""
    counts, faults = verification.verify(root)
    return Result("verify", {"checked": counts}, faults)


# --- audit image ----------------------------------------------------------------------------------------------------


def image(root: Path, what: str, regenerate: bool = False) -> Result:
    """One picture's chain: photograph, set, prompt, token, seed, strength, base, verdict, and who trained on it.

    ``what`` is a path, or a sha256 (or its first eight digits and more). ``regenerate`` makes the picture again: the
    same bytes on the machine that made it, elsewhere a mean difference of at most 2/255.
    """
    root = root.resolve()
    with Objects(root) as objects:
        runs = all_runs(root)
        found = _find_picture(root, objects, runs, what)
        row, faults = found.row, []
        data: dict[str, Any] = {"picture": row.model_dump(mode="json"), "found_in": found.label}
        data["kind"] = "synthetic" if isinstance(row, AugmentedRecord) else "real"
        content = found.version.read(row.path)
        if content is None:
            faults.append(Fault(row.path, f"in {found.manifest} but missing"))
        elif sha256_bytes(content) != row.sha256:
            faults.append(Fault(row.path, f"altered: its sha256 is not the one in {found.manifest}"))
        if isinstance(row, AugmentedRecord):
            data |= _synthetic_chain(found, faults)
        else:
            data["photograph"] = {k: getattr(row, k) for k in ("source", "source_sha256", "box", "split", "group")}
        data["selected"] = _selected(found.version, row)
        data["runs"] = _trained_on(objects, runs, row.sha256, faults)
        if isinstance(row, RealRecord) and row.split == "val" and content is not None:
            data["runs"] += _watched(objects, runs, row.path, content, faults)
        if regenerate:
            data["regenerated"] = _regenerate(root, found, content, faults)
    return Result("image", data, faults)


def _synthetic_chain(found: Found, faults: list[Fault]) -> dict[str, Any]:
    row, version = found.row, found.version
    data: dict[str, Any] = {}
    parents = rows_with(version.read(f"{REAL}/manifest.csv"), RealRecord, row.source, f"{REAL}/manifest.csv")
    parent = next((p for p in parents if p.path == row.source), None)
    if parent is None:
        faults.append(Fault(row.path, f"its parent {row.source} is not in {REAL}/manifest.csv"))
    else:
        if parent.sha256 != row.source_sha256:
            faults.append(Fault(row.path, f"its parent {row.source} is another picture now (sha256)"))
        if parent.split != "train" or parent.role != "target":
            faults.append(Fault(row.path, f"its parent {row.source} is a {parent.split} image, not a training image"))
        data["photograph"] = {
            "framed": parent.path,
            **{k: getattr(parent, k) for k in ("sha256", "source", "source_sha256", "box", "split", "group")},
        }
    name = f"{TOKENS}/{row.class_name}.safetensors"
    token = version.read(name)
    if token is None or sha256_bytes(token) != row.token_sha256:
        state = "missing" if token is None else "another one now"
        faults.append(Fault(row.path, f"the token it was made with ({row.token_sha256}) is {state}: {name}"))
    else:
        meta = token_metadata(token, name)
        data["token"] = {
            "path": name,
            "sha256": row.token_sha256,
            **{key: value for key, value in meta.items() if key not in ("sources", "fingerprint")},
            "learned_from": [source for source, _ in meta["sources"]],
        }
    data["base"] = {"sha256": row.base_sha256}
    try:
        diffusion = _diffusion(version.root)
        data["base"]["model"], here = locate_base(diffusion.model, diffusion.revision, version.root)
        if here != row.base_sha256:
            faults.append(Fault(row.path, f"its base model {row.base_sha256} is not here: {diffusion.model} is {here}"))
    except UserError as error:
        faults.append(Fault(row.path, f"its base model {row.base_sha256} is not here: {error}"))
    table = f"data/quality/{row.set_name}.csv"
    verdicts = rows_with(version.read(table), VerdictRecord, row.sha256, table)
    if not verdicts:
        faults.append(Fault(row.path, f"has no verdict in {table}"))
    else:
        data["verdict"] = verdicts[0].model_dump(mode="json")
    return data


def _selected(version: Version, row: Any) -> list[dict[str, str]]:
    found = []
    for table in version.tables():
        for chosen in rows_with(version.read(table), SelectedRecord, row.sha256, table):
            found.append({"setup": Path(table).stem, "role": chosen.role, "origin": chosen.origin})
    return found


def _watched(
    objects: Objects, runs: list[RunRecord], path: str, content: bytes, faults: list[Fault]
) -> list[dict[str, Any]]:
    """Every run that had the picture among its validation images."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    found = []
    for run in runs:
        for item in run.inputs:
            if item.path == REAL and item.digest:
                try:
                    files = _listing(objects, item.digest)
                except UserError as error:
                    faults.append(Fault(run.run_id, f"the images of run {run.name} cannot be listed: {error}"))
                    continue
                if files.get(path[len(REAL) + 1 :]) == md5:
                    found.append(run.brief() | {"role": "validation"})
    return found


def _trained_on(
    objects: Objects, runs: list[RunRecord], sha256: str, faults: list[Fault]
) -> list[dict[str, Any]]:
    """Every run whose training table holds the picture."""
    return [
        run.brief() | {"role": row["role"]}
        for run in runs
        for row in _table(objects, run, faults)
        if row["sha256"] == sha256
    ]


def _table_bytes(objects: Objects, run: RunRecord) -> bytes:
    """A run's training table: DVC's, or of a study's trial with a band of its own the run's artifact."""
    path, md5 = run.selected
    if not path.startswith("lineage/"):
        return _object(objects, md5)
    data = tracking.read_artifact(objects.root, run.run_id, path)
    if data is None or hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"artifact {path} of run {run.run_id} is missing or altered")
    return data


@functools.lru_cache(maxsize=16)
def _parsed(table: bytes) -> tuple[dict[str, str], ...]:
    """All rows as text: runs share tables, and a check of types is not what is asked here.

    Raises
    ------
    ValueError
        where it is no training table.
    """
    reader = csv.DictReader(io.StringIO(table.decode()))
    if lacking := {"path", "sha256", "class_name", "role", "origin"} - set(reader.fieldnames or ()):
        raise ValueError(f"it has no column {', '.join(sorted(lacking))}")
    return tuple(reader)


def _table(objects: Objects, run: RunRecord, faults: list[Fault]) -> tuple[dict[str, str], ...]:
    """A run's training pictures; a table that cannot be read is a fault, not an empty one."""
    if run.selected is None:
        if run.status == "FINISHED":
            faults.append(Fault(run.run_id, f"run {run.name} names no training table: nobody can tell what it saw"))
        return ()
    try:
        return _parsed(_table_bytes(objects, run))
    except (UserError, ValueError) as error:
        faults.append(Fault(run.run_id, f"the training table of run {run.name} cannot be read: {error}"))
        return ()


def _regenerate(root: Path, found: Found, content: bytes | None, faults: list[Fault]) -> dict[str, Any]:
    """Make the picture again with the generate stage's own function, and compare."""
    import numpy as np

    from partsynth.records import png_bytes
    from partsynth.steps import generate

    row = found.row
    if not isinstance(row, AugmentedRecord):
        raise UserError(f"{row.path} is a photograph: only synthetic pictures can be made again")
    if content is None:
        raise UserError(f"{row.path} is missing: there is nothing to compare with")
    diffusion = _diffusion(root)
    with tempfile.TemporaryDirectory() as folder:
        base = root
        if found.version.outs is not None:  # what that run saw, written out; the base model stays where it is
            base = Path(folder)
            _write_out(found.version, row, base)
            model, _ = locate_base(diffusion.model, diffusion.revision, root)
            diffusion = diffusion.model_copy(update={"model": str(Path(model).absolute()) if Path(model).exists() else model})
        try:
            picture = generate.regenerate(row, diffusion, base / REAL, base / TOKENS, base)
        except UserError as error:
            faults.append(Fault(row.path, f"cannot be made again: {error}"))
            return {"made": False}
    same = png_bytes(picture, row.fingerprint) == content
    before = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.float64)
    after = np.asarray(picture.convert("RGB"), dtype=np.float64)
    if before.shape != after.shape:
        faults.append(Fault(row.path, f"made again it has another size: {after.shape[:2]}, not {before.shape[:2]}"))
        return {"made": True, "same_bytes": False}
    difference = float(np.abs(before - after).mean())
    if difference > TOLERANCE:
        faults.append(Fault(row.path, f"made again it differs by {difference:.2f}/255 on average, over {TOLERANCE}/255"))
    return {"made": True, "same_bytes": same, "mean_difference_of_255": round(difference, 4), "allowed": TOLERANCE}


def _diffusion(root: Path) -> Any:
    from partsynth import params

    return params.load("diffusion", root / "params.yaml")


def _write_out(version: Version, row: AugmentedRecord, folder: Path) -> None:
    """The manifest, source, mask and token of one picture, as they were in an earlier version of the data."""
    manifest = f"{REAL}/manifest.csv"
    parents = rows_with(version.read(manifest), RealRecord, row.source, manifest)
    masks = [parent.mask for parent in parents if parent.path == row.source and parent.mask]
    for path in (manifest, row.source, f"{TOKENS}/{row.class_name}.safetensors", *masks):
        if (data := version.read(path)) is None:
            raise UserError(f"{path} is not in that version of the data")
        write_bytes_atomic(inside(folder, path), data)


# --- audit source ---------------------------------------------------------------------------------------------------


def source(root: Path, what: str) -> Result:
    """Everything derived from one photograph, now and in every run's data, and the runs affected: for a takedown.

    ``what`` names the framed picture or the original photograph, by path or sha256.
    """
    root = root.resolve()
    with Objects(root) as objects:
        faults: list[Fault] = []
        runs = all_runs(root)
        wanted, _ = _wanted(root, what)
        states: list[tuple[RunRecord | None, Version]] = [(None, Version(root)), *versions(root, objects, runs)]
        photographs: dict[str, RealRecord] = {}
        for run, version in states:
            for row in _photographs(version, wanted):
                photographs.setdefault(row.source_sha256, row)
            if photographs and run is None:
                break  # in the workspace: an older meaning of the same path is another photograph
        if not photographs:
            raise UserError(f"{what!r} is no photograph in any manifest of the workspace, nor of any run's data")
        if len(photographs) > 1:
            raise UserError(f"{what!r} fits several photographs: " + ", ".join(r.source for r in photographs.values()))
        (photo_sha, photo), = photographs.items()
        derived = _Derived(photo_sha)
        for run, version in states:
            try:
                derived.collect(version, None if run is None else run)
            except UserError as error:
                faults.append(Fault(run.run_id if run else "workspace", str(error)))
        affected = [entry for run in runs if (entry := derived.affected(root, objects, run, faults))]
        registered = tracking.model_versions(root)
        for entry in affected:
            entry["registered"] = [
                f"{v['model']} v{v['version']}" + "".join(f" @{alias}" for alias in v["aliases"])
                for v in registered
                if v["run_id"] == entry["run_id"]
            ]
    data = {
        "photograph": {"source": photo.source, "source_sha256": photo_sha, "class_name": photo.class_name},
        "framed": sorted(derived.framed.values(), key=lambda item: item["path"]),
        "synthetic": sorted(derived.synthetic.values(), key=lambda item: (item["path"], item["sha256"])),
        "tokens": sorted(derived.tokens.values(), key=lambda item: (item["path"], item["sha256"])),
        "runs": affected,
    }
    return Result("source", data, faults)


def _photographs(version: Version, wanted: list[str]) -> list[RealRecord]:
    found = []
    for folder in (REAL, OOD):
        path = f"{folder}/manifest.csv"
        for needle in wanted:
            for row in rows_with(version.read(path), RealRecord, needle, path):
                is_sha = bool(SHA.match(needle))
                if needle in (row.path, row.source) or (
                    is_sha and (row.sha256.startswith(needle) or row.source_sha256.startswith(needle))
                ):
                    found.append(row)
    return found


class _Derived:
    """What came of one photograph, gathered over versions of the data."""

    def __init__(self, photo_sha: str) -> None:
        self.photo = photo_sha
        self.framed: dict[str, dict[str, Any]] = {}  # by sha256
        self.synthetic: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}

    def collect(self, version: Version, run: RunRecord | None) -> None:
        current = run is None
        for folder in (REAL, OOD):
            manifest = f"{folder}/manifest.csv"
            for row in rows_with(version.read(manifest), RealRecord, self.photo, manifest):
                entry = {"path": row.path, "sha256": row.sha256, "split": row.split, "role": row.role}
                if row.mask:
                    entry["mask"] = row.mask
                self.framed.setdefault(row.sha256, entry | {"in_workspace": current})
        for folder in version.sets():
            manifest = f"{folder}/manifest.csv"
            data = version.read(manifest)
            for sha in list(self.framed):
                for row in rows_with(data, AugmentedRecord, sha, manifest):
                    if row.source_sha256 == sha:
                        entry = {"path": row.path, "sha256": row.sha256, "set": row.set_name}
                        self.synthetic.setdefault(row.sha256, entry | {"in_workspace": current})
        for name in sorted({Path(e["path"]).parent.name for e in self.framed.values()}):
            path = f"{TOKENS}/{name}.safetensors"
            if (data := version.read(path)) is None:
                continue
            if {sha for _, sha in token_metadata(data, path)["sources"]} & self.framed.keys():
                sha = sha256_bytes(data)
                self.tokens.setdefault(sha, {"path": path, "sha256": sha, "in_workspace": current})

    def affected(
        self, root: Path, objects: Objects, run: RunRecord, faults: list[Fault]
    ) -> dict[str, Any] | None:
        """How a run used the photograph: itself, pictures made from it, or pictures made with a token it taught."""
        rows = _table(objects, run, faults)
        itself = sum(row["sha256"] in self.framed for row in rows)
        from_it = sum(row["sha256"] in self.synthetic for row in rows)
        classes = {Path(token["path"]).stem for token in self.tokens.values()}
        through = 0
        if any(row["origin"] != "real" and row["class_name"] in classes for row in rows):
            try:
                version = Version(root, objects, stage_graph(root, run))
                taught = set()
                for name in classes:
                    data = version.read(f"{TOKENS}/{name}.safetensors")
                    if data is not None and sha256_bytes(data) in self.tokens:
                        taught.add(name)
                through = sum(row["origin"] != "real" and row["class_name"] in taught for row in rows)
            except UserError as error:
                faults.append(Fault(run.run_id, str(error)))
        watched = 0
        real = next((i for i in run.inputs if i.path == REAL and i.digest), None)
        if real is not None and any(entry["split"] == "val" for entry in self.framed.values()):
            try:
                manifest = _object(objects, _listing(objects, real.digest)["manifest.csv"])
                rows_of_photo = rows_with(manifest, RealRecord, self.photo, f"{REAL}/manifest.csv")
                watched = sum(row.split == "val" for row in rows_of_photo)
            except (UserError, KeyError) as error:
                faults.append(Fault(run.run_id, f"the validation images of run {run.name} cannot be read: {error}"))
        if not (itself or from_it or through or watched):
            return None
        return run.brief() | {
            "trained_on_it": itself,
            "trained_on_pictures_made_from_it": from_it,
            "trained_on_pictures_of_a_token_it_taught": through,
            "watched_it_as_validation": watched,
        }


# --- audit run ------------------------------------------------------------------------------------------------------


def run(root: Path, name: str, out: Path) -> Result:
    """Check out exactly one run's data, tokens and parameters by hash, and verify every file.

    ``out`` appears only when all of it was found and verified.

    Raises
    ------
    UserError
        where there is no such run, it has no sound stage graph, or ``out`` is not empty.
    """
    root, out = root.resolve(), out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: name a new folder")
    chosen = find_run(root, name)
    graph = stage_graph(root, chosen)
    outs = outputs(graph)
    faults: list[Fault] = []
    for item in chosen.inputs:
        if item.path in outs and outs[item.path] != item.digest:
            faults.append(Fault(item.path, f"MLflow names digest {item.digest}, the stage graph {outs[item.path]}"))
    if chosen.selected is None:
        faults.append(Fault(chosen.run_id, "the run names no training table"))
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    restored: dict[str, dict[str, Any]] = {}
    try:
        with Objects(root) as objects:
            objects.fetch(outs.values())
            for path, md5 in sorted(outs.items()):
                try:
                    files, found = _restore(root, objects, chosen, path, md5, partial)
                    restored[path] = {"md5": md5, "files": len(files), "from": found}
                except UserError as error:
                    faults += [Fault(path, line) for line in str(error).splitlines()]
            if chosen.selected and chosen.selected[0] not in outs:
                try:
                    write_bytes_atomic(inside(partial, chosen.selected[0]), _table_bytes(objects, chosen))
                except UserError as error:
                    faults.append(Fault(chosen.selected[0], str(error)))
        _write_papers(root, chosen, graph, partial, faults)
        if not faults:
            faults += _verify_checkout(partial, graph, chosen)
        if faults:
            return Result("run", {"run": _facts(chosen), "checked_out": None, "outputs": restored}, faults)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    outside = _outside(root, chosen, graph, outs)
    data = {"run": _facts(chosen), "checked_out": str(out), "outputs": restored, "not_checked_out": outside}
    return Result("run", data)


def _facts(chosen: RunRecord) -> dict[str, Any]:
    wanted = ("setup", "seed", "stage", "fingerprint", "git_commit", "git_dirty", "base_sha256", "lock_sha256", "device")
    return chosen.brief() | {"stored": chosen.stored} | {k: chosen.tags[k] for k in wanted if k in chosen.tags}


def _restore(
    root: Path, objects: Objects, chosen: RunRecord, path: str, md5: str, folder: Path
) -> tuple[dict[str, str], str]:
    """Write one output; one that DVC does not cache (the base model) comes from the workspace or git, by its hash."""
    target = inside(folder, path)
    if objects.path(md5).is_file():
        return objects.restore(md5, target), "cache"
    if path_md5(root / path) == md5:
        if (root / path).is_dir():
            shutil.copytree(root / path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            write_bytes_atomic(target, (root / path).read_bytes())
        found = "workspace"
    else:
        for name, data in _from_git(root, chosen.tags.get("git_commit", ""), path).items():
            write_bytes_atomic(target / name if name else target, data)
        found = "git"
    if path_md5(target) != md5:
        shutil.rmtree(target, ignore_errors=True)
        raise UserError(f"{md5} is in neither cache nor remotes ({', '.join(objects.remotes) or 'none configured'}), "
                        "nor in the workspace or the run's commit")  # fmt: skip
    if target.is_dir():
        return {p.relative_to(target).as_posix(): "" for p in target.rglob("*") if p.is_file()}, found
    return {target.name: md5}, found


def _from_git(root: Path, commit: str, path: str) -> dict[str, bytes]:
    """Relative path -> bytes of a file or folder of a commit; empty where it has none."""
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        return {}
    archive = lineage.git(root, "archive", "--format=tar", commit, "--", path)
    if archive is None:
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {m.name[len(path) + 1 :]: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}


def _write_papers(root: Path, chosen: RunRecord, graph: dict[str, Any], folder: Path, faults: list[Fault]) -> None:
    """params.yaml, dvc.yaml and the uncommitted patch as they were, each checked against the stage graph."""
    for name, sha256 in graph.get("files", {}).items():
        if chosen.record is not None:
            text = chosen.record.get("files", {}).get(name)
            data = None if text is None else text.encode()
            if data is None and name not in ("params.yaml", "dvc.yaml"):
                continue  # run.json keeps these two alone
        else:
            data = tracking.read_artifact(root, chosen.run_id, f"lineage/{name}")
        if data is None:
            faults.append(Fault(name, f"missing from the lineage of run {chosen.run_id}"))
        elif sha256_bytes(data) != sha256:
            faults.append(Fault(name, f"the copy kept with run {chosen.run_id} was altered"))
        elif name != lineage.LOCK:  # it names later stages too: the graph is what counts
            write_bytes_atomic(folder / name, data)
    write_json(folder / "lineage.json", {"run": _facts(chosen), "graph": graph})


def _verify_checkout(folder: Path, graph: dict[str, Any], chosen: RunRecord) -> list[Fault]:
    """Dependencies inside restored outputs by md5; pictures against manifests by sha256; the leak rules."""
    faults: list[Fault] = []
    outs = outputs(graph)
    for name, stage in graph["stages"].items():
        for dep in stage.get("deps", []):
            if any(lineage.covers(out, dep["path"]) for out in outs) and path_md5(folder / dep["path"]) != dep["md5"]:
                faults.append(Fault(dep["path"], f"{name} used md5 {dep['md5']}: the outputs hold another version"))
    _, leaks = verification.check_manifests(folder, graph["stages"])
    faults += leaks
    table = folder / chosen.selected[0]
    if not table.is_file():
        return [*faults, Fault(chosen.selected[0], "the run's training table is not among the outputs")]
    for row in read_manifest(table, SelectedRecord):
        path = inside(folder, row.path)
        if not path.is_file() or sha256_file(path) != row.sha256:
            faults.append(Fault(row.path, f"the run trained on sha256 {row.sha256}, which was not checked out"))
    return faults


def _outside(root: Path, chosen: RunRecord, graph: dict[str, Any], outs: dict[str, str]) -> list[dict[str, str]]:
    """Dependencies that no stage made (code, photographs from elsewhere): whether the workspace still has them."""
    deps = {
        dep["path"]: dep["md5"]
        for stage in graph["stages"].values()
        for dep in stage.get("deps", [])
        if not any(lineage.covers(out, dep["path"]) or lineage.covers(dep["path"], out) for out in outs)
    }
    states = []
    for path, md5 in sorted(deps.items()):
        now = path_md5(root / path)
        state = "missing" if now is None else "the same" if now == md5 else "another version"
        entry = {"path": path, "md5": md5, "workspace": state}
        if state != "the same":
            files = {
                name: hashlib.md5(data, usedforsecurity=False).hexdigest()
                for name, data in _from_git(root, chosen.tags.get("git_commit", ""), path).items()
            }
            in_git = files.get("") if "" in files else listing_md5(files)
            entry["commit"] = "the same" if in_git == md5 else "not in the run's commit"
        states.append(entry)
    return states


# --- audit diff -----------------------------------------------------------------------------------------------------


def diff(root: Path, first: str, second: str) -> Result:
    """What differs between two runs: data (picture by picture), parameters, code."""
    root = root.resolve()
    a, b = find_run(root, first), find_run(root, second)
    graph_a, graph_b = stage_graph(root, a), stage_graph(root, b)
    faults: list[Fault] = []
    with Objects(root) as objects:
        data = {
            "runs": [_facts(a), _facts(b)],
            "training_pictures": _diff_tables(objects, a, b, faults),
            "files": _diff_outputs(root, objects, [(a, outputs(graph_a)), (b, outputs(graph_b))], faults),
            "parameters": _diff_values(_parameters(graph_a), _parameters(graph_b)),
            "code": _diff_code(root, a, b, graph_a, graph_b),
        }
    return Result("diff", data, faults)


def _diff_tables(objects: Objects, a: RunRecord, b: RunRecord, faults: list[Fault]) -> dict[str, Any]:
    tables: list[dict[str, dict[str, str]]] = [{}, {}]  # path -> role -> sha256
    for table, chosen in zip(tables, (a, b), strict=True):
        for row in _table(objects, chosen, faults):
            table.setdefault(row["path"], {})[row["role"]] = row["sha256"]
    one, two = tables
    both = one.keys() & two.keys()
    return {
        "first": sum(map(len, one.values())),
        "second": sum(map(len, two.values())),
        "only_in_first": sorted(one.keys() - two.keys()),
        "only_in_second": sorted(two.keys() - one.keys()),
        "changed": sorted(path for path in both if {*one[path].values()} != {*two[path].values()}),
        "other_role": sorted(path for path in both if one[path].keys() != two[path].keys()),
    }


def _diff_outputs(
    root: Path, objects: Objects, runs: list[tuple[RunRecord, dict[str, str]]], faults: list[Fault]
) -> dict[str, dict[str, list[str]]]:
    """Output -> files added, removed and changed from the first run to the second; equal outputs are left out."""
    found = {}
    (_, one), (_, two) = runs
    for path in sorted(one.keys() | two.keys()):
        if one.get(path) == two.get(path):
            continue
        try:
            left, right = (_files(root, objects, chosen, path, outs.get(path)) for chosen, outs in runs)
        except UserError as error:
            faults.append(Fault(path, f"cannot be compared file by file: {error}"))
            continue
        found[path] = {
            "removed": sorted(left.keys() - right.keys()),
            "added": sorted(right.keys() - left.keys()),
            "changed": sorted(name for name in left.keys() & right.keys() if left[name] != right[name]),
        }
    return found


def _files(root: Path, objects: Objects, chosen: RunRecord, path: str, md5: str | None) -> dict[str, str]:
    """Relative path -> md5 of an output; one that DVC does not cache is looked for in the workspace and in git."""
    name = path.rpartition("/")[2]
    if md5 is None:
        return {}
    if not md5.endswith(".dir"):
        return {name: md5}
    if not objects.path(md5).is_file():
        if path_md5(root / path) == md5:
            return folder_files(root / path)
        files = {
            inner: hashlib.md5(data, usedforsecurity=False).hexdigest()
            for inner, data in _from_git(root, chosen.tags.get("git_commit", ""), path).items()
        }
        if listing_md5(files) == md5:
            return files
    return _listing(objects, md5)


def _parameters(graph: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value over all stages; a train stage's own name does not matter."""
    flat: dict[str, Any] = {}

    def walk(key: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(f"{key}.{name}", inner)
        else:
            flat[key] = value

    for stage in graph["stages"].values():
        for params in stage.get("params", {}).values():
            for key, value in params.items():
                walk(key, value)
    return flat


def _diff_values(one: dict[str, Any], two: dict[str, Any]) -> dict[str, dict[str, Any]]:
    absent = "(not used)"
    keys = sorted(one.keys() | two.keys())
    pairs = {key: {"first": one.get(key, absent), "second": two.get(key, absent)} for key in keys}
    return {key: pair for key, pair in pairs.items() if pair["first"] != pair["second"]}


def _diff_code(
    root: Path, a: RunRecord, b: RunRecord, graph_a: dict[str, Any], graph_b: dict[str, Any]
) -> dict[str, Any]:
    tags = ("git_commit", "git_dirty", "code_sha256", "partsynth_version", "lock_sha256", "base_sha256", "device")
    sides = []
    for chosen, graph in ((a, graph_a), (b, graph_b)):
        patch = graph.get("files", {}).get("uncommitted.patch", "none")
        sides.append({tag: chosen.tags.get(tag, "unknown") for tag in tags} | {"uncommitted_changes_sha256": patch})
    found: dict[str, Any] = _diff_values(*sides)
    deps = []
    for graph in (graph_a, graph_b):
        outs = outputs(graph)
        deps.append({
            dep["path"]: dep["md5"]
            for stage in graph["stages"].values()
            for dep in stage.get("deps", [])
            if not any(lineage.covers(out, dep["path"]) for out in outs)
        })  # fmt: skip
    commits = [run.tags.get("git_commit", "") for run in (a, b)]
    if commits[0] != commits[1]:
        named = lineage.git(root, "diff", "--name-only", "--relative", *commits, "--")
        found["files changed between the commits"] = "unknown: git lacks a commit" if named is None else (
            named.decode().splitlines())  # fmt: skip
    found["dependencies changed"] = sorted(path for path in deps[0].keys() & deps[1].keys() if deps[0][path] != deps[1][path])
    return found


# --- audit push -----------------------------------------------------------------------------------------------------


def push(root: Path, remote: str | None = None) -> Result:
    """Send what every live run's stage graph refers to; `dvc push` alone knows the present dvc.lock only."""
    root = root.resolve()
    faults: list[Fault] = []
    sent: dict[str, int] = {}
    with Objects(root) as objects:
        uncached = {path for stage in objects.pipeline().values() for path in stage["uncached"]}
        wanted: dict[str, str] = {}
        live = [run for run in all_runs(root) if run.live]
        for item in live:
            try:
                wanted |= {md5: path for path, md5 in outputs(stage_graph(root, item)).items() if path not in uncached}
            except UserError as error:
                faults.append(Fault(item.run_id, str(error)))
        objects.fetch(wanted)
        for md5, path in sorted(wanted.items(), key=lambda pair: pair[1]):
            try:
                sent[path] = sent.get(path, 0) + objects.push([md5], remote)
            except UserError as error:
                faults.append(Fault(path, str(error)))
    return Result("push", {"runs": len(live), "objects": len(wanted), "sent": sum(sent.values())}, faults)


# --- showing --------------------------------------------------------------------------------------------------------


def present(result: Result, as_json: bool = False) -> int:
    """Print a result for people or as JSON; returns the exit code."""
    if as_json:
        print(json.dumps(result.as_json(), indent=1, sort_keys=True))
        return result.exit_code
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)  # hashes must not be cut at the terminal's edge
    console.print(f"[bold]audit {result.command}[/bold]")
    for line in _lines(result.data, 1):
        console.print(line)
    if result.faults:
        console.print(f"[bold red]{len(result.faults)} fault(s)[/bold red]")
        for fault in result.faults:
            console.print(f"  [red]{escape(fault.path)}[/red]: {escape(fault.message)}")
    else:
        console.print("[green]everything found and verified[/green]")
    return result.exit_code


def _lines(value: dict[str, Any], depth: int) -> Iterator[str]:
    from rich.markup import escape

    indent = "  " * depth
    for key, inner in value.items():
        label = escape(key if "/" in key or "." in key else key.replace("_", " "))
        if isinstance(inner, dict) and inner.keys() == {"first", "second"}:
            yield f"{indent}{label}: {escape(str(inner['first']))} -> {escape(str(inner['second']))}"
        elif isinstance(inner, dict) and inner:
            yield f"{indent}[bold]{label}[/bold]"
            yield from _lines(inner, depth + 1)
        elif isinstance(inner, list):
            yield f"{indent}[bold]{label}[/bold] ({len(inner)})"
            for item in inner[:SHOWN]:
                is_row = isinstance(item, dict)
                text = ", ".join(f"{k} {v}" for k, v in item.items() if v not in ("", [])) if is_row else str(item)
                yield f"{indent}  {escape(text)}"
            if len(inner) > SHOWN:
                yield f"{indent}  ... and {len(inner) - SHOWN} more (--json lists all)"
        else:
            yield f"{indent}{label}: {escape(str(inner) if inner not in ({}, None) else 'none')}"
