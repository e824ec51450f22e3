"""The embedded data set: which images there are, and which stay as another thing changes."""

from __future__ import annotations

import pytest

from partsynth.config.data import Render, RenderInstances
from partsynth.errors import UserError
from partsynth.rendering import dataset

ONE = RenderInstances(train=1, val=1, test=1, shifted=1, near_val=1, near_test=1, far_val=1, far_test=1)
TARGET = "gear_t12_h4_u1"


def settings(**changes: object) -> Render:
    return Render.model_validate({"size": 32, "samples": 1, "instances": ONE, "classes": [TARGET], **changes})


def test_the_default_plan_is_the_demo() -> None:
    images = dataset.plan(Render())
    count = {}
    for image in images:
        count[image.role, image.split] = count.get((image.role, image.split), 0) + 1
    assert count["target", "train"] == 12 * 16
    assert count["near_ood", "test"] >= 300 and count["far_ood", "test"] >= 300
    assert count["near_ood", "val"] >= 96 and count["far_ood", "val"] >= 96
    assert len({p.path for p in images}) == len(images) <= 1750
    groups = {}
    for image in images:
        groups.setdefault(image.group, []).append(image)
    for pair in groups.values():
        assert [p.camera for p in sorted(pair, key=lambda p: p.camera)] == ["cam0", "cam1"]
        assert len({(p.split, p.part_seed, p.wear) for p in pair}) == 1
    seeds = [pair[0].part_seed for pair in groups.values()]
    assert len(set(seeds)) == len(seeds)  # no physical part comes back in another split


def test_adding_a_class_changes_no_other_image() -> None:
    alone = {p.path: p for p in dataset.plan(settings())}
    both = {p.path: p for p in dataset.plan(settings(classes=[TARGET, "gear_t12_h5_u1"]))}
    assert alone.items() <= both.items()
    assert all(p.variant.name == "gear_t12_h5_u1" for path, p in both.items() if path not in alone)


def test_a_replicate_redraws_training_and_validation_images_alone() -> None:
    first, other = (
        {p.path.split("/yaw")[0]: p for p in dataset.plan(settings(seed=seed, test_seed=7))} for seed in (1, 2)
    )
    assert len(first) < len(dataset.plan(settings()))  # a training part's two cameras share a folder
    for path, image in first.items():
        redrawn = image.role == "target" and image.split in ("train", "val")
        assert (other[path].part_seed != image.part_seed) == redrawn
        assert (other[path].shot != image.shot) == redrawn
    assert dataset.plan(settings(seed=3)) == dataset.plan(settings(seed=3, test_seed=3))
    assert dataset.plan(settings(seed=3)) != dataset.plan(settings(seed=3, test_seed=0))  # 0 is a seed, not null


def test_unknown_classes_are_listed_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"gear_t99.*gear_t12_h4_u1"):
        dataset.plan(settings(classes=["gear_t99"]))
