"""benchmarks/upper_bound.py: which variants it takes, and what its page says."""

from __future__ import annotations

import pytest
import upper_bound

from partsynth.rendering import catalog


@pytest.mark.parametrize("target", catalog.TARGETS, ids=lambda v: v.name)
def test_negatives_are_near_their_class_and_far_from_what_is_tested(target: catalog.Variant) -> None:
    found = upper_bound.variants_for(target.name)[:8]
    near_ood = [v for variants in catalog.NEAR_OOD.values() for v in variants]
    assert len(found) == 8 and {v.family for v in found} == {target.family}
    assert not set(found) & {*catalog.TARGETS, *near_ood}
    assert min(catalog.distance(v, other) for v in found for other in near_ood) >= catalog.MARGIN
    steps = [catalog.distance(v, target) for v in found]
    assert steps == sorted(steps) and steps[0] == 1


def test_the_page_has_a_row_per_amount_and_says_how_little_few_trainings_are() -> None:
    cell = {"mean": 0.046, "low": -0.01, "high": 0.1}
    found = {
        "command": "python benchmarks/upper_bound.py",
        "git_commit": "abc",
        "projects": 3,
        "initialisations": 1,
        "trainings": 3,
        "onto": "real_id",
        "amounts": [2, 8],
        "scope": "all",
        "weight": 1.0,
        "use_weight": 0.2,
        "negatives": 24,
        "margin": 2,
        "base": dict.fromkeys(upper_bound.SHOWN, 0.75),
        "differences": {str(n): dict.fromkeys(upper_bound.SHOWN, cell) for n in (2, 8)},
    }
    text = upper_bound.page(found)
    assert text.count("+4.6 (-1.0 to +10.0)") == 6 and "too few to tell" in text
    assert "weight of their use 0.2" in text and "their use" not in upper_bound.page(found | {"use_weight": None})
    assert "too few" not in upper_bound.page(found | {"trainings": 5})
    assert upper_bound.points(cell | {"low": None}) == "+4.6"
