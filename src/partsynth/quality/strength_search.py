"""Bisection of each class's strength for a median drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from partsynth.config.generation import Calibrate
from partsynth.config.sets import StrengthSet
from partsynth.core.drift.calibration import band_scores
from partsynth.errors import UserError
from partsynth.records.strengths import Probe

DIGITS = 6  # decimals kept of a drift: the rest differs between machines
FINE = 4  # decimals of a strength
Measure = Callable[[Mapping[str, float]], Mapping[str, Probe]]  # a strength per class -> what it gives


def limits(augmentation: StrengthSet, set_name: str, calibration: np.ndarray) -> tuple[float, float]:
    """Drift at which the set's target begins, and at which the search takes it to end.

    The far side is the cap, or the drift at the target's upper percentile, whichever is nearer. Without either it lies
    as far beyond the near side as the real validation images' 95th percentile of drift beyond their median.
    """
    where = f"sets.{set_name}"
    try:
        near, far = band(augmentation, calibration)
    except ValueError as error:
        raise UserError(f"{where}.target: {error}; widen it, or take more validation images") from None
    if near == -np.inf:
        near = float(calibration.min())
    if far == np.inf:
        far = near + float(np.quantile(calibration, 0.95) - np.median(calibration))
    if augmentation.cap is not None and augmentation.cap <= near:
        raise UserError(
            f"{where}.cap: {augmentation.cap:g} is not beyond the drift at which the target begins, {near:.3f} "
            f"(percentile {augmentation.target[0]:g} of {len(calibration)} real validation images)"
        )
    return near, far


def band(augmentation: StrengthSet, calibration: np.ndarray) -> tuple[float, float]:
    """Drift at which the target begins and ends; infinite where it does not."""
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


def messages(set_name: str, trails: Mapping[str, Sequence[Probe]], aim: float, ends: tuple[float, float]) -> list[str]:
    """A line per class, with a warning where its median lies outside the target ``ends`` (drift, may be infinite)."""
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
