"""What a training sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from partsynth.config.training import Train
from partsynth.core.contrastive.encoder import resize, to_float
from partsynth.core.images import views
from partsynth.errors import UserError, listed
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord, Record, SelectedRecord


@dataclass(frozen=True)
class TrainingImages:
    """Training images as uint8 (n, S, S, 3) with a row of facts each, and m validation images."""

    classes: list[str]
    images: Tensor
    labels: np.ndarray  # (n,) index into classes; a negative carries the class it was made from
    is_negative: np.ndarray  # (n,) bool
    is_synthetic: np.ndarray  # (n,) bool
    source: np.ndarray  # (n,) index of the real image it goes back to, -1 where that is not among them
    val_images: Tensor  # uint8 (m, S, S, 3)
    val_labels: np.ndarray  # (m,)

    @property
    def is_real(self) -> np.ndarray:
        """(n,) bool: the real images among the positives."""
        return ~self.is_synthetic & ~self.is_negative


def load_image(root: Path, record: Record, size: int) -> np.ndarray:
    """A record's image as uint8 (size, size, 3), checked against its sha256: what models are trained and tested on.

    Raises
    ------
    UserError
        where the file is missing or altered.
    """
    return np.asarray(resize(read_image(root, record), size))


def load_images(rows: Sequence[SelectedRecord], val: Sequence[RealRecord], size: int, root: Path) -> TrainingImages:
    """Read a training table's images at ``size`` pixels a side, each checked against its row's sha256.

    Raises
    ------
    UserError
        naming all images that are missing, altered or unreadable.
    """
    faults: list[str] = []

    def load(records: Sequence[Record]) -> Tensor:
        pixels = np.zeros((len(records), size, size, 3), dtype=np.uint8)  # once, in place: the most that training holds
        for i, record in enumerate(records):
            try:
                pixels[i] = load_image(root, record, size)
            except (UserError, OSError) as error:
                faults.append(str(error))
        return torch.from_numpy(pixels)

    images, val_images = load(rows), load(val)
    if faults:
        raise UserError(f"{len(faults)} images cannot be used:\n  {listed(faults)}")
    classes = sorted({r.class_name for r in rows})
    index_of = {r.path: i for i, r in enumerate(rows) if r.role == "positive"}
    return TrainingImages(
        classes=classes,
        images=images,
        labels=np.array([classes.index(r.class_name) for r in rows], dtype=np.int64),
        is_negative=np.array([r.role == "negative" for r in rows], dtype=bool),
        is_synthetic=np.array([r.origin != "real" for r in rows], dtype=bool),
        source=np.array([index_of.get(r.source, -1) for r in rows], dtype=np.int64),
        val_images=val_images,
        val_labels=np.array([classes.index(r.class_name) for r in val], dtype=np.int64),
    )


def random_views(images: Tensor, draws: Tensor, params: Train) -> Tensor:
    """One random view (B, 3, S, S) of each uint8 image (B, S, S, 3), as section train has views.

    Parameters
    ----------
    draws : (B, DRAWS) uniform numbers, see ``core.images.views.draw``
    """
    usual, factor = views.Views(), params.jitter
    wanted = replace(
        usual,
        scale=(params.crop, usual.scale[1]),
        brightness=factor * usual.brightness,
        contrast=factor * usual.contrast,
        saturation=factor * usual.saturation,
        hue=factor * usual.hue,
    )
    return views.augment(to_float(images), draws, wanted, kind=params.augment)


def inventory(rows: Sequence[SelectedRecord]) -> str:
    """What a training table holds, in words."""
    counts = {
        "real": sum(r.role == "positive" and r.origin == "real" for r in rows),
        "synthetic positives": sum(r.role == "positive" and r.origin != "real" for r in rows),
        "negatives": sum(r.role == "negative" for r in rows),
    }
    return f"{len({r.class_name for r in rows})} classes, " + ", ".join(f"{n} {name}" for name, n in counts.items())
