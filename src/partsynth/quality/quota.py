"""How many edits of each class it takes until quality accepts as many as the set's quota.

The judge is stage quality's own: an image's verdict depends on that image and the real ones alone, so it is the same
here. What was measured is kept by the images' fingerprints, and the images themselves for stage generate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from partsynth.augmentation.attempts import Painted, first_attempts
from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Method, Order
from partsynth.config.models import Reference
from partsynth.config.quality import Quality
from partsynth.core.images import stats
from partsynth.quality.cache import Row, read_cache, write_cache
from partsynth.quality.features import Encoder, embed_batch
from partsynth.quality.judge import judge
from partsynth.quality.measure import COLUMNS, Measured, Thumbnails
from partsynth.quality.real_parts import measure_real, real_parts
from partsynth.quality.score import score
from partsynth.quality.together import measured_together
from partsynth.records.rows import AugmentedRecord
from partsynth.records.strengths import Attempts
from partsynth.seams import METHODS
from partsynth.store import workers
from partsynth.store.layout import Layout


def drawn_for_quota(
    *, order: Order, materials: Materials, params: Quality, reference: Reference, real: Path, root: Path
) -> dict[str, Attempts]:
    """Class -> the fewest first attempts of which quality accepts the quota, or the set's limit.

    A class never draws fewer than the set's ``variants`` of each source. How many attempts are made at a time is no
    part of the answer.

    Raises
    ------
    UserError
        where something is missing that the images are made from, or there is nothing to judge by.
    """
    quota, limit, method = order.parameters.quota, order.parameters.limit, METHODS[order.parameters.method]
    judged = _Judged(order, materials, method, params, reference, real, root)
    least: dict[str, int] = defaultdict(int)
    for source in order.sources:
        least[source.class_name] += order.parameters.variants
    drawn = {name: max(count, min(quota, limit)) for name, count in least.items()}
    while True:
        accepted = judged.accepted(drawn)
        short = {
            name: quota - sum(flags) for name, flags in accepted.items() if sum(flags) < quota and drawn[name] < limit
        }
        if not short:
            break
        for name, lacking in short.items():
            rate = max(sum(accepted[name]), 1) / len(accepted[name])  # at most doubled: rates of a few images are rough
            drawn[name] = min(limit, drawn[name] + min(math.ceil(lacking / rate), drawn[name]))
    counts = {name: fewest(flags, quota, least[name]) for name, flags in accepted.items()}
    judged.keep_only(counts)
    return {
        name: Attempts(attempts=count, accepted=sum(accepted[name][:count]), quota=quota)
        for name, count in sorted(counts.items())
    }


def fewest(accepted: Sequence[bool], quota: int, least: int) -> int:
    """Attempts up to the one that fills the quota; all where none does."""
    reached = int(np.searchsorted(np.cumsum(accepted), quota)) + 1
    return max(least, min(reached, len(accepted)))


class _Judged:
    """Attempts, painted and judged when they are first asked for."""

    def __init__(
        self,
        order: Order,
        materials: Materials,
        method: Method,
        params: Quality,
        reference: Reference,
        real: Path,
        root: Path,
    ) -> None:
        self._order, self._materials, self._method, self._params = order, materials, method, params
        self._embed = Encoder(reference, root)
        self._parts = real_parts(real)
        self._real, self._views = measure_real(self._parts, params, root, self._embed)
        self._cache = self._embed.folder / "attempts" / f"{order.set_name}.safetensors"
        self._known = read_cache(self._cache, COLUMNS)
        self._painted = Painted(Layout(root).attempts(order.set_name))
        self._thumbnails = Thumbnails(self._parts, root)

    def accepted(self, drawn: Mapping[str, int]) -> dict[str, list[bool]]:
        """Class -> of each of its first attempts, whether quality accepts it."""
        rows = self._rows(drawn)
        self._make([row for row in rows if row.fingerprint not in self._known])
        known = [self._known[row.fingerprint] for row in rows]
        features = np.stack([one[0] for one in known]) if known else np.zeros((0, 0), np.float32)  # (N, D)
        measured = Measured(features, stats.stacked([one[1:] for one in known]))
        scores, limits = score(rows, measured, self._parts, self._real, self._params, self._views)
        verdicts = judge(rows, measured.stats, scores, limits, self._params, self._order.set_name)
        found: dict[str, list[bool]] = {name: [] for name in drawn}
        for verdict in verdicts:
            found[verdict.class_name].append(verdict.verdict != "drop")
        return found

    def keep_only(self, drawn: Mapping[str, int]) -> None:
        """Drop what was painted and measured beyond these attempts."""
        if not workers.here().first:
            return
        rows = self._rows(drawn)
        self._painted.keep_only(rows)
        self._write({row.fingerprint: self._known[row.fingerprint] for row in rows})

    def _rows(self, drawn: Mapping[str, int]) -> list[AugmentedRecord]:
        return first_attempts(self._order, self._materials, self._method, drawn)

    def _make(self, rows: Sequence[AugmentedRecord]) -> None:
        """Paint what a killed run did not paint yet, and measure."""
        if not rows:
            return
        self._known |= measured_together({r.fingerprint: r for r in rows}, self._cache, COLUMNS, self._made)
        if workers.here().first:
            self._write(self._known)

    def _made(self, rows: Sequence[AugmentedRecord]) -> dict[str, Row]:
        if missing := [row for row in rows if self._painted.image(row) is None]:
            here = workers.here()
            part = f" (one of {here.count} parts)" if here.count > 1 else ""
            print(f"calibrate {self._order.set_name}: {len(missing)} attempts for the quota{part}")
            for row, made in self._method.paint(missing, self._materials):
                self._painted.keep(row, made)
        size, found = self._embed.reference.batch_size, dict[str, Row]()
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            images = [image for row in batch if (image := self._painted.image(row)) is not None]
            for row, image, feature in zip(batch, images, embed_batch(self._embed, images, size), strict=True):
                found[row.fingerprint] = (feature, *stats.measure(image, self._thumbnails(row.source)))
        return found

    def _write(self, known: Mapping[str, Row]) -> None:
        write_cache(self._cache, COLUMNS, {key: known[key] for key in sorted(known)})
