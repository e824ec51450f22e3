"""A few edits per class at any strength, measured; what was measured is kept in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Method, Order
from partsynth.augmentation.sources import drawn_sources
from partsynth.config.generation import Generate
from partsynth.config.models import Diffusion, Reference
from partsynth.config.quality import Quality
from partsynth.config.sets import StrengthSet
from partsynth.core.drift.calibration import conformal_percentiles, drift_scores
from partsynth.core.drift.distances import class_distances
from partsynth.quality.cache import Row, read_cache, write_cache
from partsynth.quality.features import Encoder, embed_batch
from partsynth.quality.real_parts import calibrated, columns, further_columns, measure_real, real_parts
from partsynth.quality.strength_search import DIGITS, band
from partsynth.quality.together import measured_together
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.records.strengths import Probe
from partsynth.seams import METHODS
from partsynth.store import workers

COLUMNS = ("features",)


class Probes:
    """A few training images per class, edited at any strength and measured.

    Parameters
    ----------
    count : training images per class
    rows : of the real images
    real, tokens, root : folders

    Raises
    ------
    UserError
        where something is missing that the method edits with, or there is nothing to calibrate on.
    """

    def __init__(
        self,
        *,
        count: int,
        generate: Generate,
        diffusion: Diffusion,
        quality: Quality,
        reference: Reference,
        augmentation: StrengthSet,
        set_name: str,
        rows: Sequence[RealRecord],
        real: Path,
        tokens: Path,
        root: Path,
    ) -> None:
        self._sources = drawn_sources(rows, generate.seed, min(count, generate.max_sources or count))
        self._materials = Materials(real=rows, tokens=tokens, diffusion=diffusion, root=root)
        self._method: Method = METHODS[augmentation.method]
        self._generate, self._augmentation, self._set_name = generate, augmentation, set_name
        self._plan(
            {row.class_name: 0.0 for row in self._sources}
        )  # what is missing is said before anything is measured
        parts = real_parts(real)
        self._embed, self._neighbours = Encoder(reference, root), quality.neighbours
        known, views = measure_real(parts, quality, root, self._embed)
        self._bank, self.calibration = calibrated(parts, known.features, quality, views)
        self.tolerated = self.calibration.drift + quality.tolerated  # what drift's thresholds are percentiles of
        try:
            self.ends = band(augmentation, self.tolerated)
        except ValueError:
            self.ends = (-np.inf, np.inf)  # `limits` says so
        self._cache = self._embed.folder / "probes" / f"{set_name}.safetensors"
        self._features = read_cache(self._cache, COLUMNS)
        self._used: set[str] = set()

    def measure(self, strengths: Mapping[str, float]) -> dict[str, Probe]:
        """What the classes' probe images give at one strength per class."""
        rows = self._plan(strengths)
        self._make([row for row in rows if row.fingerprint not in self._features])
        self._used |= {row.fingerprint for row in rows}
        features = np.stack([self._features[row.fingerprint][0] for row in rows])  # (N, D)
        names, classes, groups = columns(rows)
        further = further_columns(rows)
        distances = class_distances(features, names, groups, self._bank, self._neighbours, further)  # (N, C)
        drifts = drift_scores(distances, classes, self._bank.kinds, self.calibration)  # (N,)
        percentiles = conformal_percentiles(drifts, self.tolerated)  # (N,)
        low, high = self._augmentation.target
        cap = np.inf if self._augmentation.cap is None else self._augmentation.cap
        inside = (percentiles > low) & (percentiles <= high) & (drifts <= cap)
        return {
            name: Probe(
                strength=strength,
                drift=round(float(np.median(drifts[classes == name])), DIGITS),
                in_band=round(float(inside[classes == name].mean()), DIGITS),
            )
            for name, strength in strengths.items()
        }

    def keep_only_used(self) -> None:
        """Drop what an earlier search measured and this one did not ask for."""
        if self._features.keys() > self._used:
            self._keep({key: self._features[key] for key in self._used})

    def _plan(self, strengths: Mapping[str, float]) -> Sequence[AugmentedRecord]:
        """Rows of the very images that generate makes as each source's first, but for their strength."""
        order = Order(
            set_name=self._set_name,
            parameters=self._augmentation.model_copy(update={"variants": 1}),
            shared=self._generate,
            sources=[row for row in self._sources if row.class_name in strengths],
            strengths=dict(strengths),
            folder="probes",
        )
        return self._method.plan(order, self._materials)

    def _make(self, rows: Sequence[AugmentedRecord]) -> None:
        """Paint and measure."""
        if not rows:
            return
        self._features |= measured_together({r.fingerprint: r for r in rows}, self._cache, COLUMNS, self._made)
        self._keep(self._features)

    def _made(self, rows: Sequence[AugmentedRecord]) -> dict[str, Row]:
        made = list(self._method.paint_probes(rows, self._materials))
        size, found = self._embed.reference.batch_size, dict[str, Row]()
        for start in range(0, len(made), size):
            batch = made[start : start + size]
            features = embed_batch(self._embed, [image for _, image in batch], size)
            found |= {row.fingerprint: (feature,) for (row, _), feature in zip(batch, features, strict=True)}
        return found

    def _keep(self, features: Mapping[str, Row]) -> None:
        if workers.here().first:
            write_cache(self._cache, COLUMNS, {key: features[key] for key in sorted(features)})
