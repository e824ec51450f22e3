"""What classifiers look at, on a few test images: maps for the report, and how much of them lies on the part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from partsynth.errors import UserError
from partsynth.evaluation.looks import Look, levels_of
from partsynth.evaluation.runs import ModelRun
from partsynth.records.rows import ImageRecord, RealRecord
from partsynth.store.files import inside
from partsynth.store.hashing import seed_from

if TYPE_CHECKING:
    from partsynth.core.contrastive.encoder import Classifier

BATCH = 16  # images per pass: gradients take more memory than features


def drawn_images(rows: Sequence[ImageRecord], right: Sequence[bool], count: int) -> list[tuple[int, bool]]:
    """Per class, ``count`` images by lot (index, True) and the first mistake that the lot missed (index, False).

    The lot is drawn by the images' content alone: every model is asked about the same ones.
    """
    chosen = []
    for name in sorted({row.class_name for row in rows}):
        own = [i for i, row in enumerate(rows) if row.class_name == name]
        own.sort(key=lambda i: (seed_from("saliency", rows[i].sha256), rows[i].path))
        chosen += [(i, True) for i in own[:count]]
        if all(right[i] for i in own[:count]):
            chosen += [(i, False) for i in own[count:] if not right[i]][:1]
    return chosen


def looks(
    run: ModelRun,
    model: Classifier,
    classes: Sequence[str],
    rows: Sequence[ImageRecord],
    images: np.ndarray,
    logits: np.ndarray,
    count: int,
    root: Path,
) -> list[Look]:
    """What the model looks at in some of the images.

    Parameters
    ----------
    rows, images, logits : of the test part: n rows, (n, S, S, 3) uint8 and (n, C)
    count : per class

    Raises
    ------
    UserError
        where a mask cannot be read.
    """
    import torch

    from partsynth.core.contrastive.encoder import to_float
    from partsynth.core.evaluation.saliency import saliency, share_on

    if not count:
        return []
    best = logits.argmax(axis=1)
    chosen = drawn_images(rows, [classes[b] == row.class_name for b, row in zip(best, rows, strict=True)], count)
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(chosen), BATCH):
        some = chosen[start : start + BATCH]
        index = [i for i, _ in some]
        pixels = to_float(torch.from_numpy(images[index]).to(device))
        try:
            heats = saliency(model, pixels, torch.from_numpy(best[index]))
        except ValueError as error:
            print(f"evaluate: {run.setup}: no saliency: {error}")
            return []
        for (i, drawn), heat in zip(some, heats, strict=True):
            mask = _mask(rows[i], root)
            share = share_on(heat, torch.from_numpy(mask)) if mask is not None else np.nan
            found.append(
                Look(
                    setup=run.setup,
                    seed=run.seed,
                    path=rows[i].path,
                    class_name=rows[i].class_name,
                    predicted=classes[best[i]],
                    drawn=int(drawn),
                    on_part="" if np.isnan(share) else round(share, 4),
                    area="" if mask is None else round(float(mask.mean()), 4),
                    side=len(heat),
                    levels=levels_of(heat.numpy()),
                )
            )
    return found


def _mask(row: ImageRecord, root: Path) -> np.ndarray | None:
    """(H, W) bool, true on the part; None where the image has no mask."""
    if not isinstance(row, RealRecord) or not row.mask:
        return None
    try:
        with Image.open(inside(root, row.mask)) as image:
            return np.asarray(image.convert("L")) > 127
    except OSError as error:
        raise UserError(f"{row.mask}: not a readable mask: {error}") from None
