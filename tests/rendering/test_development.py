"""What choices are made on has nothing in common with what the benchmark tests: neither variants nor ranges."""

import hashlib
import itertools

import pytest

from partsynth.config.data import Render
from partsynth.rendering import catalog, development
from partsynth.rendering.catalog import CORPUS, MARGIN, NARROW, TARGETS, corpus_variants, distance
from partsynth.rendering.dataset import plan

FEW = dict.fromkeys(("train", "val", "test", "shifted", "near_val", "near_test", "far_val", "far_test"), 1)


def _all(roles):
    return [variant for variants in roles.values() for variant in variants]


NEAR, FAR = _all(development.NEAR_OOD), _all(development.FAR_OOD)


def test_near_variants_are_as_near_as_the_benchmarks_and_none_of_them():
    assert len({*NEAR, *TARGETS, *_all(catalog.NEAR_OOD)}) == len(NEAR) + len(TARGETS) + len(_all(catalog.NEAR_OOD))
    for role in ("val", "test"):
        ours, theirs = development.NEAR_OOD[role], catalog.NEAR_OOD[role]
        assert [v.family for v in ours] == [v.family for v in theirs]
        for variants in (ours, theirs):
            assert {min(distance(v, target) for target in TARGETS) for v in variants} == {1}


def test_far_variants_are_other_things_and_not_close_to_the_benchmarks():
    theirs = _all(catalog.FAR_OOD)
    families = {role: {v.family for v in variants} for role, variants in development.FAR_OOD.items()}
    assert not families["val"] & families["test"]
    assert not (families["val"] | families["test"]) & {v.family for v in TARGETS}
    assert min(distance(a, b) for a, b in itertools.product(FAR, theirs)) >= MARGIN
    assert len(set(FAR)) == len(FAR) == len(theirs)


def test_the_base_model_has_not_learned_what_could_be_left_out():
    corpus = set(corpus_variants())
    assert not corpus & set(NEAR)
    assert {v.family for v in FAR if v in corpus} == {"lever", "bearing", "exhaust"}  # as the docstring says
    digest = hashlib.sha256(" ".join(v.name for v in corpus_variants()).encode()).hexdigest()
    assert digest[:12] == "23ebf63b3eef"  # what models/base was trained on: development variants change nothing of it


def _disjoint(first, second) -> bool:
    return all(a[1] < b[0] or b[1] < a[0] for a in first for b in second)


@pytest.mark.parametrize("field", ["light_azimuth", "light_elevation", "warmth"])
@pytest.mark.parametrize("seen", [NARROW, CORPUS, catalog.SHIFTED], ids=["narrow", "corpus", "shifted"])
def test_light_is_of_its_own(seen, field):
    assert _disjoint(getattr(seen, field), getattr(development.SHIFTED, field))


@pytest.mark.parametrize("seen", [NARROW, CORPUS, catalog.SHIFTED], ids=["narrow", "corpus", "shifted"])
def test_cameras_are_of_their_own(seen):
    ours = development.SHIFTED.camera_elevation
    assert all(_disjoint(a, b) for a in seen.camera_elevation for b in ours)


@pytest.mark.parametrize("seen", [NARROW, catalog.SHIFTED], ids=["narrow", "shifted"])
def test_place_and_wear_are_of_their_own(seen):
    assert not set(development.SHIFTED.backgrounds) & set(seen.backgrounds)
    assert _disjoint(development.SHIFTED.severity, seen.severity)
    assert dict(development.SHIFTED.states).keys() != dict(seen.states).keys()


def test_roles_change_the_test_and_nothing_that_is_trained_on():
    theirs = {i.path: i for i in plan(Render(seed=3, instances=FEW))}
    ours = {i.path: i for i in plan(Render(seed=3, instances=FEW, roles="development"))}

    def of(images, role, *splits):
        return {path: i for path, i in images.items() if i.role == role and i.split in splits}

    assert of(ours, "target", "train", "val", "test") == of(theirs, "target", "train", "val", "test")
    shifted = of(ours, "target", "shifted")
    assert shifted.keys() == of(theirs, "target", "shifted").keys()
    assert {i.shot.background for i in shifted.values()} == set(development.SHIFTED.backgrounds)
    for role, variants in (("near_ood", NEAR), ("far_ood", FAR)):
        assert {i.variant for i in of(ours, role, "val", "test").values()} == set(variants)
        assert not of(ours, role, "val", "test").keys() & theirs.keys()


def test_the_benchmarks_roles_are_the_default_and_leave_no_trace_in_identities():
    assert "roles" not in Render().model_dump()
    assert Render(roles="development").model_dump()["roles"] == "development"
    assert plan(Render(instances=FEW)) == plan(Render(instances=FEW, roles="benchmark"))
