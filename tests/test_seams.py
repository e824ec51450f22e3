"""One more member of each seam from outside the package: one module, registered, and the pipeline knows it.

A method of augmentation, which every stage after it must take: tests/augmentation/test_method.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.rows import augmented, real_row, verdict
from helpers.shapes import TINY, images_of, make_project
from PIL import Image

from partsynth.config.training import SelectSetup
from partsynth.core.contrastive import encoder
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.seams import BACKBONES, METHODS, RULES, SCORES, SOURCES, Registry
from partsynth.selection.rule import Candidate, Rule, by_class
from partsynth.selection.table import chosen, selected
from partsynth.store.hashing import seed_from
from partsynth.training import classifier


@contextmanager
def registered(seam: Registry, name: str, member: Any) -> Iterator[None]:
    seam.register(name, member)
    try:
        yield
    finally:
        seam.unregister(name)


@pytest.mark.parametrize("seam", [BACKBONES, METHODS, RULES, SCORES, SOURCES], ids=lambda seam: seam.what)
def test_every_member_that_is_named_is_there(seam) -> None:
    assert all(seam[name] is not None for name in seam)


def test_a_name_that_is_taken_or_unknown() -> None:
    with pytest.raises(ValueError, match="there is a source 'folder' already"):
        SOURCES.register("folder", object())
    with pytest.raises(UserError, match="there is no source 'none'; there are rendered, mvip, folder"):
        SOURCES["none"]


# --- sources ----------------------------------------------------------------------------------------------------------

FLAT = '''
from partsynth.seams import SOURCES
from partsynth.sources.base import Found, Photo


class Flat:
    """All photographs in one folder, named <class>-<part>-<number>.png."""

    def read(self, folder, classes, params):
        found = [(path.name, *path.stem.split("-")) for path in sorted(folder.glob("*.png"))]
        photos = [Photo(f, kind, f"{kind}-{part}") for f, kind, part, _ in found if not classes or kind in classes]
        return Found(photos=photos, folders={photo.class_name: "" for photo in photos})


SOURCES.register("flat", Flat())
'''


def test_a_source_from_outside(tmp_path) -> None:
    """Its own file, named by PARTSYNTH_PLUGINS, in a process of its own; params.yaml names it as any other."""
    (tmp_path / "flat_photos.py").write_text(FLAT)
    (tmp_path / "params.yaml").write_text("ingest: {source: flat, path: raw, masks: none, size: 16}\n")
    (tmp_path / "raw").mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(
            tmp_path / "raw" / f"{'gear' if number % 2 else 'disc'}-{number // 4}-{number}.png"
        )
    command = [
        sys.executable,
        "-m",
        "partsynth.cli",
        "ingest",
        "--raw",
        "raw",
        "--real",
        "data/real",
        "--ood",
        "data/ood",
    ]
    known = os.environ | {"PARTSYNTH_PLUGINS": "flat_photos", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = read_manifest(tmp_path / "data/real/manifest.csv", RealRecord)
    assert len(rows) == 40 and {r.class_name for r in rows} == {"gear", "disc"} and len({r.group for r in rows}) == 20
    assert all(Path(tmp_path, r.path).is_file() for r in rows)
    unknown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert unknown.returncode == 1 and "flat" in unknown.stderr and "'folder'" in unknown.stderr


# --- selection rules --------------------------------------------------------------------------------------------------


def test_a_rule_from_outside() -> None:
    """Of each class the farthest accepted image alone."""

    class Farthest(Rule):
        def takes(self, params: SelectSetup, verdict: Any) -> bool:
            return verdict.verdict == "accept"

        def draw(self, params: SelectSetup, taken: Any, setup: str) -> list[Candidate]:
            return [max(members, key=lambda c: c.image.percentile) for members in by_class(taken).values()]

    edits = [augmented(real_row(f"{k}/{i}", "train", f"{k}{i}"), str(i)) for k in ("disc", "gear") for i in range(4)]
    judged = {e.path: verdict(e, i / 8, "drop" if i == 7 else "accept") for i, e in enumerate(edits)}
    with pytest.raises(ValueError, match="rule"):
        SelectSetup(rule="farthest")
    with registered(RULES, "farthest", Farthest()):
        params = SelectSetup(rule="farthest")
        rows = chosen([selected(e, params.role) for e in edits], judged, [], params, "x")
    assert [(r.path, r.rule) for r in rows] == [(edits[3].path, "farthest"), (edits[6].path, "farthest")]


# --- backbones --------------------------------------------------------------------------------------------------------

PATCHES = '''
import torch
from torch import nn

from partsynth.core.backbones.base import Extractor
from partsynth.seams import BACKBONES


class Patches(nn.Module):
    """Mean and maximum over patches of one linear map, which stays as it is drawn; a scale is learned."""

    def __init__(self, width):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4).requires_grad_(False)
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, images):
        x = self.patches(images).float() * self.scale.view(1, -1, 1, 1).exp()
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


class Member:
    name, keys = "patches", ("width",)

    def build(self, parameters):
        module = Patches(parameters["width"])
        return Extractor(module, 2 * parameters["width"], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def initialise(self, extractor):
        nn.init.orthogonal_(extractor.module.patches.weight)


BACKBONES.register("patches", Member())
'''


def test_a_backbone_from_outside(tmp_path) -> None:
    """Trained by the command in a process of its own, frozen weights and all; its model is loaded by its name."""
    make_project(tmp_path)
    (tmp_path / "patches_backbone.py").write_text(PATCHES)
    section = {**TINY.model_dump(), "backbone": "patches", "width": 8}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"train": section, "select": {"real_id": {}}}))
    out = tmp_path / "models/supcon/real_id/0"
    command = [sys.executable, "-m", "partsynth.cli", "train", "--setup", "real_id", "--seed", "0"]
    command += ["--selected", "data/selected/real_id.csv", "--real", "data/real", "--out", str(out)]
    known = os.environ | {"PARTSYNTH_PLUGINS": "patches_backbone", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = json.loads((out / "config.json").read_text())
    assert config["architecture"] == {"backbone": "patches", "width": 8, "embedding": 8}
    assert config["train"]["backbone"] == "patches"
    with pytest.raises(UserError, match="no backbone 'patches'; there are narrow_resnet"):
        classifier.load(out)
    spec = importlib.util.spec_from_file_location("patches_backbone", tmp_path / "patches_backbone.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    try:
        model, _ = classifier.load(out)
        features, logits = encoder.embed(model, images_of(tmp_path, "real_id").val_images)
        fresh = encoder.build(BACKBONES["patches"], {"width": 8}, 8, seed_from("init", 0)).backbone
    finally:
        BACKBONES.unregister("patches")
    assert features.shape == (9, 16) and logits.shape == (9, 3)
    assert torch.equal(model.encoder.backbone.patches.weight, fresh.patches.weight)  # frozen
    assert not torch.equal(model.encoder.backbone.scale, fresh.scale)
