"""One synthetic image made again from its manifest's row, and compared."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from partsynth.audit.chain import parameters_of_base
from partsynth.audit.lookup import Found
from partsynth.audit.parents import parents_of
from partsynth.audit.result import Fault
from partsynth.audit.rows import real_rows
from partsynth.audit.versions import Version
from partsynth.augmentation.again import encodings, regenerate
from partsynth.augmentation.method import BASE, SOURCE
from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.records.rows import AugmentedRecord
from partsynth.store.base_model import locate_base
from partsynth.store.files import inside, write_bytes_atomic
from partsynth.store.layout import MANIFEST, REAL, TOKENS

TOLERANCE = 2.0  # of 255: mean difference allowed of an image made again on another machine


def make_again(root: Path, found: Found, content: bytes | None, faults: list[Fault]) -> dict[str, Any]:
    """Make an image again with the function that made it, and compare with its file's bytes.

    Raises
    ------
    UserError
        where it is a photograph, or its file is missing.
    """
    row = found.row
    if not isinstance(row, AugmentedRecord):
        raise UserError(f"{row.path} is a photograph: only synthetic images can be made again")
    if content is None:
        raise UserError(f"{row.path} is missing: there is nothing to compare with")
    diffusion = parameters_of_base(root)
    with tempfile.TemporaryDirectory() as folder:
        base = root
        if not found.version.is_workspace:  # what that run saw, written out; the base model stays where it is
            base = Path(folder)
            _write_out(found.version, row, base)
            if any(parent.kind == BASE for parent in parents_of(row)):
                diffusion = _from_anywhere(diffusion, root)
        try:
            image = regenerate(row, diffusion, base / REAL, base / TOKENS, base)
        except UserError as error:
            faults.append(Fault(row.path, f"cannot be made again: {error}"))
            return {"made": False}
    same = content in encodings(image, row)
    before = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.float64)  # (H, W, 3), 0 to 255
    after = np.asarray(image.convert("RGB"), dtype=np.float64)
    if before.shape != after.shape:
        faults.append(Fault(row.path, f"made again it has another size: {after.shape[:2]}, not {before.shape[:2]}"))
        return {"made": True, "same_bytes": False}
    difference = float(np.abs(before - after).mean())
    if difference > TOLERANCE:
        message = f"made again it differs by {difference:.2f}/255 on average, over {TOLERANCE}/255"
        faults.append(Fault(row.path, message))
    return {"made": True, "same_bytes": same, "mean_difference_of_255": round(difference, 4), "allowed": TOLERANCE}


def _from_anywhere(diffusion: Diffusion, root: Path) -> Diffusion:
    """The same base model, found from another folder too."""
    model, _ = locate_base(diffusion.model, diffusion.revision, root, diffusion.config)
    absolute = str(Path(model).absolute()) if Path(model).exists() else model  # else it is a hub id
    config = None if diffusion.config is None else str((root / diffusion.config).absolute())
    return diffusion.model_copy(update={"model": absolute, "config": config})


def _write_out(version: Version, row: AugmentedRecord, folder: Path) -> None:
    """The manifest, parents and masks of one image, as they were in an earlier version of the data."""
    parents = [parent for parent in parents_of(row) if parent.path]  # a base model has none
    sources = [parent.path for parent in parents if parent.kind == SOURCE]
    masks = [r.mask for source in sources for r in real_rows(version, REAL, source) if r.path == source and r.mask]
    for path in (f"{REAL}/{MANIFEST}", *(parent.path for parent in parents), *masks):
        if (data := version.read(path)) is None:
            raise UserError(f"{path} is not in that version of the data")
        write_bytes_atomic(inside(folder, path), data)
