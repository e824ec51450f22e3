"""What negatives are named in words is neither a class nor anything that figures are measured or choices made on."""

from __future__ import annotations

import itertools

import pytest

from partsynth.rendering import captions, catalog, development, negatives
from partsynth.rendering.catalog import MARGIN, TARGETS, all_variants, corpus_variants, distance

TARGET_FAMILIES = sorted({target.family for target in TARGETS})
NEAR = [*itertools.chain(*catalog.NEAR_OOD.values()), *itertools.chain(*development.NEAR_OOD.values())]


@pytest.mark.parametrize("family", TARGET_FAMILIES)
def test_allowed_variants_are_away_from_all_that_is_measured_and_in_the_corpus(family) -> None:
    found = negatives.allowed(family)
    assert len(found) >= 12
    assert min(distance(one, other) for one in found for other in (*TARGETS, *NEAR) if other.family == family) >= MARGIN
    assert set(found) <= set(corpus_variants())
    left_out = set(corpus_variants()) & set(all_variants(family)) - set(found)
    assert all(min(distance(one, other) for other in NEAR) < MARGIN for one in left_out)  # nothing is lost beside


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_targets_phrases_come_nearest_first_and_each_names_one_variant(target) -> None:
    described = {captions.describe(one.family, one.values): one for one in all_variants(target.family)}
    assert len(described) == len(all_variants(target.family))
    steps = [distance(described[phrase], target) for phrase in negatives.phrases(target)]
    assert steps == sorted(steps) and steps[0] >= MARGIN
    assert negatives.phrases(target, 3) == negatives.phrases(target)[:3]


def test_words_hold_every_target_and_what_is_not_listed_is_found() -> None:
    words = negatives.words(4)
    assert list(words) == [target.name for target in TARGETS] and not negatives.unlisted(words)
    near = catalog.NEAR_OOD["test"][2]
    bad = captions.describe(near.family, near.values)
    assert negatives.unlisted(words | {"gear_*": [bad, "gear with 16 teeth"]}) == [bad]
