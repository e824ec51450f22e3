from pathlib import Path

from PIL import Image

from partsynth.config.data import Ingest
from partsynth.sources.base import Found
from partsynth.sources.folder import MEMBER


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)


def read(root: Path, classes: list[str] | None = None, pattern: str | None = None) -> Found:
    return MEMBER.read(root, classes, Ingest(source="folder", group_pattern=pattern))


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
    (tmp_path / "phone" / "1.heic").write_bytes(b"x")
    text = reasons(read(tmp_path, pattern=r"a/(\d)"))
    for part in (
        "loose.png: lies outside",
        "empty: no picture in this class (nothing found",
        "phone: no picture in this class (1 .heic found",
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
