"""What travels between stages: records, their manifests, and files that say what they are.

Every product (PNG, safetensors) carries the fingerprint of what made it *inside* itself, so a restarted stage keeps
what is current and remakes the rest; a manifest is written last, so that its existence means completion.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

FINGERPRINT_KEY = "partsynth"
MODEL_SUFFIXES = {".json", ".txt", ".safetensors"}


class UserError(Exception):
    """A fault the user can mend; the command line prints its text alone, without a traceback."""


# --- identity -----------------------------------------------------------------------------------------------------


def fingerprint(value: Any) -> str:
    """Hex sha256 of the canonical JSON of ``value`` (keys sorted; pydantic models by their fields)."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def seed_from(*identity: Any) -> int:
    """A seed in [0, 2**63) derived from an identity: the same names give the same seed on every machine."""
    return int.from_bytes(hashlib.sha256(_canonical(list(identity))).digest()[:8], "big") >> 1


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no canonical form")


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> str:
    """Hash of a folder: the sorted relative names and the content of every file below it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return fingerprint([[p.relative_to(folder).as_posix(), sha256_file(p)] for p in files])


# --- files --------------------------------------------------------------------------------------------------------


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write through a temporary file beside ``path``: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text_atomic(path: Path, text: str) -> None:
    write_bytes_atomic(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text_atomic(path, json.dumps(value, indent=1, sort_keys=True, default=_plain, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the stage that writes it (dvc repro)") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def write_safetensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """Write torch tensors atomically with sorted metadata; returns the file's sha256.

    The library writes metadata in another order in every process; here the same content is the same bytes.
    """
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8:end])}).encode()
    header += b" " * (-len(header) % 8)
    data = len(header).to_bytes(8, "little") + header + data[end:]
    write_bytes_atomic(path, data)
    return sha256_bytes(data)


def safetensors_metadata(path: Path) -> dict[str, str] | None:
    """The metadata of a whole, readable safetensors file; None where it is missing or torn."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return None


def locate_base(model: str, revision: str | None, root: Path) -> tuple[str, str]:
    """Where the base model is loaded from (a folder's path or a hub id), and its identity.

    A folder's identity is the hash of what a pipeline loads: model_index.json and the configurations, vocabularies
    and safetensors weights of the parts it names. A model card or a reference encoder beside them changes nothing.
    A hub id's identity is ``id@revision``.

    Raises
    ------
    UserError
        where ``model`` is neither a folder in diffusers' format nor the shape of a hub id.
    """
    folder = Path(root) / model
    if not folder.exists():
        first, _, rest = model.partition("/")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or (Path(root) / first).exists() or not rest:
            raise UserError(
                f"diffusion.model: {folder} does not exist (a folder in diffusers' format, relative to {root} or "
                "absolute, or a hub id such as owner/name)"
            )
        return model, f"{model}@{revision or 'main'}"
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(f"diffusion.model: {folder} has no model_index.json, so it is no pipeline in diffusers' format")
    loaded = read_json(index)
    parts = [k for k in ("scheduler", "text_encoder", "tokenizer", "unet", "vae") if k in loaded]
    files = [index, *(p for part in parts for p in (folder / part).rglob("*") if p.suffix in MODEL_SUFFIXES)]
    return str(folder), fingerprint([[p.relative_to(folder).as_posix(), sha256_file(p)] for p in sorted(files)])


def png_bytes(image: Image.Image | np.ndarray, mark: str | None = None) -> bytes:
    """PNG of a PIL picture or a uint8 array (H, W) or (H, W, 3), carrying ``mark`` as a text chunk."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    info = PngImagePlugin.PngInfo()
    if mark is not None:
        info.add_text(FINGERPRINT_KEY, mark)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info, compress_level=6)
    return buffer.getvalue()


def write_png(path: Path, image: Image.Image | np.ndarray, mark: str | None = None) -> str:
    """Write a PNG atomically with its fingerprint inside; returns the file's sha256."""
    data = png_bytes(image, mark)
    write_bytes_atomic(path, data)
    return sha256_bytes(data)


def png_fingerprint(path: Path) -> str | None:
    """The fingerprint inside a whole, readable PNG; None where the file is missing, torn or unmarked."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.info.get(FINGERPRINT_KEY)
    except (OSError, SyntaxError, ValueError):
        return None


def prune(folder: Path, wanted: Iterable[Path]) -> list[Path]:
    """Delete the files below ``folder`` that are not ``wanted``, then empty folders; returns what went."""
    keep = {Path(p).absolute() for p in wanted}
    gone = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.absolute() not in keep]
    for path in gone:
        path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return gone


def inside(root: Path, name: str) -> Path:
    """``root / name``, refused where the name from a manifest would leave the folder."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not name:
        raise UserError(f"{name!r} is not a relative path below {root}")
    path = root / pure
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{name!r} leaves the folder {root}")
    return path


# --- records ------------------------------------------------------------------------------------------------------


class Record(BaseModel):
    """One row of a manifest. Paths are relative to the repository root (the folder that holds dvc.yaml), with slashes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    class_name: str

    @property
    def key(self) -> tuple[str, ...]:
        """What a manifest holds once."""
        return (self.path,)

    @field_validator("path")
    @classmethod
    def _relative(cls, value: str) -> str:
        pure = PurePosixPath(value)
        if pure.is_absolute() or ".." in pure.parts or not value:
            raise ValueError(f"{value!r} is not a path below its manifest")
        return value


class RealRecord(Record):
    """A framed real photograph (data/real, data/ood). Paths are relative to the repository's root."""

    split: str  # train | val | test | shifted
    role: str = "target"  # target | near_ood | far_ood
    group: str  # pictures of one physical part or spot; never in two splits
    state: str = ""  # wear word where the source knows it
    camera: str = ""
    mask: str = ""  # path of the framed mask, empty where there is none
    source: str  # the original photograph, relative to the source folder
    source_sha256: str
    box: str = ""  # ROI crop in the original's pixels: "left,top,right,bottom"


class AugmentedRecord(Record):
    """One SDEdit picture: everything needed to make it again."""

    set_name: str
    source: str  # path of the real training picture, relative to the repository's root
    source_sha256: str
    source_group: str
    variant: int
    prompt: str
    state: str
    seed: int
    strength: float
    guidance: float
    steps: int
    token_noise: float
    masked: bool
    restore: float = 0.0  # share of the source's detail, lost in the VAE, that was put back
    size: int
    token_sha256: str
    base_sha256: str
    batch_size: int = 32  # of the fixed-shape batch it was made in: another shape rounds differently
    dtype: str = "float32"  # the U-Net's
    fingerprint: str


class VerdictRecord(Record):
    """What the quality stage says of one picture (data/quality/<set>.csv)."""

    set_name: str
    source: str = ""
    drift: float  # class-standardised distance from the real parts of its class, own source's group left out
    percentile: float  # conformal (r + 1) / (n + 1) of drift among real validation pictures, in (0, 1]
    calibration_n: int
    nearest_class: str
    class_margin: float  # distance to the nearest other class less that to its own; > 0 where its own is nearest
    sharpness: float
    brightness: float
    contrast: float
    copy_similarity: float  # to its own source, in [-1, 1]; 1 = a copy
    verdict: str  # accept | warn | drop
    reasons: str  # semicolon-separated names of the failed checks, empty where none failed


class SelectedRecord(Record):
    """One training picture of one setup (data/selected/<setup>.csv). Paths are relative to the repository's root."""

    role: str  # positive | negative
    origin: str  # "real" or the augmentation set's name
    source: str  # the real training picture it goes back to (itself for a real one)
    group: str
    state: str = ""
    percentile: float = float("nan")
    rule: str = ""  # of section select, that took it

    @property
    def key(self) -> tuple[str, ...]:
        """A real picture may be a positive of its class and a negative of the others."""
        return (self.path, self.role)


class Probe(BaseModel):
    """Edits of a class's probe pictures at one strength."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float
    drift: float  # the pictures' median, in class standard deviations
    in_band: float  # share of the pictures inside the set's target


class ClassStrength(BaseModel):
    """How strongly one class's pictures are edited, and how that was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float | list[float]
    trail: list[Probe] = []  # of the bisection, in its order


class Strengths(BaseModel):
    """What the calibrate stage writes (data/strengths/<set>.json); the fields in the middle for strength: auto alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set_name: str
    calibration_n: int | None = None  # real validation pictures behind the percentiles
    near: float | None = None  # drift at which the target begins, in class standard deviations
    far: float | None = None  # drift at which it ends, for the search
    aim: float | None = None  # the median drift that was searched for: the middle
    classes: dict[str, ClassStrength]


def read_strengths(path: Path) -> Strengths:
    try:
        return Strengths.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path} holds no strengths ({error.errors()[0]['msg']}): dvc repro calibrate") from None


R = TypeVar("R", bound=Record)


def write_manifest(path: Path, rows: Sequence[Record], kind: type[Record]) -> None:
    """Write rows as CSV, sorted by path (and role), atomically. An empty list leaves a file with its header alone."""
    rows = sorted(rows, key=lambda r: r.key)
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        if row.key in seen:
            raise ValueError(f"{path}: two rows for {row.path}")
        seen.add(row.key)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(kind.model_fields), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: repr(v) if isinstance(v, float) else v for k, v in row.model_dump().items()})
    write_text_atomic(path, buffer.getvalue())


def read_manifest(path: Path, kind: type[R]) -> list[R]:
    """Read and check a manifest.

    Raises
    ------
    UserError
        naming the file, the line and the column of every fault (the first ten are listed).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the stage that writes it (dvc repro)") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no table (CSV in UTF-8): {error}") from None
    reader = csv.DictReader(io.StringIO(text))
    missing = [f for f, info in kind.model_fields.items() if info.is_required() and f not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{path}: missing columns {', '.join(missing)}")
    rows, faults = [], []
    for row in reader:
        try:
            rows.append(kind.model_validate(row))
        except ValidationError as error:
            faults += [f"line {reader.line_num}, {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    if faults:
        more = f"\n  ... and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise UserError(f"{path} has faulty rows:\n  " + "\n  ".join(faults[:10]) + more)
    return rows


def read_picture(root: Path, record: Record, size: int | None = None) -> Image.Image:
    """The record's picture as RGB, its bytes checked against the record's sha256.

    Raises
    ------
    UserError
        where the file is missing, altered, or not ``size`` pixels square.
    """
    path = inside(root, record.path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is in the manifest but missing: dvc checkout, or dvc repro") from None
    if sha256_bytes(data) != record.sha256:
        raise UserError(f"{path} differs from its manifest (sha256): dvc checkout restores it")
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if size is not None and image.size != (size, size):
        raise UserError(f"{path} is {image.width} x {image.height} pixels, expected {size} x {size}")
    return image
