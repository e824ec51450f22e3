"""The render stage: MVIP's layout, a complete manifest, resume and prune."""

import csv
import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image

from partsynth.config.data import Render, RenderInstances
from partsynth.errors import UserError
from partsynth.rendering import catalog
from partsynth.stages import render
from partsynth.store.png import png_fingerprint

ONE = RenderInstances(train=1, val=1, test=1, shifted=1, near_val=1, near_test=1, far_val=1, far_test=1)
TARGET = "gear_t12_h4_u1"
LEVELS = {"train": 3, "val": 2, "test": 2, "shifted": 2}  # set, orientation (training only), camera


def _params(**changes):
    return Render(**{"size": 32, "samples": 1, "instances": ONE, "classes": [TARGET], **changes})


@pytest.fixture
def few(monkeypatch):
    """Two OOD variants instead of all: the layout is the same."""
    monkeypatch.setattr(catalog, "NEAR_OOD", {"val": catalog.NEAR_OOD["val"][:1], "test": ()})
    monkeypatch.setattr(catalog, "FAR_OOD", {"val": (), "test": catalog.FAR_OOD["test"][:1]})


def _rows(out):
    with open(out / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_default_plan_is_the_demo():
    pictures = render.plan(Render())
    count = {}
    for picture in pictures:
        count[picture.role, picture.split] = count.get((picture.role, picture.split), 0) + 1
    assert count["target", "train"] == 12 * 16
    assert count["near_ood", "test"] >= 300 and count["far_ood", "test"] >= 300
    assert count["near_ood", "val"] >= 96 and count["far_ood", "val"] >= 96
    assert len({p.path for p in pictures}) == len(pictures) <= 1750
    groups = {}
    for picture in pictures:
        groups.setdefault(picture.group, []).append(picture)
    for pair in groups.values():
        assert [p.camera for p in sorted(pair, key=lambda p: p.camera)] == ["cam0", "cam1"]
        assert len({(p.split, p.part_seed, p.wear) for p in pair}) == 1
    seeds = [pair[0].part_seed for pair in groups.values()]
    assert len(set(seeds)) == len(seeds)  # no physical part comes back in another split


def test_adding_a_class_changes_no_other_picture():
    alone = {p.path: p for p in render.plan(_params())}
    both = {p.path: p for p in render.plan(_params(classes=[TARGET, "gear_t12_h5_u1"]))}
    assert alone.items() <= both.items()
    assert all(p.variant.name == "gear_t12_h5_u1" for path, p in both.items() if path not in alone)


def test_a_replicate_redraws_training_and_validation_pictures_alone():
    first, other = (
        {p.path.split("/yaw")[0]: p for p in render.plan(_params(seed=seed, test_seed=7))} for seed in (1, 2)
    )
    assert len(first) < len(render.plan(_params()))  # a training part's two cameras share a folder
    for path, picture in first.items():
        redrawn = picture.role == "target" and picture.split in ("train", "val")
        assert (other[path].part_seed != picture.part_seed) == redrawn
        assert (other[path].shot != picture.shot) == redrawn
    assert render.plan(_params(seed=3)) == render.plan(_params(seed=3, test_seed=3))
    assert render.plan(_params(seed=3)) != render.plan(_params(seed=3, test_seed=0))  # 0 is a seed, not null


def test_unknown_classes_are_listed_with_what_there_is():
    with pytest.raises(UserError, match="gear_t99.*gear_t12_h4_u1"):
        render.plan(_params(classes=["gear_t99"]))


@pytest.mark.slow
def test_layout_resume_and_prune(tmp_path, few):
    out = tmp_path / "raw"
    params = _params()
    render.run(params, out, workers=2)
    rows = _rows(out)
    assert [row["path"] for row in rows] == sorted(p.path for p in render.plan(params))
    assert {(row["role"], row["split"]) for row in rows} == {
        ("target", "train"),
        ("target", "val"),
        ("target", "test"),
        ("target", "shifted"),
        ("near_ood", "val"),
        ("far_ood", "test"),
    }
    for row in rows:
        folders = row["path"].split("/")
        assert folders[0] == row["class_name"] and folders[1] == render.SPLIT_FOLDERS[row["split"]]
        assert len(folders) - 3 == LEVELS[row["split"]] and folders[-2] == row["camera"]
        assert re.fullmatch(r".*_rgb\.png", row["path"]) and row["mask"] == row["path"].replace(".png", "_mask_gen.png")
        assert hashlib.sha256((out / row["path"]).read_bytes()).hexdigest() == row["sha256"]
        with Image.open(out / row["path"]) as image, Image.open(out / row["mask"]) as mask:
            assert image.mode == "RGB" and mask.mode == "L" and image.size == mask.size == (32, 32)
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert set(json.loads(row["features"])) == set(catalog.CATALOG[row["family"]])
        float(row["light_azimuth"]), float(row["camera_elevation"]), float(row["severity"])
    meta = json.loads((out / TARGET / "meta.json").read_text())
    assert meta["role"] == "target" and meta["super_class"] and "12 teeth" in meta["description"] and meta["weight"] > 0

    # resume: what is there stays, what is missing or of other making comes back with the same bytes
    missing, altered, kept = (out / rows[k]["path"] for k in (0, 1, 2))
    time = kept.stat().st_mtime_ns
    missing.unlink()
    altered.write_bytes(kept.read_bytes())
    stranger = out / "gear_t8_h0_u0" / "test_data" / "part00_cam0_rgb.png"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(kept.read_bytes())
    render.run(params, out, workers=1)
    assert _rows(out) == rows
    assert kept.stat().st_mtime_ns == time and not stranger.parent.parent.exists()

    # other settings, other pictures
    mark = png_fingerprint(kept)
    render.run(_params(size=40), out, workers=2)
    assert png_fingerprint(kept) != mark
    with Image.open(kept) as image:
        assert image.size == (40, 40)


def test_somebodys_photographs_are_not_deleted(tmp_path):
    photo = tmp_path / "raw" / "drive" / "photo.jpg"
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(photo)
    with pytest.raises(UserError, match="did not make"):
        render.run(_params(), tmp_path / "raw", workers=1)
    assert photo.exists()


@pytest.mark.slow
def test_a_stopped_run_leaves_whole_files_and_no_manifest(tmp_path, few, monkeypatch):
    out = tmp_path / "raw"

    def stop(futures):
        next(iter(futures)).result()
        raise KeyboardInterrupt

    monkeypatch.setattr(render, "as_completed", stop)
    with pytest.raises(KeyboardInterrupt):
        render.run(_params(), out, workers=1)
    assert not (out / "manifest.csv").exists()
    done = list(out.rglob("*_rgb.png"))
    assert done and all(png_fingerprint(path) for path in done) and not list(out.rglob("*.tmp"))
    monkeypatch.undo()
