"""What is measured of images: features of the reference encoder, and what they are like as images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from partsynth.core.images import stats
from partsynth.core.images.stats import ImageStats
from partsynth.quality.cache import Row, read_cache, write_cache
from partsynth.quality.features import Embed, embed_batch
from partsynth.quality.together import measured_together
from partsynth.records.images import read_image
from partsynth.records.rows import ImageRecord, RealRecord
from partsynth.store import workers

COLUMNS = ("features", *stats.NAMES)


@dataclass(frozen=True)
class Measured:
    """What was measured of N images."""

    features: np.ndarray  # (N, D) float32, L2-normalised
    stats: ImageStats

    def take(self, rows: Sequence[int]) -> Measured:
        """The rows alone, in their order."""
        return Measured(self.features[rows], self.stats.take(rows))


class Thumbnails:
    """Of real images, by their paths, each opened when it is first asked for: (S, S, 3) uint8."""

    def __init__(self, real: Iterable[RealRecord], root: Path) -> None:
        self._real, self._root = {row.path: row for row in real}, root
        self._made: dict[str, np.ndarray] = {}

    def __call__(self, path: str) -> np.ndarray:
        """Raises UserError where the image is missing or altered."""
        if path not in self._made:
            self._made[path] = stats.thumbnail(read_image(self._root, self._real[path]))
        return self._made[path]


def measure(
    rows: Sequence[ImageRecord], root: Path, embed: Embed, batch_size: int, cache: Path, real: Sequence[RealRecord] = ()
) -> Measured:
    """Measure every image, each opened once; those that ``cache`` has by their sha256 not at all.

    Generated images are compared with their sources among the ``real`` ones (an image's own mark, and so its sha256, is
    of its source too).

    Raises
    ------
    UserError
        where an image is missing or altered.
    """
    known, thumbnails = read_cache(cache, COLUMNS), Thumbnails(real, root)
    missing = {r.sha256: r for r in rows if r.sha256 not in known}

    def measured_of(some: Sequence[ImageRecord]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        with Progress(transient=True) as progress:
            task = progress.add_task("measuring images", total=len(missing))
            for start in range(0, len(some), batch_size):
                batch = some[start : start + batch_size]
                images = [read_image(root, row) for row in batch]
                for row, image, feature in zip(batch, images, embed_batch(embed, images, batch_size), strict=True):
                    source = None if isinstance(row, RealRecord) else thumbnails(row.origin_path)
                    found[row.sha256] = (feature, *stats.measure(image, source))
                progress.update(task, completed=tally.add(len(batch)))
        return found

    tally = workers.here().tally()
    known |= measured_together({key: missing[key] for key in sorted(missing)}, cache, COLUMNS, measured_of)
    if missing and workers.here().first:
        write_cache(cache, COLUMNS, {r.sha256: known[r.sha256] for r in rows})
    measured = [known[r.sha256] for r in rows]
    features = np.stack([row[0] for row in measured]) if measured else np.zeros((0, 0), np.float32)
    return Measured(features, stats.stacked([row[1:] for row in measured]))
