from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partsynth.config.data import Ingest
from partsynth.errors import UserError
from partsynth.sources.base import Found
from partsynth.sources.folder import MEMBER


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)


def read(root: Path, classes: list[str] | None = None, pattern: str | None = None, **params) -> Found:
    return MEMBER.read(root, classes, Ingest(source="folder", group_pattern=pattern, **params))


def reasons(found) -> str:
    return "\n".join(f"{f.name}: {f.reason}" for f in found.faults)


def test_classes_images_and_masks_by_name(tmp_path):
    touch(tmp_path, "b/2.JPG", "b/1.png", "a/x.png", "a/x_mask.png", "a/deep/y.png", "a/masks/deep/y.png")
    touch(tmp_path, "masks/b/1_mask.png", "b/.hidden.png", ".git/z.png")
    found = read(tmp_path)
    assert not found.faults
    assert [(p.name, p.class_name, p.mask) for p in found.photos] == [
        ("a/deep/y.png", "a", "a/masks/deep/y.png"),
        ("a/x.png", "a", "a/x_mask.png"),
        ("b/1.png", "b", "masks/b/1_mask.png"),
        ("b/2.JPG", "b", ""),
    ]


def test_mask_pairs_by_name_not_by_position(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png", "a/3.png", "a/1_mask.png", "a/3_mask.png", "b/1.png")
    masks = {p.name: p.mask for p in read(tmp_path).photos}
    assert masks == {"a/1.png": "a/1_mask.png", "a/2.png": "", "a/3.png": "a/3_mask.png", "b/1.png": ""}


def test_group_pattern_names_a_spot_across_classes(tmp_path):
    names = ["pitted/01_9_560000_000_crop_2.jpg", "clean/01_1_560000_000_crop_1.jpg", "old/KGT1-S-060-A02_crop_0.jpg"]
    touch(tmp_path, *names)
    found = read(tmp_path, pattern=r"(\d+_\d+)_crop|/(KGT\d+)-[A-Z]-\d+-(A\d+)_crop")
    groups = {p.name: p.group for p in found.photos}
    assert [groups[n] for n in names] == ["560000_000", "560000_000", "KGT1-A02"]


def test_no_pattern_makes_each_photograph_its_own_group(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    assert [p.group for p in read(tmp_path).photos] == ["a/1.png", "b/1.png"]


def test_faults_are_all_named(tmp_path):
    touch(tmp_path, "a/1.png", "a/2_mask.png", "loose.png", "Gear/1.png", "gear/1.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "1.cr3").write_bytes(b"x")
    text = reasons(read(tmp_path, pattern=r"a/(\d)"))
    for part in (
        "loose.png: lies outside",
        "empty: no picture in this class (nothing found",
        "phone: no picture in this class (1 .cr3 found",
        "a/2_mask.png: a mask without its picture",
        "names the same class as the folder 'Gear'",
        "Gear/1.png: ingest.group_pattern",
    ):
        assert part in text


def test_an_unknown_class_lists_what_is_there(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    found = read(tmp_path, classes=["a", "c"])
    assert [p.class_name for p in found.photos] == ["a"]
    assert "c: no such class folder; there are: a, b" in reasons(found)
    assert all(f.fatal for f in found.faults)


def test_a_file_name_alone_is_a_group_of_its_own_class(tmp_path):
    touch(tmp_path, "a/000.png", "b/000.png", "b/0_spot7.png", "a/1_spot7.png")
    groups = {p.name: p.group for p in read(tmp_path, pattern=r"/(?:\d_(spot\d)|(.+)$)").photos}
    assert groups == {
        "a/000.png": "a/000.png",
        "b/000.png": "b/000.png",
        "b/0_spot7.png": "spot7",
        "a/1_spot7.png": "spot7",
    }


def test_copies_of_an_export_tool_share_a_group(tmp_path):
    copies = [f"a/IMG_1_jpg.rf.{mark * 16}.jpg" for mark in ("a1", "b2")]
    touch(tmp_path, *copies, "a/IMG_2_jpg.rf.0123456789abcdef.jpg", "a/x.rf.jpg")
    assert [p.group for p in read(tmp_path).photos] == ["a/IMG_1_jpg", "a/IMG_1_jpg", "a/IMG_2_jpg", "a/x.rf.jpg"]


def test_split_folders_give_the_splits(tmp_path):
    touch(
        tmp_path, "train/gear/1.png", "valid/gear/1.png", "Test/gear/1.png", "shifted/gear/1.png", "train/nut/x/2.png"
    )
    touch(tmp_path, "train/masks/nut/x/2.png")
    found = read(tmp_path)
    assert not found.faults and found.folders == {"gear": "gear", "nut": "nut"}
    assert {p.name: (p.class_name, p.split, p.mask) for p in found.photos} == {
        "Test/gear/1.png": ("gear", "test", ""),
        "shifted/gear/1.png": ("gear", "shifted", ""),
        "train/gear/1.png": ("gear", "train", ""),
        "train/nut/x/2.png": ("nut", "train", "train/masks/nut/x/2.png"),
        "valid/gear/1.png": ("gear", "val", ""),
    }
    assert len({p.group for p in found.photos}) == 5  # 1.png of one split is no part of another's
    assert {p.class_name for p in read(tmp_path, ["nut"]).photos} == {"nut"}
    assert "bolt: no such class folder; there are: nut" in reasons(read(tmp_path, ["nut", "bolt"]))


def test_shifted_photographs_lie_elsewhere(tmp_path):
    touch(tmp_path / "here", "gear/1.png", "nut/1.png")
    touch(tmp_path / "there", "gear/1.png", "gear/1_mask.png", "bolt/1.png")
    found = read(tmp_path / "here", shifted=str(tmp_path / "there"))
    shifted = [p for p in found.photos if p.split == "shifted"]
    assert [(p.name, p.class_name, p.mask) for p in shifted] == [
        ("shifted/gear/1.png", "gear", "shifted/gear/1_mask.png")
    ]
    assert shifted[0].path(tmp_path / "here") == tmp_path / "there/gear/1.png"
    assert shifted[0].mask_path(tmp_path / "here") == tmp_path / "there/gear/1_mask.png"
    assert [left.name for left in found.left] == ["shifted/bolt"]
    assert [p.split for p in found.photos if p not in shifted] == [None, None]
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "here", shifted=str(tmp_path / "nowhere"))
    touch(tmp_path / "here", "shifted/1.png")
    with pytest.raises(UserError, match="a folder 'shifted' of its own"):
        read(tmp_path / "here", shifted=str(tmp_path / "there"))


def test_without_masks_their_names_mean_nothing(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    touch(tmp_path, "gear/1_mask.png", "gear/masks/2.png")  # of one colour, whose photographs were sorted out
    for name in ("gear/1.png", "gear/gas_mask.png", "masks/ffp2.png", "masks/gas_mask.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise.save(tmp_path / name)
    found = read(tmp_path, masks="none")
    assert not found.faults
    assert [p.name for p in found.photos] == ["gear/1.png", "gear/gas_mask.png", "masks/ffp2.png", "masks/gas_mask.png"]
    assert [left.name for left in found.left] == ["gear/1_mask.png", "gear/masks/2.png"]
    touch(tmp_path, "masks/gear/1.png")
    assert found.photos[:2] == read(tmp_path, masks="none").photos
