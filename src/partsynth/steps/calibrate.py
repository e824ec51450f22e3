"""Stage ``calibrate``: how strongly a set edits each class, found on a few pictures before all are made.

A strength given in params.yaml is passed on, at once. For ``strength: auto`` each class's strength is bisected until the
median drift of a few edits lies in the middle of the set's target. Edits and drift are those of generate and quality
(``editing``, ``measuring``). Each round's features are kept by the edits' fingerprints: a killed search goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from partsynth.params import AugmentationSet, Calibrate, Diffusion, Generate, Quality, Reference
from partsynth.records import (
    AugmentedRecord,
    ClassStrength,
    Probe,
    RealRecord,
    Strengths,
    UserError,
    locate_base,
    read_manifest,
    write_bytes_atomic,
    write_json,
)

if TYPE_CHECKING:
    from partsynth.measuring import Encoder

DIGITS = 6  # decimals kept of a drift: the rest differs between machines
FINE = 4  # decimals of a strength

Measure = Callable[[Mapping[str, float]], Mapping[str, Probe]]  # a strength a class -> what it gives


def run(
    params: Calibrate,
    generate: Generate,
    diffusion: Diffusion,
    quality: Quality,
    reference: Reference,
    augmentation: AugmentationSet,
    set_name: str,
    real: Path,
    tokens: Path,
    out: Path,
    root: Path,
) -> None:
    """Write the set's strength for every class of ``real`` to ``out`` (JSON).

    Raises
    ------
    UserError
        where there is nothing to edit or to calibrate on, where the target cannot be reached by any drift, and where
        tokens, masks or models are missing.
    """
    rows = read_manifest(real / "manifest.csv", RealRecord)
    classes = sorted({row.class_name for row in rows if row.split == "train" and row.role == "target"})
    if not classes:
        raise UserError(f"{real / 'manifest.csv'} has no training pictures to edit")
    if augmentation.strength != "auto":
        given = {name: ClassStrength(strength=augmentation.strength) for name in classes}
        write_json(out, Strengths(set_name=set_name, classes=given))
        print(f"calibrate {set_name}: strength {augmentation.strength}, as given")
        return
    out.unlink(missing_ok=True)
    probes = Probes(params, generate, diffusion, quality, reference, augmentation, set_name, rows, real, tokens, root)
    near, far = limits(augmentation, set_name, probes.calibration.drift)
    aim = round((near + far) / 2, DIGITS)
    trails = search(classes, aim, params, probes.measure)
    probes.keep_only_used()
    found = {
        name: ClassStrength(strength=chosen(trail, aim).strength, trail=trail) for name, trail in trails.items()
    }
    count, ends = len(probes.calibration.drift), (round(near, DIGITS), round(far, DIGITS))
    write_json(
        out, Strengths(set_name=set_name, calibration_n=count, near=ends[0], far=ends[1], aim=aim, classes=found)
    )
    for line in told(set_name, augmentation, trails, aim, probes.ends):
        print(line)


# --- the search ---------------------------------------------------------------------------------------------------


def limits(augmentation: AugmentationSet, set_name: str, calibration: np.ndarray) -> tuple[float, float]:
    """Drift at which the set's target begins, and at which the search takes it to end.

    The far side is the cap, or the drift at the target's upper percentile, whichever is nearer. Without either it lies
    as far beyond the near side as the real validation pictures' 95th percentile of drift beyond their median.
    """
    where = f"sets.{set_name}"
    try:
        near, far = band(augmentation, calibration)
    except ValueError as error:
        raise UserError(f"{where}.target: {error}; widen it, or take more validation pictures") from None
    if near == -np.inf:
        near = float(calibration.min())
    if far == np.inf:
        far = near + float(np.quantile(calibration, 0.95) - np.median(calibration))
    if augmentation.cap is not None and augmentation.cap <= near:
        raise UserError(
            f"{where}.cap: {augmentation.cap:g} is not beyond the drift at which the target begins, {near:.3f} "
            f"(percentile {augmentation.target[0]:g} of {len(calibration)} real validation pictures)"
        )
    return near, far


def band(augmentation: AugmentationSet, calibration: np.ndarray) -> tuple[float, float]:
    """Drift at which the target begins and ends; infinite where it does not."""
    from partsynth.kernel.drift import band_scores

    near, far = band_scores(*augmentation.target, calibration)
    return near, min(far, np.inf if augmentation.cap is None else augmentation.cap)


def search(classes: Sequence[str], aim: float, params: Calibrate, measure: Measure) -> dict[str, list[Probe]]:
    """Bisect each class's strength for the drift ``aim``; an end is tried where all else lies on its far side."""
    trails: dict[str, list[Probe]] = {name: [] for name in classes}
    for number in range(params.rounds):
        print(f"calibrate: round {number + 1} of {params.rounds}")
        for name, probe in measure({name: _middle(trail, aim, params) for name, trail in trails.items()}).items():
            trails[name].append(probe)
    ends = {name: end for name, trail in trails.items() if (end := _end(trail, aim, params)) is not None}
    if ends:
        for name, probe in measure(ends).items():
            trails[name].append(probe)
    return trails


def _middle(trail: Sequence[Probe], aim: float, params: Calibrate) -> float:
    low = max((p.strength for p in trail if p.drift < aim), default=params.min)
    high = min((p.strength for p in trail if p.drift >= aim), default=params.max)
    return round((low + high) / 2, FINE)


def _end(trail: Sequence[Probe], aim: float, params: Calibrate) -> float | None:
    if all(p.drift < aim for p in trail):
        return params.max
    return params.min if all(p.drift >= aim for p in trail) else None


def chosen(trail: Sequence[Probe], aim: float) -> Probe:
    """The probe whose drift is nearest the aim; where none crossed it, the end, which was tried last."""
    if len({p.drift < aim for p in trail}) == 1:
        return trail[-1]
    return min(trail, key=lambda p: (abs(p.drift - aim), p.strength))


def told(
    set_name: str,
    augmentation: AugmentationSet,
    trails: Mapping[str, Sequence[Probe]],
    aim: float,
    ends: tuple[float, float],
) -> list[str]:
    """A line a class, with a warning where its median lies outside the target ``ends`` (drift, may be infinite)."""
    lines = []
    for name, trail in sorted(trails.items()):
        probe = chosen(trail, aim)
        lines.append(
            f"calibrate {set_name}: {name}: strength {probe.strength:g}, median drift {probe.drift:.2f} "
            f"(aim {aim:.2f}), {probe.in_band:.0%} in the target"
        )
        if probe.drift < ends[0]:
            lines.append(f"calibrate {set_name}: warning: {name} stays inside its class even at {probe.strength:g}")
        elif probe.drift > ends[1]:
            lines.append(f"calibrate {set_name}: warning: {name} lies beyond its target already at {probe.strength:g}")
    return lines


# --- probes -------------------------------------------------------------------------------------------------------


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
        from partsynth import editing, measuring

        limit = min(params.sources, generate.max_sources or params.sources)
        self.sources = editing.drawn_sources(rows, generate.seed, limit)
        self.location, base = locate_base(diffusion.model, diffusion.revision, root)
        self.tokens = editing.learned_tokens(tokens, sorted({r.class_name for r in self.sources}), base)
        self.root, self.diffusion, self.augmentation, self.quality = root, diffusion, augmentation, quality
        # the very pictures that generate makes as each source's first, but for their strength
        first = augmentation.model_copy(update={"variants": 1})
        self._plan = lambda sources, strengths: editing.plan(
            generate, diffusion, first, set_name, sources, self.tokens, strengths, base, "probes", root
        )
        parts = measuring.real_parts(real)
        self.embed: Encoder = measuring.Encoder(reference, root)
        known, views = measuring.measure_real(parts, quality.calibration, root, self.embed)
        self.bank, self.calibration = measuring.calibrated(parts, known.features, quality.neighbours, views)
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
        from partsynth.kernel import drift
        from partsynth.measuring import columns

        rows = self._plan([s for s in self.sources if s.class_name in strengths], strengths)
        self._make([row for row in rows if row.fingerprint not in self.features])
        self.used |= {row.fingerprint for row in rows}
        features = np.stack([self.features[row.fingerprint] for row in rows])
        names, classes, groups = columns(rows)
        distances = drift.class_distances(features, names, groups, self.bank, self.quality.neighbours)
        drifts = drift.drift_scores(distances, classes, self.bank.kinds, self.calibration)
        percentiles = drift.conformal_percentiles(drifts, self.calibration.drift)
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
        from partsynth import editing

        if not rows:
            return
        if self._model is None:
            self._model = editing.load_model(self.location, self.diffusion)
        sources = {s.path: s for s in self.sources}
        made = list(editing.paint(self._model, rows, sources, self.tokens, self.root, mixed=True))
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
