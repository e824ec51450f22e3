"""Which parts exist, which role each plays, and in which ranges their images are taken.

The demo's targets are close variants of four families. What it must tell apart from them (near and far OOD) and the
shift it is tested under stay out of the corpus that the base model learns from: variants by a margin in feature
steps, shifted light and cameras by disjoint numeric ranges.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from partsynth.rendering.scene import BACKGROUNDS, Shot
from partsynth.rendering.wear import MATERIALS, STATES, Wear

CAMERAS = ("cam0", "cam1")
MARGIN = 2  # corpus variants differ from every held-out one by at least this many feature steps


@dataclass(frozen=True)
class Feature:
    """A discrete property: its allowed values in the order of their steps, and its letter in class names."""

    code: str
    values: tuple[int, ...]


# hub: 0 none, 1 low, 2 tall; sides 32 is round; collar, rim and wheel: 0 without, 1 with
CATALOG: dict[str, dict[str, Feature]] = {
    "alternator": {
        "slots": Feature("s", (4, 6, 8, 12)),
        "ears": Feature("e", (1, 2, 3, 4)),
        "grooves": Feature("g", (1, 2, 3)),
    },
    "gear": {
        "teeth": Feature("t", (8, 10, 12, 16, 20)),
        "holes": Feature("h", (0, 3, 4, 5, 6)),
        "hub": Feature("u", (0, 1, 2)),
    },
    "flange": {
        "sides": Feature("n", (3, 4, 6, 32)),
        "holes": Feature("h", (3, 4, 5, 6, 8)),
        "hub": Feature("u", (0, 1, 2)),
    },
    "pump": {"ears": Feature("e", (2, 3, 4, 5)), "ports": Feature("p", (1, 2, 3)), "bolts": Feature("b", (3, 4, 6, 8))},
    "brake_disc": {"slots": Feature("s", (0, 6, 9, 12)), "bolts": Feature("b", (3, 4, 5, 6))},
    "starter": {"bands": Feature("b", (0, 1, 2, 3)), "ears": Feature("e", (1, 2, 3))},
    "bracket": {"ribs": Feature("r", (0, 1, 2)), "holes": Feature("h", (2, 3, 4)), "eyes": Feature("y", (0, 1, 2))},
    "shaft": {
        "steps": Feature("s", (2, 3, 4, 5)),
        "keyways": Feature("k", (0, 1, 2, 3)),
        "collar": Feature("c", (0, 1)),
    },
    "pulley": {"grooves": Feature("g", (1, 2, 3)), "spokes": Feature("s", (0, 3, 4, 5, 6))},
    "bearing": {"balls": Feature("b", (6, 8, 10, 14)), "ears": Feature("e", (0, 2, 3, 4))},
    "valve": {"branches": Feature("b", (2, 3, 4)), "spokes": Feature("s", (3, 4, 5, 6))},
    "housing": {"bores": Feature("b", (1, 2, 3)), "bosses": Feature("s", (4, 6, 8))},
    "sprocket": {"teeth": Feature("t", (9, 12, 15, 18)), "windows": Feature("w", (0, 3, 4, 5, 6))},
    "lever": {"arms": Feature("a", (2, 3, 4, 5)), "eyes": Feature("y", (1, 2))},
    "exhaust": {"runners": Feature("r", (3, 4, 5, 6)), "outlets": Feature("o", (1, 2))},
    "impeller": {"blades": Feature("b", (4, 5, 6, 8)), "rim": Feature("r", (0, 1))},
    "crankshaft": {"throws": Feature("t", (1, 2, 3, 4)), "wheel": Feature("w", (0, 1))},
}


@dataclass(frozen=True)
class Variant:
    """One kind of part: a family and a value for each of its features, in the catalogue's order."""

    family: str
    features: tuple[tuple[str, int], ...]

    @property
    def values(self) -> dict[str, int]:
        return dict(self.features)

    @property
    def name(self) -> str:
        """A readable identifier, such as ``gear_t12_h4_u1``."""
        codes = CATALOG[self.family]
        return "_".join([self.family, *(f"{codes[name].code}{value}" for name, value in self.features)])


def variant(family: str, *values: int) -> Variant:
    """A variant from feature values in the catalogue's order; refuses what the catalogue does not allow."""
    features = CATALOG[family]
    if len(values) != len(features):
        raise ValueError(f"{family} has {len(features)} features ({', '.join(features)}), got {len(values)} values")
    for (name, feature), value in zip(features.items(), values, strict=True):
        if value not in feature.values:
            raise ValueError(f"{family} {name} is {value}, allowed are {feature.values}")
    return Variant(family, tuple(zip(features, values, strict=True)))


def distance(a: Variant, b: Variant) -> float:
    """Feature steps between two variants, summed over the features; infinite across families."""
    if a.family != b.family:
        return float("inf")
    return float(
        sum(
            abs(feature.values.index(a.values[name]) - feature.values.index(b.values[name]))
            for name, feature in CATALOG[a.family].items()
        )
    )


# ---- roles in the demo --------------------------------------------------------------------------------------------

TARGETS = (
    variant("alternator", 6, 2, 2),
    variant("alternator", 6, 3, 2),
    variant("alternator", 8, 3, 2),
    variant("gear", 12, 4, 1),
    variant("gear", 12, 5, 1),
    variant("gear", 16, 4, 1),
    variant("flange", 32, 4, 1),
    variant("flange", 32, 5, 1),
    variant("flange", 6, 5, 1),
    variant("pump", 3, 2, 4),
    variant("pump", 4, 2, 4),
    variant("pump", 3, 2, 6),
)
NEAR_OOD = {
    "val": (
        variant("alternator", 8, 4, 2),
        variant("gear", 12, 6, 1),
        variant("flange", 6, 4, 1),
        variant("pump", 4, 2, 6),
    ),
    "test": (
        variant("alternator", 4, 2, 2),
        variant("alternator", 8, 2, 2),
        variant("gear", 12, 3, 1),
        variant("gear", 16, 5, 1),
        variant("flange", 32, 6, 1),
        variant("flange", 6, 6, 1),
        variant("pump", 4, 1, 4),
        variant("pump", 3, 3, 4),
    ),
}
FAR_OOD = {
    "val": (
        variant("bracket", 1, 2, 1),
        variant("bracket", 2, 3, 0),
        variant("crankshaft", 3, 1),
        variant("crankshaft", 4, 0),
    ),
    "test": (
        variant("housing", 2, 6),
        variant("housing", 3, 8),
        variant("impeller", 6, 1),
        variant("impeller", 8, 0),
        variant("shaft", 3, 1, 1),
        variant("shaft", 4, 2, 0),
    ),
}
NOT_IN_CORPUS = frozenset({"crankshaft", "impeller"})
# one material for all variants of a family, so that colour does not give the class away
DEMO_MATERIAL = {
    "alternator": "aluminium",
    "gear": "steel",
    "flange": "cast iron",
    "pump": "blue painted",
    "bracket": "steel",
    "crankshaft": "cast iron",
    "housing": "aluminium",
    "impeller": "aluminium",
    "shaft": "steel",
    "lever": "cast iron",
    "bearing": "steel",
    "exhaust": "cast iron",
}


def held_out() -> tuple[Variant, ...]:
    """All variants that the corpus must not come near."""
    return (*TARGETS, *itertools.chain(*NEAR_OOD.values()), *itertools.chain(*FAR_OOD.values()))


def all_variants(family: str) -> list[Variant]:
    """Every allowed tuple of a family, in the catalogue's order."""
    values = (feature.values for feature in CATALOG[family].values())
    return [variant(family, *chosen) for chosen in itertools.product(*values)]


def corpus_variants() -> list[Variant]:
    """What the base model may learn from: every tuple at least MARGIN steps from each held-out one."""
    kept = held_out()
    return [
        v
        for family in CATALOG
        if family not in NOT_IN_CORPUS
        for v in all_variants(family)
        if all(distance(v, other) >= MARGIN for other in kept)
    ]


# ---- ranges of images -------------------------------------------------------------------------------------------

Interval = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """Where the settings of an image are drawn from: unions of intervals, units as in ``Shot`` and ``Wear``."""

    states: tuple[tuple[str, float], ...]  # state and weight
    severity: tuple[Interval, ...]
    light_azimuth: tuple[Interval, ...]
    light_elevation: tuple[Interval, ...]
    warmth: tuple[Interval, ...]
    light_strength: tuple[Interval, ...]
    ambient: tuple[Interval, ...]
    camera_elevation: tuple[tuple[Interval, ...], ...]  # one union of intervals a camera
    camera_azimuth: tuple[tuple[Interval, ...], ...]
    backgrounds: tuple[str, ...]
    exposure: tuple[Interval, ...]
    fill: tuple[Interval, ...] = ((0.80, 0.90),)


NARROW = Ranges(
    states=(("used", 0.6), ("brand new", 0.4)),
    severity=((0.1, 0.5),),
    light_azimuth=((20, 60),),
    light_elevation=((50, 65),),
    warmth=((0.0, 0.25),),
    light_strength=((0.9, 1.1),),
    ambient=((0.9, 1.1),),
    camera_elevation=(((48, 54),), ((60, 66),)),
    camera_azimuth=(((-8, 8),), ((35, 45),)),
    backgrounds=("grey workbench", "conveyor belt"),
    exposure=((-0.1, 0.1),),
)
SHIFTED = Ranges(
    states=(("rusty", 0.4), ("dirty", 0.35), ("broken", 0.25)),
    severity=((0.15, 0.4),),
    light_azimuth=((200, 250),),
    light_elevation=((34, 38),),
    warmth=((0.75, 1.0),),
    light_strength=((0.9, 1.2),),
    ambient=((0.7, 1.0),),
    camera_elevation=(((41, 43),), ((43, 45),)),
    camera_azimuth=(((-8, 8),), ((35, 45),)),
    backgrounds=("grey workbench", "conveyor belt", "wooden bench"),
    exposure=((-0.2, 0.2),),
)
CORPUS = Ranges(
    states=tuple((state, 1.0) for state in STATES),
    severity=((0.1, 1.0),),
    light_azimuth=((0, 190), (260, 360)),
    light_elevation=((42, 80),),
    warmth=((0.0, 0.65),),
    light_strength=((0.6, 1.3),),
    ambient=((0.7, 1.3),),
    camera_elevation=(((46, 80),), ((46, 80),)),
    camera_azimuth=(((-30, 60),), ((-30, 60),)),
    backgrounds=tuple(BACKGROUNDS),
    exposure=((-0.3, 0.3),),
    fill=((0.76, 0.92),),
)


def uniform(rng: np.random.Generator, intervals: tuple[Interval, ...]) -> float:
    """A number drawn uniformly from a union of intervals, rounded so that a manifest states it exactly."""
    lengths = np.array([high - low for low, high in intervals], dtype=float)
    low, high = intervals[rng.choice(len(intervals), p=lengths / lengths.sum())]
    return round(float(rng.uniform(low, high)), 4)


def draw_wear(ranges: Ranges, rng: np.random.Generator, material: str | None = None) -> Wear:
    """The wear of one physical part; a random material unless one is given."""
    names, weights = zip(*ranges.states, strict=True)
    state = str(rng.choice(names, p=np.array(weights) / sum(weights)))
    drawn = str(rng.choice(list(MATERIALS)))
    return Wear(state, uniform(rng, ranges.severity), material or drawn, int(rng.integers(2**31)))


def draw_shots(ranges: Ranges, rng: np.random.Generator) -> dict[str, Shot]:
    """One image per camera of a part as it lies: pose, light and workplace are shared, the view is not."""
    shared: dict[str, Any] = {
        "yaw": uniform(rng, ((0, 360),)),
        "light_azimuth": uniform(rng, ranges.light_azimuth),
        "light_elevation": uniform(rng, ranges.light_elevation),
        "light_strength": uniform(rng, ranges.light_strength),
        "warmth": uniform(rng, ranges.warmth),
        "ambient": uniform(rng, ranges.ambient),
        "background": str(rng.choice(ranges.backgrounds)),
        "background_seed": int(rng.integers(2**31)),
        "exposure": uniform(rng, ranges.exposure),
    }
    return {
        camera: Shot(
            camera_elevation=uniform(rng, ranges.camera_elevation[k]),
            camera_azimuth=uniform(rng, ranges.camera_azimuth[k]),
            fill=uniform(rng, ranges.fill),
            render_seed=int(rng.integers(2**31)),
            **shared,
        )
        for k, camera in enumerate(CAMERAS)
    }
