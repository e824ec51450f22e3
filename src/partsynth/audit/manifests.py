"""Manifests, verdicts, training tables and the rules against leaks."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from partsynth.audit.workspace import OOD, REAL, TOKENS, Fault, Workspace
from partsynth.errors import UserError
from partsynth.lineage.graph import covers
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, Record, SelectedRecord, VerdictRecord
from partsynth.store.png import png_fingerprint


def check_manifests(root: Path, stages: dict[str, Any]) -> tuple[dict[str, int], list[Fault]]:
    """Manifests, verdicts, training tables and leak rules of the outputs of ``stages`` below ``root``."""
    faults: list[Fault] = []
    counts = manifest_faults(Workspace(root, lambda path: False), stages, faults)
    return counts, faults


def manifest_faults(space: Workspace, stages: dict[str, Any], faults: list[Fault]) -> dict[str, int]:
    outs = {out["path"] for stage in stages.values() for out in stage.get("outs", [])}
    sets = sorted(path for path in outs if covers("data/augmented", path))
    on_disk = [p for p in (space.root / "data/augmented").glob("*") if p.is_dir()]
    for folder in sorted(p.relative_to(space.root).as_posix() for p in on_disk):
        if folder not in sets:
            faults.append(Fault(folder, "no stage of dvc.yaml made this set"))

    real = _read(space, f"{REAL}/manifest.csv", RealRecord, faults) if REAL in outs else []
    ood = _read(space, f"{OOD}/manifest.csv", RealRecord, faults) if OOD in outs else []
    _pictures(space, REAL, real, faults, keep=[row.mask for row in real if row.mask])
    _pictures(space, OOD, ood, faults)
    _splits(space, [*real, *ood], faults)
    training = {row.path: row for row in real if row.split == "train" and row.role == "target"}
    by_path = {row.path: row for row in real}
    tokens = _tokens(space, by_path, faults) if TOKENS in outs else {}

    synthetic: dict[str, AugmentedRecord] = {}
    verdicts: dict[str, VerdictRecord] = {}
    for folder in sets:
        name = folder.rpartition("/")[2]
        rows = _read(space, f"{folder}/manifest.csv", AugmentedRecord, faults)
        _pictures(space, folder, rows, faults)
        for row in rows:
            faults += _parents(space, name, row, by_path, tokens)
        synthetic |= {row.path: row for row in rows}
        table = f"data/quality/{name}.csv"
        if table in outs:
            verdict_rows = _read(space, table, VerdictRecord, faults)
            _same_pictures(table, f"{folder}/manifest.csv", verdict_rows, rows, faults)
            verdicts |= {row.path: row for row in verdict_rows}
    selected = sorted(path for path in outs if covers("data/selected", path))
    for table in selected:
        for row in _read(space, table, SelectedRecord, faults):
            faults += _selection(table, row, training, synthetic, verdicts)
    return {
        "real": len(real),
        "ood": len(ood),
        "tokens": len(tokens),
        "augmented": len(synthetic),
        "verdicts": len(verdicts),
        "selected tables": len(selected),
    }


def _read(space: Workspace, path: str, kind: type[Record], faults: list[Fault]) -> list[Any]:
    try:
        rows = read_manifest(space.root / path, kind)
    except UserError as error:
        faults.append(Fault(path, str(error)))
        return []
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        if row.key in seen:
            faults.append(Fault(path, f"two rows for {row.path}"))
        seen.add(row.key)
    return rows


def _pictures(space: Workspace, folder: str, rows: list[Any], faults: list[Fault], keep: Iterable[str] = ()) -> None:
    """Every row's file with its sha256 and fingerprint, and no picture without a row."""
    for row in rows:
        both = space.hashes(row.path)
        if both is None:
            faults.append(Fault(row.path, f"in {folder}/manifest.csv but missing"))
        elif both[1] != row.sha256:
            faults.append(Fault(row.path, f"sha256 {both[1]}, {folder}/manifest.csv says {row.sha256}"))
        elif isinstance(row, AugmentedRecord) and png_fingerprint(space.root / row.path) != row.fingerprint:
            faults.append(Fault(row.path, f"its fingerprint is not the one in {folder}/manifest.csv"))
    known = {row.path for row in rows} | set(keep)
    for path in sorted((space.root / folder).rglob("*.png")):
        if (name := path.relative_to(space.root).as_posix()) not in known:
            faults.append(Fault(name, f"a picture without a row in {folder}/manifest.csv"))


def _splits(space: Workspace, rows: list[RealRecord], faults: list[Fault]) -> None:
    """No group, and no photograph that ingest did not list as a duplicate, in two splits."""
    listed = space.root / REAL / "duplicates.csv"
    allowed = listed.read_text() if listed.is_file() else ""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    photographs: dict[str, dict[str, str]] = defaultdict(dict)
    pictures: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        split = row.split if row.role == "target" else f"{row.role} {row.split}"
        for table, key in ((groups, row.group), (photographs, row.source_sha256), (pictures, row.sha256)):
            table[key].setdefault(split, row.path)
    for group, splits in sorted(groups.items()):
        if len(splits) > 1:
            named = ", ".join(f"{split}: {path}" for split, path in sorted(splits.items()))
            faults.append(Fault(min(splits.values()), f"group {group!r} is in {len(splits)} splits ({named})"))
    for what, table in (("photograph", photographs), ("picture", pictures)):
        for splits in table.values():
            if len(splits) > 1 and not all(path in allowed for path in splits.values()):
                named = ", ".join(f"{split}: {path}" for split, path in sorted(splits.items()))
                faults.append(Fault(min(splits.values()), f"the same {what} is in {len(splits)} splits ({named})"))


def _tokens(space: Workspace, real: dict[str, RealRecord], faults: list[Fault]) -> dict[str, dict[str, Any]]:
    """sha256 of each token file -> its metadata; its sources must be training pictures."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((space.root / TOKENS).glob("*.safetensors")):
        name = path.relative_to(space.root).as_posix()
        try:
            token = token_metadata(path.read_bytes(), name)
        except UserError as error:
            faults.append(Fault(name, str(error)))
            continue
        for source, sha256 in token["sources"]:
            row = real.get(source)
            if row is None or row.sha256 != sha256:
                faults.append(Fault(name, f"was learned from {source}, which is not in {REAL}/manifest.csv as it was"))
            elif row.split != "train" or row.role != "target":
                faults.append(Fault(name, f"was learned from {source}, a picture of split {row.split}"))
            elif row.class_name != token["class_name"]:
                faults.append(Fault(name, f"was learned from {source}, a picture of class {row.class_name}"))
        both = space.hashes(name)
        if both is not None:
            found[both[1]] = token | {"path": name}
    return found


def token_metadata(data: bytes, name: str) -> dict[str, Any]:
    """Provenance in the header of a token file's bytes; ``sources`` decoded to [[path, sha256], ...].

    Raises
    ------
    UserError
        where there is none.
    """
    try:
        meta = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        return meta | {"sources": json.loads(meta["sources"]), "class_name": meta["class_name"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name} is not a token file with provenance: {type(error).__name__}: {error}") from None


def _parents(
    space: Workspace,
    set_name: str,
    row: AugmentedRecord,
    real: dict[str, RealRecord],
    tokens: dict[str, dict[str, Any]],
) -> list[Fault]:
    """A synthetic picture's parent is a training picture of its class, and its token and base are those named."""
    found = []
    parent = real.get(row.source)
    if parent is None:
        found.append(f"its parent {row.source} is not in {REAL}/manifest.csv")
    else:
        if parent.split != "train" or parent.role != "target":
            found.append(f"its parent {row.source} is a {parent.split} image, not a training image")
        if parent.sha256 != row.source_sha256:
            found.append(f"its parent {row.source} had sha256 {row.source_sha256}, now {parent.sha256}")
        if parent.class_name != row.class_name:
            found.append(f"its class is {row.class_name}, its parent's is {parent.class_name}")
        if parent.group != row.source_group:
            found.append(f"its group is {row.source_group!r}, its parent's is {parent.group!r}")
    if row.set_name != set_name:
        found.append(f"its row says set {row.set_name!r}")
    token = tokens.get(row.token_sha256)
    if token is None:
        found.append(f"its token {row.token_sha256} is not in {TOKENS}")
    else:
        if token["class_name"] != row.class_name:
            found.append(f"it was made with the token of {token['class_name']}")
        if token.get("base_sha256") != row.base_sha256:
            found.append(f"its base {row.base_sha256} is not its token's {token.get('base_sha256')}")
    return [Fault(row.path, message) for message in found]


def _same_pictures(table: str, manifest: str, verdicts: list[Any], rows: list[Any], faults: list[Fault]) -> None:
    made = {row.path: row for row in rows}
    judged = {row.path: row for row in verdicts}
    for path in sorted(made.keys() - judged.keys()):
        faults.append(Fault(path, f"has no verdict in {table}"))
    for path in sorted(judged.keys() - made.keys()):
        faults.append(Fault(path, f"has a verdict in {table} but no row in {manifest}"))
    for path in sorted(judged.keys() & made.keys()):
        if (judged[path].sha256, judged[path].class_name) != (made[path].sha256, made[path].class_name):
            faults.append(Fault(path, f"the verdict in {table} is of another picture (sha256 or class)"))


def _selection(
    table: str,
    row: SelectedRecord,
    training: dict[str, RealRecord],
    synthetic: dict[str, AugmentedRecord],
    verdicts: dict[str, VerdictRecord],
) -> list[Fault]:
    """A selected row is a training picture, or a synthetic one of a training picture, as the manifests have it."""
    found = []
    picture: Any = training.get(row.path) if row.origin == "real" else synthetic.get(row.path)
    if picture is None:
        kind = "a training image of data/real" if row.origin == "real" else f"a picture of set {row.origin}"
        found.append(f"is selected in {table} but is not {kind}")
    else:
        if picture.sha256 != row.sha256:
            found.append(f"is selected in {table} with another sha256")
        if picture.class_name != row.class_name:
            found.append(f"is selected in {table} as {row.class_name}, its manifest says {picture.class_name}")
        group = picture.group if row.origin == "real" else picture.source_group
        source = picture.path if row.origin == "real" else picture.source
        if (group, source) != (row.group, row.source):
            found.append(f"is selected in {table} with another source or group")
        if row.origin != "real" and picture.set_name != row.origin:
            found.append(f"is selected in {table} from set {row.origin}, its row says {picture.set_name}")
    if row.source not in training:
        found.append(f"is selected in {table}, and {row.source} is not a training image")
    verdict = verdicts.get(row.path)
    if verdict is not None and row.percentile == row.percentile and verdict.percentile != row.percentile:
        found.append(f"is selected in {table} with percentile {row.percentile}, its verdict says {verdict.percentile}")
    return [Fault(row.path, message) for message in found]
