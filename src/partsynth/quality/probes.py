"""A few edits per class at any strength, measured; what was measured is kept in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from partsynth.config.generation import AugmentationSet, Calibrate, Diffusion, Generate, Quality, Reference
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.records.strengths import Probe
from partsynth.store.base_model import locate_base
from partsynth.store.files import write_bytes_atomic

if TYPE_CHECKING:
    from partsynth.quality.features import Encoder
from partsynth.quality.strength_search import DIGITS, band


class Probes:
    """A few training pictures a class, edited at any strength and measured; what was measured is kept in a file."""

    def __init__(
        self,
        params: Calibrate,
        generate: Generate,
        diffusion: Diffusion,
        quality: Quality,
        reference: Reference,
        augmentation: AugmentationSet,
        set_name: str,
        rows: Sequence[RealRecord],
        real: Path,
        tokens: Path,
        root: Path,
    ) -> None:
        from partsynth.augmentation import sdedit
        from partsynth.augmentation.sources import drawn_sources
        from partsynth.augmentation.tokens import learned_tokens
        from partsynth.quality.features import Encoder
        from partsynth.quality.real_parts import calibrated, measure_real, real_parts

        limit = min(params.sources, generate.max_sources or params.sources)
        self.sources = drawn_sources(rows, generate.seed, limit)
        self.location, base = locate_base(diffusion.model, diffusion.revision, root)
        self.tokens = learned_tokens(tokens, sorted({r.class_name for r in self.sources}), base)
        self.root, self.diffusion, self.augmentation, self.quality = root, diffusion, augmentation, quality
        # the very pictures that generate makes as each source's first, but for their strength
        first = augmentation.model_copy(update={"variants": 1})
        self._plan = lambda sources, strengths: sdedit.plan(
            generate, diffusion, first, set_name, sources, self.tokens, strengths, base, "probes", root
        )
        parts = real_parts(real)
        self.embed: Encoder = Encoder(reference, root)
        known, views = measure_real(parts, quality.calibration, root, self.embed)
        self.bank, self.calibration = calibrated(parts, known.features, quality.neighbours, views)
        try:
            self.ends = band(augmentation, self.calibration.drift)
        except ValueError:
            self.ends = (-np.inf, np.inf)  # `limits` says so
        self.cache = self.embed.folder / "probes" / f"{set_name}.safetensors"
        self.features = _read(self.cache)
        self.used: set[str] = set()
        self._model = None

    def measure(self, strengths: Mapping[str, float]) -> dict[str, Probe]:
        """What the classes' probe pictures give at one strength a class."""
        from partsynth.core.drift.calibration import conformal_percentiles, drift_scores
        from partsynth.core.drift.distances import class_distances
        from partsynth.quality.real_parts import columns

        rows = self._plan([s for s in self.sources if s.class_name in strengths], strengths)
        self._make([row for row in rows if row.fingerprint not in self.features])
        self.used |= {row.fingerprint for row in rows}
        features = np.stack([self.features[row.fingerprint] for row in rows])
        names, classes, groups = columns(rows)
        distances = class_distances(features, names, groups, self.bank, self.quality.neighbours)
        drifts = drift_scores(distances, classes, self.bank.kinds, self.calibration)
        percentiles = conformal_percentiles(drifts, self.calibration.drift)
        low, high = self.augmentation.target
        cap = np.inf if self.augmentation.cap is None else self.augmentation.cap
        inside = (percentiles > low) & (percentiles <= high) & (drifts <= cap)
        return {
            name: Probe(
                strength=strength,
                drift=round(float(np.median(drifts[classes == name])), DIGITS),
                in_band=round(float(inside[classes == name].mean()), DIGITS),
            )
            for name, strength in strengths.items()
        }

    def _make(self, rows: Sequence[AugmentedRecord]) -> None:
        """Paint and measure; batches have one fixed size, the last padded, because features may depend on its shape."""
        from partsynth.augmentation import sdedit
        from partsynth.augmentation.sdedit import load_model

        if not rows:
            return
        if self._model is None:
            self._model = load_model(self.location, self.diffusion)
        sources = {s.path: s for s in self.sources}
        made = list(sdedit.paint(self._model, rows, sources, self.tokens, self.root, mixed=True))
        size = self.embed.reference.batch_size
        for start in range(0, len(made), size):
            marks, pictures = zip(*((r.fingerprint, p) for r, p in made[start : start + size]), strict=True)
            features = self.embed([*pictures, *[pictures[-1]] * (size - len(pictures))])[: len(pictures)]
            self.features |= zip(marks, features.astype(np.float32), strict=True)
        _write(self.cache, self.features)

    def keep_only_used(self) -> None:
        if self.features.keys() > self.used:
            _write(self.cache, {mark: self.features[mark] for mark in self.used})


def _read(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(zip(json.loads(file.metadata()["fingerprints"]), file.get_tensor("features"), strict=True))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return {}  # a cache that is missing or torn is measured anew


def _write(path: Path, features: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    marks = sorted(features)
    stacked = np.stack([features[mark] for mark in marks])
    write_bytes_atomic(path, save({"features": stacked}, {"fingerprints": json.dumps(marks)}))
