from __future__ import annotations

from itertools import pairwise

from partsynth.augmentation.sources import drawn_sources
from partsynth.records.rows import RealRecord


def real(name: str, i: int, **changes: str) -> RealRecord:
    told = {"path": f"data/real/train/{name}/{i}.png", "sha256": f"{name}{i}", "class_name": name, "split": "train"}
    return RealRecord.model_validate(told | {"group": f"{name}{i}", "source": "x", "source_sha256": "0"} | changes)


def test_fewer_sources_are_among_those_of_a_higher_limit() -> None:
    rows = [real(name, i) for name in ("b", "a") for i in range(6)]
    chosen = [{r.path for r in drawn_sources(rows, 0, limit)} for limit in (1, 3, 5, None)]
    assert [len(c) for c in chosen] == [2, 6, 10, 12] and all(a < b for a, b in pairwise(chosen))
    assert drawn_sources(rows[::-1], 0, 3) == drawn_sources(rows, 0, 3) != drawn_sources(rows, 1, 3)
    assert [r.class_name for r in drawn_sources(rows, 0, 2)] == ["a", "a", "b", "b"]


def test_training_images_of_the_target_classes_alone_are_edited() -> None:
    rows = [real("a", 0), real("a", 1, split="val"), real("a", 2, role="near_ood")]
    assert drawn_sources(rows, 0, None) == rows[:1]
