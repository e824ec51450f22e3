import csv

import pytest
from PIL import Image

from partsynth.config.data import Ingest
from partsynth.errors import UserError
from partsynth.sources.base import Found
from partsynth.sources.rendered import MEMBER

COLUMNS = ["path", "mask", "sha256", "class_name", "role", "split", "group", "camera", "state", "severity"]


def read(root, classes: list[str] | None = None) -> Found:
    return MEMBER.read(root, classes, Ingest(source="rendered"))


def write(root, rows):
    for row in rows:
        path = root / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    with open(root / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def row(name, **told):
    base = {"path": name, "class_name": name.split("/")[0], "role": "target", "split": "train", "group": "g"}
    return base | told


def test_the_manifest_tells_role_group_state(tmp_path):
    write(
        tmp_path,
        [
            row("gear/train_data/0/cam0/1_rgb.png", group="gear-0", state="rusty", camera="cam0"),
            row("odd/test_data/0/cam0/1_rgb.png", role="near_ood", split="test"),
            row("disc/train_data/0/cam0/1_rgb.png"),
        ],
    )
    found = read(tmp_path, classes=["gear"])
    assert not found.faults
    assert [(p.class_name, p.role, p.split, p.state) for p in found.photos] == [
        ("gear", "target", "train", "rusty"),
        ("odd", "near_ood", "test", ""),
    ]


def test_manifest_and_folder_must_agree(tmp_path):
    write(tmp_path, [row("gear/train_data/0/c/1_rgb.png"), row("gear/train_data/0/c/2_rgb.png", role="cousin")])
    Image.new("RGB", (8, 8)).save(tmp_path / "gear/train_data/0/c/3_rgb.png")
    (tmp_path / "gear/train_data/0/c/1_rgb.png").unlink()
    reasons = {f.name[-9:]: f.reason for f in read(tmp_path).faults}
    assert "missing" in reasons["1_rgb.png"]
    assert "cousin" in reasons["2_rgb.png"]
    assert "not in the render's manifest" in reasons["3_rgb.png"]


def test_an_unfinished_render_is_named(tmp_path):
    with pytest.raises(UserError, match="did not finish"):
        read(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,sha256\n")
    with pytest.raises(UserError, match="missing columns class_name, role"):
        read(tmp_path)
