"""Real images seen through the views that training takes for the same part: drift within them is no drift."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from partsynth.quality.cache import Row, read_cache, write_cache
from partsynth.quality.features import Embed, embed_batch
from partsynth.quality.together import measured_together
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord
from partsynth.store import workers
from partsynth.store.hashing import fingerprint, seed_from, sha256_file

COLUMNS = ("features",)


def seen_in_views(rows: Sequence[RealRecord], root: Path, embed: Embed, batch_size: int, folder: Path) -> np.ndarray:
    """Features (n, D) of the images, each through one random view; kept in ``folder``."""
    from partsynth.core.images import views

    # the views' code is part of the name: other views are other features
    mark = fingerprint([sha256_file(Path(views.__file__)), [r.sha256 for r in rows]])
    cache = folder / f"views-{mark[:16]}.safetensors"
    known = read_cache(cache, COLUMNS)

    def seen(some: Sequence[RealRecord]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for start in range(0, len(some), batch_size):
            batch = some[start : start + batch_size]
            images = in_views([read_image(root, row) for row in batch], [row.sha256 for row in batch])
            found |= {r.sha256: (f,) for r, f in zip(batch, embed_batch(embed, images, batch_size), strict=True)}
        return found

    if not known:
        known = measured_together({row.sha256: row for row in rows}, cache, COLUMNS, seen)
        if workers.here().first:
            for stale in folder.glob("views-*.safetensors"):
                stale.unlink()
            write_cache(cache, COLUMNS, known)
    return np.stack([known[row.sha256][0] for row in rows])


def in_views(images: Sequence[Image.Image], names: Sequence[str]) -> list[Image.Image]:
    """One training view of each image (all of one size), the same for the same name."""
    import torch

    from partsynth.core.images import views

    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))  # (B, H, W, 3)
    draws = torch.cat([views.draw(1, seed_from("calibration view", name)) for name in names])
    seen = views.augment(pixels.permute(0, 3, 1, 2).float() / 255, draws)
    return [Image.fromarray(a) for a in (seen * 255).round().byte().permute(0, 2, 3, 1).numpy()]
