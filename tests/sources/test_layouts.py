from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from partsynth.errors import UserError
from partsynth.sources.layouts import refuse_other_layouts, split_folders


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)


def test_splits_are_folders_of_class_folders(tmp_path):
    touch(tmp_path / "a", "Train/gear/1.png", "validation/gear/1.png", "masks/gear/1.png")
    assert split_folders(tmp_path / "a") == {"Train": "train", "validation": "val"}
    touch(tmp_path / "b", "train/1.png", "test/1.png")  # toy trains and test pieces
    assert split_folders(tmp_path / "b") == {}
    touch(tmp_path / "c", "train/gear/1.png", "bolt/gear/1.png")
    assert split_folders(tmp_path / "c") == {}
    touch(tmp_path / "d", "train/gear/1.png", "val/gear/1.png", "valid/gear/1.png")
    with pytest.raises(UserError, match="'val' and 'valid' both name the split val"):
        split_folders(tmp_path / "d")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train/good/1.png", "test/good/1.png", "test/broken/1.png", "ground_truth/broken/1_mask.png"], "MVTec AD"),
        (["images/1.png", "labels/1.png"], "YOLO"),
        (["train/images/1.png", "train/labels/1.png"], "YOLO"),
        (["JPEGImages/1.png", "Annotations/1.png"], "Pascal VOC"),
        (["images/1.png", "annotations/1.png"], "COCO"),
    ],
)
def test_layouts_of_other_tasks_are_named(tmp_path, names, said):
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=said) as caught:
        refuse_other_layouts(tmp_path)
    assert "folder per class" in str(caught.value) and "\n" not in str(caught.value)


def test_class_folders_one_folder_deeper_are_named(tmp_path):
    touch(tmp_path, "dataset/gear/1.png", "dataset/nut/1.png")
    with pytest.raises(UserError, match="one folder alone, 'dataset'"):
        refuse_other_layouts(tmp_path)
    touch(tmp_path, "bolt/1.png")
    refuse_other_layouts(tmp_path)


def test_class_folders_are_no_other_layout(tmp_path):
    touch(tmp_path, "good/1.png", "broken/1.png")
    refuse_other_layouts(tmp_path)
