"""One image's chain: photograph, set, prompt, token, seed, strength, base model, verdict, and who trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from partsynth.audit.chain import made_from
from partsynth.audit.lookup import Found, find_image
from partsynth.audit.result import Fault, Result
from partsynth.audit.rows import rows_with
from partsynth.audit.runs import RunRecord, all_runs
from partsynth.audit.tables import trained_on
from partsynth.audit.versions import Version, read_listing
from partsynth.errors import UserError
from partsynth.lineage.digests import md5_bytes
from partsynth.lineage.objects import Objects
from partsynth.records.rows import AugmentedRecord, RealRecord, SelectedRecord
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import REAL


def trace_image(root: Path, what: str, regenerate: bool = False) -> Result:
    """One image's chain, from photograph to the runs that trained on it.

    Parameters
    ----------
    what : a path, or a sha256 (or its first eight digits and more)
    regenerate : make the image again: the same bytes on the machine that made it, elsewhere a mean difference of at
        most 2/255

    Raises
    ------
    UserError
        where no manifest knows the image, or a photograph should be made again.
    """
    root = root.resolve()
    faults: list[Fault] = []
    with Objects(root) as objects:
        runs = all_runs(root)
        found = find_image(root, objects, runs, what)
        row = found.row
        synthetic = isinstance(row, AugmentedRecord)
        data: dict[str, Any] = {"picture": row.model_dump(mode="json"), "found_in": found.label}
        data["kind"] = "synthetic" if synthetic else "real"
        content = _checked_bytes(found, faults)
        if isinstance(row, AugmentedRecord):
            data |= made_from(found.version, row, faults)
        elif isinstance(row, RealRecord):
            columns = ("source", "source_sha256", "box", "split", "group")
            data["photograph"] = {column: getattr(row, column) for column in columns}
        data["selected"] = _selections(found.version, row.sha256)
        data["runs"] = trained_on(objects, runs, row.sha256, faults)
        if isinstance(row, RealRecord) and row.split == "val" and content is not None:
            data["runs"] += _watched_by(objects, runs, row.path, content, faults)
        if regenerate:
            from partsynth.audit.regenerate import make_again

            data["regenerated"] = make_again(root, found, content, faults)
    return Result("image", data, faults)


def _checked_bytes(found: Found, faults: list[Fault]) -> bytes | None:
    content = found.version.read(found.row.path)
    if content is None:
        faults.append(Fault(found.row.path, f"in {found.manifest} but missing"))
    elif sha256_bytes(content) != found.row.sha256:
        faults.append(Fault(found.row.path, f"altered: its sha256 is not the one in {found.manifest}"))
    return content


def _selections(version: Version, sha256: str) -> list[dict[str, str]]:
    """The training tables of this version that hold the image."""
    return [
        {"setup": Path(table).stem, "role": chosen.role, "origin": chosen.origin}
        for table in version.tables()
        for chosen in rows_with(version, table, SelectedRecord, sha256)
    ]


def _watched_by(
    objects: Objects, runs: Sequence[RunRecord], path: str, content: bytes, faults: list[Fault]
) -> list[dict[str, Any]]:
    """Every run that had the image among its validation images."""
    md5, inner = md5_bytes(content), path[len(REAL) + 1 :]
    watching = []
    for run in runs:
        if (digest := run.digest(REAL)) is None:
            continue
        try:
            if read_listing(objects, digest).get(inner) == md5:
                watching.append(run.brief() | {"role": "validation"})
        except UserError as error:
            faults.append(Fault(run.run_id, f"the images of run {run.name} cannot be listed: {error}"))
    return watching
