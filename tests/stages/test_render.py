"""The render stage: MVIP's layout, a complete manifest, resume and prune."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partsynth.config.data import Render, RenderInstances
from partsynth.errors import UserError
from partsynth.rendering import catalog, dataset
from partsynth.stages import render
from partsynth.store.png import png_fingerprint

ONE = RenderInstances(train=1, val=1, test=1, shifted=1, near_val=1, near_test=1, far_val=1, far_test=1)
TARGET = "gear_t12_h4_u1"
LEVELS = {"train": 3, "val": 2, "test": 2, "shifted": 2}  # set, orientation (training only), camera


def _params(**changes):
    return Render(**{"size": 32, "samples": 1, "instances": ONE, "classes": [TARGET], **changes})


def run(params: Render, out: Path, workers: int = 1) -> None:
    render.run(render.Inputs(params=params, out=out, workers=workers))


@pytest.fixture
def few(monkeypatch):
    """Two OOD variants instead of all: the layout is the same."""
    monkeypatch.setattr(catalog, "NEAR_OOD", {"val": catalog.NEAR_OOD["val"][:1], "test": ()})
    monkeypatch.setattr(catalog, "FAR_OOD", {"val": (), "test": catalog.FAR_OOD["test"][:1]})


def _rows(out):
    with open(out / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_layout_resume_and_prune(tmp_path, few):
    out = tmp_path / "raw"
    params = _params()
    run(params, out, workers=2)
    rows = _rows(out)
    assert [row["path"] for row in rows] == sorted(p.path for p in dataset.plan(params))
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
        assert folders[0] == row["class_name"] and folders[1] == dataset.SPLIT_FOLDERS[row["split"]]
        assert len(folders) - 3 == LEVELS[row["split"]] and folders[-2] == row["camera"]
        assert re.fullmatch(r".*_rgb\.png", row["path"]) and row["mask"] == row["path"].replace(".png", "_mask_gen.png")
        assert hashlib.sha256((out / row["path"]).read_bytes()).hexdigest() == row["sha256"]
        with Image.open(out / row["path"]) as image, Image.open(out / row["mask"]) as mask:
            assert image.mode == "RGB" and mask.mode == "L" and image.size == mask.size == (32, 32)
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert set(json.loads(row["features"])) == set(catalog.CATALOG[row["family"]])
        float(row["light_azimuth"]), float(row["camera_elevation"]), float(row["severity"])
    meta = json.loads((out / TARGET / "meta.json").read_text())
    assert meta["role"] == "target" and meta["super_class"] == ["RenderedPart"] and meta["weight"] > 0
    assert (
        "12 teeth" in meta["description"]["features"] and "12 teeth" in meta["description"]["part"][0]
    )  # as MVIP has it

    # resume: what is there stays, what is missing or of other making comes back with the same bytes
    missing, altered, kept = (out / rows[k]["path"] for k in (0, 1, 2))
    time = kept.stat().st_mtime_ns
    missing.unlink()
    altered.write_bytes(kept.read_bytes())
    stranger = out / "gear_t8_h0_u0" / "test_data" / "part00_cam0_rgb.png"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(kept.read_bytes())
    run(params, out)
    assert _rows(out) == rows
    assert kept.stat().st_mtime_ns == time and not stranger.parent.parent.exists()

    # other settings, other pictures
    mark = png_fingerprint(kept)
    run(_params(size=40), out, workers=2)
    assert png_fingerprint(kept) != mark
    with Image.open(kept) as image:
        assert image.size == (40, 40)


def test_somebodys_photographs_are_not_deleted(tmp_path):
    photo = tmp_path / "raw" / "drive" / "photo.jpg"
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(photo)
    with pytest.raises(UserError, match="did not make"):
        run(_params(), tmp_path / "raw")
    assert photo.exists()


@pytest.mark.slow
def test_a_stopped_run_leaves_whole_files_and_no_manifest(tmp_path, few, monkeypatch):
    out = tmp_path / "raw"

    def stop(futures):
        next(iter(futures)).result()
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "as_completed", stop)
    with pytest.raises(KeyboardInterrupt):
        run(_params(), out)
    assert not (out / "manifest.csv").exists()
    done = list(out.rglob("*_rgb.png"))
    assert done and all(png_fingerprint(path) for path in done) and not list(out.rglob("*.tmp"))
    monkeypatch.undo()
