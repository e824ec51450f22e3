"""Roles and ranges: nothing that is tested on may have been learnt from."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest

from partsynth.rendering import captions, catalog
from partsynth.rendering.catalog import CORPUS, FAR_OOD, MARGIN, NARROW, NEAR_OOD, SHIFTED, TARGETS, distance
from partsynth.rendering.geometry import BUILDERS
from partsynth.rendering.wear import MATERIALS, STATES


def test_every_family_can_be_built_and_named():
    assert set(catalog.CATALOG) == set(BUILDERS)
    for family, features in catalog.CATALOG.items():
        assert len({feature.code for feature in features.values()}) == len(features), family
        names = [v.name for v in catalog.all_variants(family)]
        assert len(set(names)) == len(names)


def test_corpus_keeps_its_distance():
    corpus = catalog.corpus_variants()
    nearest = min(distance(v, other) for v, other in itertools.product(corpus, catalog.held_out()))
    assert nearest >= MARGIN
    assert not {v.family for v in corpus} & catalog.NOT_IN_CORPUS


def test_target_families_stay_in_the_corpus():
    left = Counter(v.family for v in catalog.corpus_variants())
    assert all(left[v.family] >= 8 for v in TARGETS), left


def test_roles():
    families = Counter(v.family for v in TARGETS)
    assert len(families) == 4 and set(families.values()) == {3}
    assert len(NEAR_OOD["val"]) >= 4 and len(NEAR_OOD["test"]) >= 8
    assert {v.family for vs in NEAR_OOD.values() for v in vs} == set(families)
    far = {split: {v.family for v in variants} for split, variants in FAR_OOD.items()}
    assert len(far["val"]) >= 2 and len(far["test"]) >= 3
    assert not far["val"] & far["test"] and not (far["val"] | far["test"]) & set(families)
    everything = catalog.held_out()
    assert len(set(everything)) == len(everything)
    assert all(catalog.DEMO_MATERIAL[v.family] in MATERIALS for v in everything)


def test_close_variants_are_close():
    for a, b in itertools.combinations(TARGETS, 2):
        if a.family == b.family:
            assert distance(a, b) <= 2


def test_distance_counts_steps():
    v = catalog.variant
    assert distance(v("gear", 12, 4, 1), v("gear", 16, 4, 1)) == 1
    assert distance(v("gear", 12, 4, 1), v("gear", 20, 0, 0)) == 2 + 2 + 1
    assert distance(v("gear", 12, 4, 1), v("sprocket", 12, 4)) == float("inf")
    with pytest.raises(ValueError, match="allowed are"):
        v("gear", 13, 4, 1)


def _disjoint(first, second) -> bool:
    return all(a[1] < b[0] or b[1] < a[0] for a in first for b in second)


@pytest.mark.parametrize("field", ["light_azimuth", "light_elevation", "warmth"])
@pytest.mark.parametrize("seen", [NARROW, CORPUS], ids=["narrow", "corpus"])
def test_shifted_light_is_never_seen_before(seen, field):
    assert _disjoint(getattr(seen, field), getattr(SHIFTED, field))


@pytest.mark.parametrize("seen", [NARROW, CORPUS], ids=["narrow", "corpus"])
def test_shifted_cameras_are_never_seen_before(seen):
    assert all(_disjoint(a, b) for a in seen.camera_elevation for b in SHIFTED.camera_elevation)


def test_corpus_knows_all_states_and_narrow_none_of_the_shifted():
    assert {state for state, _ in CORPUS.states} == set(STATES)
    assert not {state for state, _ in NARROW.states} & {state for state, _ in SHIFTED.states}


@pytest.mark.parametrize("ranges", [NARROW, SHIFTED, CORPUS], ids=["narrow", "shifted", "corpus"])
def test_draws_stay_in_their_ranges(ranges):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        worn = catalog.draw_wear(ranges, rng)
        assert worn.state in dict(ranges.states)
        shots = catalog.draw_shots(ranges, rng)
        for k, camera in enumerate(catalog.CAMERAS):
            shot = dataclasses.asdict(shots[camera])
            for name in ("light_azimuth", "light_elevation", "warmth", "light_strength", "ambient", "exposure", "fill"):
                assert any(low <= shot[name] <= high for low, high in getattr(ranges, name)), name
            assert any(low <= shot["camera_elevation"] <= high for low, high in ranges.camera_elevation[k])
        assert shots["cam0"].yaw == shots["cam1"].yaw and shots["cam0"].light_azimuth == shots["cam1"].light_azimuth


def test_captions_lead_with_the_prompt_form_and_tell_the_truth():
    openings, total = 0, 0
    for seed, v in enumerate(catalog.corpus_variants()):
        rng = np.random.default_rng(seed)
        worn, shot = catalog.draw_wear(CORPUS, rng), catalog.draw_shots(CORPUS, rng)["cam0"]
        nouns = captions.FAMILY_WORDS.get(v.family, (v.family.replace("_", " "),))
        texts = [captions.caption(v.family, v.values, worn, shot, rng) for _ in range(10)]
        assert all(any(noun in text for noun in (*nouns, "part")) for text in texts)
        assert not any(other in text for other in set(STATES) - {worn.state} for text in texts)
        states = captions.STATE_WORDS[worn.state]
        openings += sum(
            text.startswith(f"a photo of {article} {s} ")
            for text in texts
            for article in ("a", "an")
            for s in set(states)
        )
        total += len(texts)
    assert openings / total > 0.3  # no other form comes near
    assert captions.feature_phrase("teeth", 12) == "12 teeth" and captions.feature_phrase("ears", 1) == "1 ear"
    assert captions.describe("gear", {"teeth": 12, "holes": 4, "hub": 0}) == "gear with 12 teeth and 4 holes"
