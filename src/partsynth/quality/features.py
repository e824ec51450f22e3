"""Pictures measured with the reference encoder, and the real parts as the yardstick of drift.

The stages calibrate and quality measure alike because both measure with this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from partsynth.config.generation import Reference
from partsynth.core.images import stats
from partsynth.core.images.stats import Looks
from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord, Record
from partsynth.store.files import write_bytes_atomic
from partsynth.store.hashing import fingerprint, seed_from, sha256_file, sha256_tree

Embed = Callable[[list[Image.Image]], np.ndarray]  # B pictures -> (B, D) float32, L2-normalised


@dataclass(frozen=True)
class Measured:
    """What was measured of N pictures."""

    features: np.ndarray  # (N, D) float32
    looks: Looks


class Encoder:
    """The reference encoder, loaded when the first picture wants it."""

    def __init__(self, reference: Reference, root: Path) -> None:
        self.reference = reference
        local = root / reference.model
        self.model = str(local) if local.exists() else reference.model
        content = sha256_tree(local) if local.is_dir() else [reference.model, reference.revision]
        self.identity = fingerprint(["reference features", content])
        self.folder = root / ".work" / "features" / self.identity[:16]  # what was measured with this encoder
        self._encoder: Any = None

    def __call__(self, images: list[Image.Image]) -> np.ndarray:
        if self._encoder is None:
            from partsynth.core.drift.reference import load

            try:
                self._encoder = load(self.model, self.reference.revision, _device(self.reference.device))
            except (OSError, ValueError) as error:
                raise UserError(f"reference.model: {error}") from None
        return self._encoder(images, batch_size=self.reference.batch_size)


def _device(name: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def measure(rows: Sequence[Record], root: Path, embed: Embed, batch_size: int, cache: Path) -> Measured:
    """Features and looks of every picture, each opened once; those that ``cache`` has by their sha256 not at all.

    Batches have one fixed size, the last padded, because features may depend on a batch's shape.
    """
    known = _read_cache(cache)
    missing = {r.sha256: r for r in rows if r.sha256 not in known}
    todo = [missing[key] for key in sorted(missing)]
    starts = range(0, len(todo), batch_size)
    for start in track(starts, "measuring pictures", len(starts), transient=True, disable=not todo):
        batch = todo[start : start + batch_size]
        images = [read_image(root, row) for row in batch]
        features = embed(images + [images[-1]] * (batch_size - len(images)))[: len(images)]
        for row, image, feature in zip(batch, images, features, strict=True):
            known[row.sha256] = (feature.astype(np.float32), *stats.measure(image))
    measured = [known[r.sha256] for r in rows]
    if todo:
        _write_cache(cache, {r.sha256: known[r.sha256] for r in rows})
    if not measured:
        nothing, side = np.zeros(0), stats.THUMBNAIL
        exposure, thumbnails = np.zeros((0, stats.QUANTILES)), np.zeros((0, side, side, 3), np.uint8)
        return Measured(np.zeros((0, 0), np.float32), Looks(nothing, nothing, nothing, exposure, thumbnails))
    features, *looks = (np.stack(column) for column in zip(*measured, strict=True))
    return Measured(features, Looks(*looks))


CACHED = ("features", "sharpness", "brightness", "contrast", "exposure", "thumbnails")


def _read_cache(path: Path) -> dict[str, tuple[Any, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            keys = json.loads(file.metadata()["sha256"])
            columns = [file.get_tensor(name) for name in CACHED]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return {}  # a cache that is missing or torn is measured anew
    return dict(zip(keys, zip(*columns, strict=True), strict=True))


def _write_cache(path: Path, known: dict[str, tuple[Any, ...]]) -> None:
    from safetensors.numpy import save

    columns = [np.stack([np.asarray(v) for v in column]) for column in zip(*known.values(), strict=True)]
    write_bytes_atomic(path, save(dict(zip(CACHED, columns, strict=True)), {"sha256": json.dumps(list(known))}))


def seen_in_views(rows: Sequence[RealRecord], root: Path, embed: Embed, batch_size: int, folder: Path) -> np.ndarray:
    """Features (n, D) of the pictures, each through one random view of those that training takes for the same part."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save

    from partsynth.core.images import views

    # the views' code is part of the name: other views are other features
    mark = fingerprint([sha256_file(Path(views.__file__)), [r.sha256 for r in rows]])
    cache = folder / f"views-{mark[:16]}.safetensors"
    try:
        return load_file(cache)["features"]
    except (OSError, SafetensorError, KeyError):
        pass  # missing or torn: measured anew
    parts = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        images = in_views([read_image(root, row) for row in batch], [row.sha256 for row in batch])
        parts.append(embed(images + [images[-1]] * (batch_size - len(images)))[: len(images)])
    for stale in folder.glob("views-*.safetensors"):
        stale.unlink()
    features = np.concatenate(parts).astype(np.float32)
    write_bytes_atomic(cache, save({"features": features}))
    return features


def in_views(images: Sequence[Image.Image], names: Sequence[str]) -> list[Image.Image]:
    """One training view of each picture (all of one size), the same for the same name."""
    import torch

    from partsynth.core.images import views

    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))  # (B, H, W, 3)
    draws = torch.cat([views.draw(1, seed_from("calibration view", name)) for name in names])
    seen = views.augment(pixels.permute(0, 3, 1, 2).float() / 255, draws)
    return [Image.fromarray(a) for a in (seen * 255).round().byte().permute(0, 2, 3, 1).numpy()]


def take(measured: Measured, keep: Sequence[int]) -> Measured:
    """The rows ``keep`` alone."""
    looks = measured.looks
    return Measured(
        measured.features[keep], Looks(*(getattr(looks, name)[keep] for name in looks.__dataclass_fields__))
    )
