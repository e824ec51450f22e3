"""One image's chain: photograph, set, prompt, token, seed, strength, base model, verdict, and who trained on it."""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from partsynth.audit.manifests import token_metadata
from partsynth.audit.result import Result
from partsynth.audit.runs import RunRecord, all_runs
from partsynth.audit.tables import trained_on
from partsynth.audit.versions import Found, Version, find_picture, read_listing, rows_with
from partsynth.audit.workspace import REAL, TOKENS, Fault
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects
from partsynth.records.rows import AugmentedRecord, RealRecord, SelectedRecord, VerdictRecord
from partsynth.store.base_model import locate_base
from partsynth.store.files import inside, write_bytes_atomic
from partsynth.store.hashing import sha256_bytes

TOLERANCE = 2.0  # of 255: mean difference allowed of a picture made again on another machine


def image(root: Path, what: str, regenerate: bool = False) -> Result:
    """One picture's chain: photograph, set, prompt, token, seed, strength, base, verdict, and who trained on it.

    ``what`` is a path, or a sha256 (or its first eight digits and more). ``regenerate`` makes the picture again: the
    same bytes on the machine that made it, elsewhere a mean difference of at most 2/255.
    """
    root = root.resolve()
    with Objects(root) as objects:
        runs = all_runs(root)
        found = find_picture(root, objects, runs, what)
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
        data["runs"] = trained_on(objects, runs, row.sha256, faults)
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
                    files = read_listing(objects, item.digest)
                except UserError as error:
                    faults.append(Fault(run.run_id, f"the images of run {run.name} cannot be listed: {error}"))
                    continue
                if files.get(path[len(REAL) + 1 :]) == md5:
                    found.append(run.brief() | {"role": "validation"})
    return found


def _regenerate(root: Path, found: Found, content: bytes | None, faults: list[Fault]) -> dict[str, Any]:
    """Make the picture again with the generate stage's own function, and compare."""
    import numpy as np

    from partsynth.stages import generate
    from partsynth.store.png import png_bytes

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
            diffusion = diffusion.model_copy(
                update={"model": str(Path(model).absolute()) if Path(model).exists() else model}
            )
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
        faults.append(
            Fault(row.path, f"made again it differs by {difference:.2f}/255 on average, over {TOLERANCE}/255")
        )
    return {"made": True, "same_bytes": same, "mean_difference_of_255": round(difference, 4), "allowed": TOLERANCE}


def _diffusion(root: Path) -> Any:
    from partsynth.config import load as config_load

    return config_load.load("diffusion", root / "params.yaml")


def _write_out(version: Version, row: AugmentedRecord, folder: Path) -> None:
    """The manifest, source, mask and token of one picture, as they were in an earlier version of the data."""
    manifest = f"{REAL}/manifest.csv"
    parents = rows_with(version.read(manifest), RealRecord, row.source, manifest)
    masks = [parent.mask for parent in parents if parent.path == row.source and parent.mask]
    for path in (manifest, row.source, f"{TOKENS}/{row.class_name}.safetensors", *masks):
        if (data := version.read(path)) is None:
            raise UserError(f"{path} is not in that version of the data")
        write_bytes_atomic(inside(folder, path), data)
