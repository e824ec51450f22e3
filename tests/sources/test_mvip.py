import json
from pathlib import Path

import pytest
from PIL import Image

from partsynth.config.data import Ingest
from partsynth.sources.base import Found
from partsynth.sources.mvip import MEMBER


def read(root: Path, super_class: str | None = None) -> Found:
    return MEMBER.read(root, None, Ingest(source="mvip", super_class=super_class))


def part(root: Path, name: str, mask: bool = True) -> None:
    path = root / f"{name}_rgb.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    Image.new("L", (8, 8)).save(path.with_name(f"{path.stem.removesuffix('_rgb')}_depth.png"))
    if mask:
        Image.new("L", (8, 8), 255).save(path.with_name(f"{path.stem}_mask_gen.png"))


def test_orientation_level_is_present_or_absent(tmp_path):
    part(tmp_path, "Pump/train_data/set0/top/cam1/7")
    part(tmp_path, "Pump/train_data/set0/side/cam2/7")
    part(tmp_path, "Pump/valid_data/set3/cam1/7", mask=False)
    part(tmp_path, "Pump/test_data/set4/cam1/7")
    part(tmp_path, "Pump/shifted_data/set5/cam1/7")
    found = read(tmp_path)
    assert not found.faults
    assert {(p.split, p.group, p.camera) for p in found.photos} == {
        ("train", "Pump/train/set0", "cam1"),
        ("train", "Pump/train/set0", "cam2"),
        ("val", "Pump/val/set3", "cam1"),
        ("test", "Pump/test/set4", "cam1"),
        ("shifted", "Pump/shifted/set5", "cam1"),
    }
    masks = {p.split: p.mask for p in found.photos}
    assert masks["val"] == ""
    assert masks["test"] == "Pump/test_data/set4/cam1/7_rgb_mask_gen.png"


def test_super_class_picks_classes(tmp_path):
    for name, kind in (("Pump", "CarComponent"), ("Cup", "Kitchen")):
        part(tmp_path, f"{name}/train_data/0/cam/1")
        (tmp_path / name / "meta.json").write_text(json.dumps({"super_class": kind}))
    assert [p.class_name for p in read(tmp_path, super_class="CarComponent").photos] == ["Pump"]
    none = read(tmp_path, super_class="Toy")
    assert "there are: CarComponent, Kitchen" in none.faults[0].reason
    (tmp_path / "Cup" / "meta.json").write_text("{")
    assert "no readable super_class" in read(tmp_path, super_class="CarComponent").faults[0].reason


def test_a_class_without_images_is_a_fault(tmp_path):
    part(tmp_path, "Pump/train_data/0/cam/1")
    (tmp_path / "Gone" / "train_data").mkdir(parents=True)
    assert [f.name for f in read(tmp_path).faults] == ["Gone"]


def test_meta_is_as_its_makers_write_it(tmp_path):
    """super_class a list, description a mapping of aspects to lists of words."""
    meta = {"super_class": ["CarComponent", "Engine"], "weight": 1.2}
    described = {"condition": ["used", "oil-stained"], "material": ["steel"], "other": ["rusty", "used"]}
    for name, told in (
        ("Pump", meta | {"description": described}),
        ("Disc", meta | {"description": "a disc"}),
        ("Cup", {}),
    ):
        part(tmp_path, f"{name}/train_data/0/45/cam_00/0")
        (tmp_path / name / "meta.json").write_text(json.dumps({"super_class": ["Kitchen"]} | told))
    found = read(tmp_path, super_class="CarComponent")
    assert not found.faults
    assert [(p.class_name, p.state, p.camera) for p in found.photos] == [
        ("Disc", "", "cam_00"),
        ("Pump", "used oil-stained rusty", "cam_00"),
    ]
    assert "there are: CarComponent, Engine, Kitchen" in read(tmp_path, super_class="Toy").faults[0].reason


def test_the_empty_table_is_no_image_of_the_class(tmp_path):
    for rotation in ("0", "45"):
        part(tmp_path, f"Pump/train_data/background/{rotation}/cam_00/0", mask=False)
        part(tmp_path, f"Pump/train_data/7/{rotation}/cam_00/0")
        part(tmp_path, f"Pump/train_data/7/{rotation}/cam_01/0")
    found = read(tmp_path)
    assert not found.faults
    assert {p.group for p in found.photos} == {"Pump/train/7"} and len(found.photos) == 4  # one physical set
    assert sorted({left.kind.split(" ")[-1] for left in found.left if "background" in left.name}) == ["background"]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"description": ', b'{"description": "\xff"}', b"[" * 100_000])
def test_a_damaged_description_is_a_fault_and_not_no_state(tmp_path: Path, data: bytes) -> None:
    part(tmp_path, "Pump/train_data/0/cam/1")
    assert not read(tmp_path).faults  # none there: no state
    (tmp_path / "Pump/meta.json").write_bytes(data)
    (fault,) = read(tmp_path).faults
    assert fault.name == "Pump/meta.json" and "cannot be read as JSON" in fault.reason and fault.fatal


@pytest.mark.parametrize("told", [["used"], 3, {"state": {"a": 1}}, {"State": float("nan")}, {"condition": [3]}])
def test_a_description_that_tells_no_words_is_a_fault(tmp_path: Path, told: object) -> None:
    part(tmp_path, "Pump/train_data/0/cam/1")
    (tmp_path / "Pump/meta.json").write_text(json.dumps({"description": told}))
    (fault,) = read(tmp_path).faults
    assert fault.name == "Pump/meta.json" and "must map aspects" in fault.reason and fault.fatal


@pytest.mark.parametrize(
    "told", [None, "a pump", {}, {"state": []}, {"state": None}, {"weight": float("nan"), "state": "used"}]
)
def test_a_description_may_tell_nothing_of_the_state(tmp_path: Path, told: object) -> None:
    part(tmp_path, "Pump/train_data/0/cam/1")
    (tmp_path / "Pump/meta.json").write_text(json.dumps({"description": told}))
    assert not read(tmp_path).faults


@pytest.mark.parametrize("named", [None, [], "", 3, {"a": 1}])
def test_a_super_class_without_a_name_is_a_fault(tmp_path: Path, named: object) -> None:
    for name in ("Pump", "Gear", "Shaft"):
        part(tmp_path, f"{name}/train_data/0/cam/1")
        (tmp_path / name / "meta.json").write_text(json.dumps({"super_class": ["Part"]}))
    (tmp_path / "Pump/meta.json").write_text(json.dumps({"super_class": named}))
    (fault,) = read(tmp_path, super_class="Part").faults
    assert fault.name == "Pump/meta.json" and "no readable super_class" in fault.reason
