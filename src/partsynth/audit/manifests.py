"""Manifests, verdicts and training tables against the files they name and against each other."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from partsynth.audit.parents import parent_faults
from partsynth.audit.result import Fault
from partsynth.audit.reviews import check_reviews
from partsynth.audit.rules import selection_faults, split_faults, verdict_faults
from partsynth.audit.tokens import LearnedToken, read_adaptation, read_token, source_faults
from partsynth.audit.workspace import Workspace
from partsynth.errors import UserError
from partsynth.lineage.graph import Stages, covers
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest
from partsynth.records.parquet import PARQUET, parquet_faults
from partsynth.records.rows import AugmentedRecord, ImageRecord, RealRecord, Record, SelectedRecord, VerdictRecord
from partsynth.store.layout import ADAPTATION, ADAPTED, AUGMENTED, MANIFEST, OOD, QUALITY, REAL, SELECTED, TOKENS
from partsynth.store.png import png_fingerprint
from partsynth.store.shards import images_below, split_name

R = TypeVar("R", bound=Record)


def check_manifests(space: Workspace, stages: Stages) -> tuple[dict[str, int], list[Fault]]:
    """How many rows there are of each kind, and the faults, in the outputs of ``stages``."""
    outs = {out["path"] for stage in stages.values() for out in stage.get("outs", [])}
    sets = sorted(path for path in outs if covers(AUGMENTED, path))
    faults = list(_foreign_sets(space.root, sets))

    read_real = partial(read_manifest, kind=RealRecord)
    real = _read(space, f"{REAL}/{MANIFEST}", read_real, faults) if REAL in outs else []
    ood = _read(space, f"{OOD}/{MANIFEST}", read_real, faults) if OOD in outs else []
    faults += _file_faults(space, REAL, real, known={row.mask for row in real})
    faults += _file_faults(space, OOD, ood)
    duplicates = space.root / REAL / "duplicates.csv"
    faults += split_faults([*real, *ood], _accepted(duplicates))

    by_path = {row.path: row for row in real}
    tokens = _read_learned(space, f"{TOKENS}/*.safetensors", read_token, faults) if TOKENS in outs else {}
    tuned = _read_learned(space, ADAPTATION, read_adaptation, faults) if ADAPTED in outs else {}
    for path, token in (tokens | tuned).items():
        faults += [Fault(path, message) for message in source_faults(token, by_path.get)]

    holder = WorkspaceHolder(space, by_path, tokens)
    synthetic: dict[str, AugmentedRecord] = {}
    verdicts: dict[str, VerdictRecord] = {}
    for folder in sets:
        name, manifest = folder.rpartition("/")[2], f"{folder}/{MANIFEST}"
        rows = _read(space, manifest, read_augmented, faults)
        faults += _file_faults(space, folder, rows)
        for row in rows:
            faults += [Fault(row.path, message) for message in parent_faults(row, holder)]
            if row.set_name != name:
                faults.append(Fault(row.path, f"its row says set {row.set_name!r}"))
        if any(split_name(row.path)[1] for row in rows):
            told = parquet_faults(space.root / folder / PARQUET, rows)
            faults += [Fault(f"{folder}/{PARQUET}", message) for message in told]
        synthetic |= {row.path: row for row in rows}
        if (table := f"{QUALITY}/{name}.csv") in outs:
            judged = _read(space, table, partial(read_manifest, kind=VerdictRecord), faults)
            faults += verdict_faults(table, manifest, judged, rows)
            verdicts |= {row.path: row for row in judged}

    training = {row.path: row for row in real if row.split == "train" and row.role == "target"}
    selected = sorted(path for path in outs if covers(SELECTED, path))
    for table in selected:
        for chosen in _read(space, table, partial(read_manifest, kind=SelectedRecord), faults):
            faults += selection_faults(table, chosen, training, synthetic, verdicts)
    reviewed, unsound = check_reviews(space, stages, synthetic, {row.class_name for row in (*real, *ood)})
    faults += unsound
    counts = reviewed | {"real": len(real), "ood": len(ood), "tokens": len(tokens), "augmented": len(synthetic)}
    return counts | {"verdicts": len(verdicts), "selected tables": len(selected)}, faults


@dataclass(frozen=True)
class WorkspaceHolder:
    """Parents looked for in the workspace, whose files are hashed once."""

    space: Workspace
    real: Mapping[str, RealRecord]
    tokens: Mapping[str, LearnedToken]

    def real_image(self, path: str) -> RealRecord | None:
        return self.real.get(path)

    def sha256(self, path: str) -> str | None:
        both = self.space.hashes(path)
        return None if both is None else both.sha256

    def token(self, path: str) -> LearnedToken | None:
        return self.tokens.get(path)


def _accepted(duplicates: Path) -> set[str]:
    """The photographs (by their names in the source) that ingest listed as duplicates."""
    if not duplicates.is_file():
        return set()
    rows = csv.DictReader(io.StringIO(duplicates.read_text(encoding="utf-8", errors="replace")))
    return {name for row in rows for name in (row.get("path_a"), row.get("path_b")) if name}


def _foreign_sets(root: Path, sets: Collection[str]) -> Iterator[Fault]:
    for folder in sorted(path for path in (root / AUGMENTED).glob("*") if path.is_dir()):
        if (name := folder.relative_to(root).as_posix()) not in sets:
            yield Fault(name, "no stage of dvc.yaml made this set")


def _read(space: Workspace, path: str, read: Callable[[Path], list[R]], faults: list[Fault]) -> list[R]:
    """The rows of a table; what cannot be read is a fault, and gives none."""
    try:
        rows = read(space.root / path)
    except UserError as error:
        faults.append(Fault(path, str(error)))
        return []
    faults += _repeated(path, rows)
    return rows


def _repeated(path: str, rows: Sequence[Record]) -> Iterator[Fault]:
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        if row.key in seen:
            yield Fault(path, f"two rows for {row.path}")
        seen.add(row.key)


def _read_learned(
    space: Workspace, pattern: str, read: Callable[[bytes, str], LearnedToken], faults: list[Fault]
) -> dict[str, LearnedToken]:
    """Path -> provenance of every file of the pattern that has one."""
    learned = {}
    for path in sorted(space.root.glob(pattern)):
        name = path.relative_to(space.root).as_posix()
        try:
            learned[name] = read(path.read_bytes(), name)
        except UserError as error:
            faults.append(Fault(name, str(error)))
    return learned


def _file_faults(
    space: Workspace, folder: str, rows: Sequence[ImageRecord], known: Collection[str] = ()
) -> Iterator[Fault]:
    """Every row's file with its sha256 and fingerprint, and no image without a row (``known`` ones need none)."""
    for row in rows:
        try:
            both = space.hashes(row.path)
        except UserError as error:
            yield Fault(row.path, str(error))
            continue
        if both is None:
            yield Fault(row.path, f"in {folder}/{MANIFEST} but missing")
        elif both.sha256 != row.sha256:
            yield Fault(row.path, f"sha256 {both.sha256}, {folder}/{MANIFEST} says {row.sha256}")
        elif isinstance(row, AugmentedRecord) and png_fingerprint(io.BytesIO(space.read(row.path))) != row.fingerprint:
            yield Fault(row.path, f"its fingerprint is not the one in {folder}/{MANIFEST}")
    listed = {row.path for row in rows} | set(known)
    try:
        for name in images_below(space.root / folder):
            if (path := f"{folder}/{name}") not in listed:
                yield Fault(path, f"an image without a row in {folder}/{MANIFEST}")
    except UserError as error:
        yield Fault(folder, str(error))
