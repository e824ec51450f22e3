"""Which parts may be named in words, as negatives of a demo's class, without naming what it is tested on.

A word-made negative must be no class of the demo, and none of the variants that near-OOD figures are measured on: each
feature step away from those counts, as for the corpus that the base model learned from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from partsynth.rendering import captions, catalog, development
from partsynth.rendering.catalog import MARGIN, Variant, distance


def kept_clear() -> tuple[Variant, ...]:
    """The variants that no negative may come near: all targets, and all near-OOD variants, those of validation and test
    and those that choices are made on."""
    roles = (*catalog.NEAR_OOD.values(), *development.NEAR_OOD.values())
    return (*catalog.TARGETS, *chain.from_iterable(roles))


def readings(one: Variant) -> list[Variant]:
    """The variants that a description may mean: no hub, no holes go without saying; captions leave features out."""
    said = {name: value for name, value in one.features if captions.feature_phrase(name, value)}
    return [other for other in catalog.all_variants(one.family) if said.items() <= other.values.items()]


def allowed(family: str) -> list[Variant]:
    """The variants of a family, by the catalogue's order, whose description means nothing nearer than MARGIN feature
    steps to what is kept clear. The corpus holds them, so the base model has seen what the words mean."""
    known, clear = set(catalog.corpus_variants()), kept_clear()
    return [
        one
        for one in catalog.all_variants(family)
        if one in known and all(distance(read, other) >= MARGIN for read in readings(one) for other in clear)
    ]


def phrases(target: Variant, most: int | None = None) -> list[str]:
    """Allowed variants of a target's family in the words of captions, the fewest feature steps from it first.

    Parameters
    ----------
    most : how many; None = all.

    >>> phrases(catalog.variant("flange", 6, 5, 1), 1)
    ['flange with 3 sides, 4 holes and a low hub']
    """
    near = sorted(allowed(target.family), key=lambda one: (distance(one, target), one.name))
    return [captions.describe(one.family, one.values) for one in near[:most]]


def words(most: int | None = None) -> dict[str, list[str]]:
    """The targets' names and phrases, as ``sets.<name>.words`` takes them."""
    return {target.name: phrases(target, most) for target in catalog.TARGETS}


def unlisted(words: Mapping[str, Sequence[str]]) -> list[str]:
    """Of ``sets.<name>.words`` the phrases that describe no allowed variant: each may name what must be kept clear."""
    listed = {captions.describe(one.family, one.values) for family in catalog.CATALOG for one in allowed(family)}
    return sorted({phrase for phrases in words.values() for phrase in phrases} - listed)
