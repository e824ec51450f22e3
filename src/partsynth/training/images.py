"""What a training sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from partsynth.core.contrastive import encoder as encoders
from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord, Record, SelectedRecord

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Pictures:
    """What a training sees: training pictures as uint8 (n, S, S, 3) with a row of facts each, and validation ones."""

    classes: list[str]
    images: Tensor
    labels: np.ndarray  # (n,) index into classes; a negative carries the class it was made from
    is_negative: np.ndarray  # (n,) bool
    is_synthetic: np.ndarray  # (n,) bool
    source: np.ndarray  # (n,) index of the real picture it goes back to, -1 where that is not among them
    val_images: Tensor
    val_labels: np.ndarray


def load_pictures(rows: Sequence[SelectedRecord], val: Sequence[RealRecord], size: int, root: Path) -> Pictures:
    """Every picture's bytes are checked against its row's sha256; all faults are named in one error."""
    faults: list[str] = []

    def load(wanted: Sequence[Record]) -> Tensor:
        images = []
        for record in wanted:
            try:
                images.append(np.asarray(encoders.resize(read_image(root, record), size)))
            except (UserError, OSError) as error:
                faults.append(str(error))
        return torch.from_numpy(np.stack(images)) if images else torch.zeros(0, size, size, 3, dtype=torch.uint8)

    images, val_images = load(rows), load(val)
    if faults:
        more = f"\n  ... and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise UserError(f"{len(faults)} pictures cannot be used:\n  " + "\n  ".join(faults[:10]) + more)
    classes = sorted({r.class_name for r in rows})
    place = {r.path: i for i, r in enumerate(rows) if r.role == "positive"}
    return Pictures(
        classes=classes,
        images=images,
        labels=np.array([classes.index(r.class_name) for r in rows], dtype=np.int64),
        is_negative=np.array([r.role == "negative" for r in rows], dtype=bool),
        is_synthetic=np.array([r.origin != "real" for r in rows], dtype=bool),
        source=np.array([place.get(r.source, -1) for r in rows], dtype=np.int64),
        val_images=val_images,
        val_labels=np.array([classes.index(r.class_name) for r in val], dtype=np.int64),
    )


def inventory(rows: Sequence[SelectedRecord]) -> str:
    counts = {
        "real": sum(r.role == "positive" and r.origin == "real" for r in rows),
        "synthetic positives": sum(r.role == "positive" and r.origin != "real" for r in rows),
        "negatives": sum(r.role == "negative" for r in rows),
    }
    return f"{len({r.class_name for r in rows})} classes, " + ", ".join(f"{n} {name}" for name, n in counts.items())
