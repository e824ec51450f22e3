"""Photographs of other things beside the source's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partsynth.config.data import Ingest, Ood
from partsynth.errors import UserError
from partsynth.sources.far import read_far
from partsynth.sources.find import find


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, (8, 8, 3), np.uint8)).save(root / name)


def test_class_folders_or_none(tmp_path):
    touch(tmp_path, "steel/rust/1.png", "steel/rust/deep/2.png", "steel/ash/1.png", "steel/loose.png", "steel/.x/3.png")
    (tmp_path / "steel/rust/notes.txt").touch()
    found = read_far(tmp_path / "steel", ["gear"])
    assert not found.faults and [left.name for left in found.left] == ["far/.x", "far/rust/notes.txt"]
    assert [(p.name, p.class_name) for p in found.photos] == [
        ("far/ash/1.png", "ash"),
        ("far/loose.png", "steel"),
        ("far/rust/1.png", "rust"),
        ("far/rust/deep/2.png", "rust"),
    ]
    assert {p.role for p in found.photos} == {"far_ood"} and len({p.group for p in found.photos}) == 4
    assert found.photos[0].path(tmp_path / "elsewhere") == tmp_path / "steel/ash/1.png"


def test_masks_are_left_out_by_content(tmp_path):
    touch(tmp_path, "a/1.png", "a/gas_mask.png")
    Image.new("L", (8, 8)).save(tmp_path / "a/1_mask.png")
    found = read_far(tmp_path, [])
    assert [p.name for p in found.photos] == ["far/a/1.png", "far/a/gas_mask.png"]
    assert [left.kind for left in found.left] == ["masks (far-OOD has none)"]


def test_what_cannot_be_far_is_named(tmp_path):
    touch(tmp_path, "there/Gear/1.png")
    (tmp_path / "empty").mkdir()
    assert "is a class of the source too" in read_far(tmp_path / "there", ["gear"]).faults[0].reason
    for name in ("nowhere", "empty"):
        with pytest.raises(UserError, match=f"ood.far: .*{name}"):
            read_far(tmp_path / name, [])


def test_they_come_beside_the_source_s_own(tmp_path):
    touch(tmp_path, "raw/gear/1.png", "raw/nut/1.png", "there/ash/1.png")
    found = find(tmp_path / "raw", Ingest(source="folder"), Ood(far="there"), tmp_path)
    assert [(p.name, p.role) for p in found.photos] == [
        ("gear/1.png", "target"),
        ("nut/1.png", "target"),
        ("far/ash/1.png", "far_ood"),
    ]


def test_a_limit_takes_the_same_images_evenly_over_classes(tmp_path):
    touch(tmp_path, *(f"a/{i}.png" for i in range(9)), *(f"b/{i}.png" for i in range(2)), "c/0.png")
    found = read_far(tmp_path, [], 7)
    kinds = [photo.class_name for photo in found.photos]
    assert {kind: kinds.count(kind) for kind in "abc"} == {"a": 4, "b": 2, "c": 1}
    assert len(found.left) == 5 and {left.kind for left in found.left} == {"beyond the 7 of ood.far_images"}
    assert read_far(tmp_path, [], 7).photos == found.photos
    names = {photo.name for photo in found.photos}
    assert names > {photo.name for photo in read_far(tmp_path, [], 6).photos}  # a larger limit keeps what it had
    assert read_far(tmp_path, [], 12).photos == read_far(tmp_path, []).photos
