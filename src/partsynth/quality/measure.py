"""What is measured of images: features of the reference encoder, and what they are like as images."""

from __future__ import annotations

from collections.abc import Sequence
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
from partsynth.records.rows import Record
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


def measure(rows: Sequence[Record], root: Path, embed: Embed, batch_size: int, cache: Path) -> Measured:
    """Measure every image, each opened once; those that ``cache`` has by their sha256 not at all.

    Raises
    ------
    UserError
        where an image is missing or altered.
    """
    known = read_cache(cache, COLUMNS)
    missing = {r.sha256: r for r in rows if r.sha256 not in known}

    def measured_of(some: Sequence[Record]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        with Progress(transient=True) as progress:
            task = progress.add_task("measuring images", total=len(missing))
            for start in range(0, len(some), batch_size):
                batch = some[start : start + batch_size]
                images = [read_image(root, row) for row in batch]
                for row, image, feature in zip(batch, images, embed_batch(embed, images, batch_size), strict=True):
                    found[row.sha256] = (feature, *stats.measure(image))
                progress.update(task, completed=tally.add(len(batch)))
        return found

    tally = workers.here().tally()
    known |= measured_together({key: missing[key] for key in sorted(missing)}, cache, COLUMNS, measured_of)
    if missing and workers.here().first:
        write_cache(cache, COLUMNS, {r.sha256: known[r.sha256] for r in rows})
    measured = [known[r.sha256] for r in rows]
    features = np.stack([row[0] for row in measured]) if measured else np.zeros((0, 0), np.float32)
    return Measured(features, stats.stacked([row[1:] for row in measured]))
