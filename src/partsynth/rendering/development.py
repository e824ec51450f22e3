"""Renders to choose on (``render.roles: development``): OOD variants and a shift that the benchmark's do not share.

Targets are the benchmark's, as they are what is trained on. The near-OOD variants lie one feature step from a target,
as those of the benchmark, hence outside the base model's corpus. So do the far-OOD crankshafts and impellers, here at
least two steps from the benchmark's. Levers, bearings and exhausts lie in the corpus, as no other family is left out of
it: the base model and the encoder that judges edits know them, an encoder that is trained on the targets does not.
"""

from __future__ import annotations

from partsynth.rendering.catalog import Ranges, variant

NEAR_OOD = {
    "val": (
        variant("alternator", 6, 4, 2),
        variant("gear", 16, 3, 1),
        variant("flange", 6, 5, 2),
        variant("pump", 3, 2, 8),
    ),
    "test": (
        variant("alternator", 4, 3, 2),
        variant("alternator", 12, 3, 2),
        variant("gear", 10, 4, 1),
        variant("gear", 20, 4, 1),
        variant("flange", 32, 3, 1),
        variant("flange", 4, 5, 1),
        variant("pump", 5, 2, 4),
        variant("pump", 3, 1, 6),
    ),
}
FAR_OOD = {
    "val": (variant("crankshaft", 1, 1), variant("crankshaft", 2, 0), variant("lever", 3, 1), variant("lever", 4, 2)),
    "test": (
        variant("impeller", 4, 1),
        variant("impeller", 5, 0),
        variant("bearing", 8, 3),
        variant("bearing", 10, 0),
        variant("exhaust", 4, 1),
        variant("exhaust", 5, 2),
    ),
}
# another place and more wear, as in catalog.SHIFTED, but none of its ranges: cold light from lower lamps, cameras that
# look lower or from the top, cloth and mat in place of benches. Light and cameras lie outside the corpus too; all six
# workplaces and all wear are in it. Rust, the benchmark's commonest state, is absent.
SHIFTED = Ranges(
    states=(("used", 0.4), ("dirty", 0.35), ("broken", 0.25)),
    severity=((0.52, 0.65),),
    light_azimuth=((191, 199), (251, 259)),
    light_elevation=((28, 33),),
    warmth=((-0.5, -0.3),),
    light_strength=((0.9, 1.2),),
    ambient=((0.7, 1.0),),
    camera_elevation=(((38, 40),), ((81, 83),)),
    camera_azimuth=(((-8, 8),), ((35, 45),)),
    backgrounds=("blue cloth", "green mat"),
    exposure=((-0.2, 0.2),),
)
