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
    meant = [read for one in found for read in negatives.readings(one)]
    assert (
        min(distance(read, other) for read in meant for other in (*TARGETS, *NEAR) if other.family == family) >= MARGIN
    )
    assert set(found) <= set(corpus_variants()) & set(meant)
    left_out = set(corpus_variants()) & set(all_variants(family)) - set(found)
    for one in left_out:  # nothing is lost beside
        assert any(distance(read, other) < MARGIN for read in negatives.readings(one) for other in (*TARGETS, *NEAR))


def test_a_description_may_mean_what_it_does_not_say() -> None:
    plain = catalog.variant("gear", 12, 0, 0)
    assert {read.values["teeth"] for read in negatives.readings(plain)} == {12} and len(negatives.readings(plain)) == 15
    assert plain not in negatives.allowed("gear")  # "gear with 12 teeth" may be painted with a target's holes
    full = catalog.variant("gear", 12, 4, 1)
    assert negatives.readings(full) == [full]


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
    assert negatives.unlisted(words | {"gear_*": [bad, words["gear_t16_h4_u1"][0]]}) == [bad]
