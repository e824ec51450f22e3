"""A project from the preset `folder`, made small: drawn photographs, a Stable Diffusion of random weights, every stage
of the package itself. For what must be tried on all stages: kills, full disks, damaged files."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from helpers import tiny_sd

CLASSES = ("flange", "gear", "shaft")  # the last is held out
SETS = ("id", "near_ood")
SETUPS = ("real", "real_id", "real_id_negatives")
SMALL: dict[str, Any] = {
    "ingest": {"size": 32},
    "ood": {"holdout_classes": ["shaft"]},
    "diffusion": {"size": 32, "device": "cpu"},
    "reference": {"device": "cpu"},
    "tokens": {"steps": 6, "vectors": 2, "batch_size": 2, "warmup": 1},
    "calibrate": {"sources": 2, "rounds": 2},
    "generate": {"steps": 4, "batch_size": 2, "max_sources": 4},
    "sets": {"id": {"strength": "auto", "target": [0.3, 0.9], "variants": 1}, "near_ood": {"variants": 1}},
    "quality": {"on_flagged": "warn"},
    "select": {"real_id": {"rule": "all"}, "real_id_negatives": {"role": "negative", "rule": "all"}},
    "matrix": {"seeds": [0]},
    "train": {
        "steps": 12,
        "size": 32,
        "width": 8,
        "embedding": 16,
        "anchors": 8,
        "negatives": 4,
        "classifier_steps": 10,
        "eval_every": 3,
        "device": "cpu",
    },
    "evaluate": {"k": [1, 3]},
    "study": {"trials": 2},
}


def merge(into: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def draw(folder: Path, kind: int, count: int = 12) -> None:
    """Photographs of one class: a bright shape of its own on noise, all different."""
    rng = np.random.default_rng(kind)
    folder.mkdir(parents=True)
    for n in range(count):
        image = Image.fromarray(rng.integers(60, 120, (48, 48, 3), dtype=np.uint8))
        left, top, width, height = (int(v) for v in rng.integers((4, 4, 18, 18), (16, 16, 28, 28)))
        right, bottom, colour = left + width, top + height, tuple(int(v) for v in rng.integers(130, 255, 3))
        shapes = (
            [(left, top), (right, top), (right, bottom), (left, bottom)],
            [(left, bottom), (right, bottom), ((left + right) // 2, top)],
            [(left, top), (right, bottom), (right, top), (left, bottom)],
            [((left + right) // 2, top), (right, (top + bottom) // 2), ((left + right) // 2, bottom), (left, top)],
        )
        ImageDraw.Draw(image).polygon(shapes[kind], fill=colour)
        image.save(folder / f"{n:02}.png")


def make(folder: Path) -> Path:
    """A project in ``folder/project``, nothing run yet; photographs, base model and stages' commands lie beside it."""
    import torch

    from partsynth.core.drift import reference
    from partsynth.project.init import init

    for kind, name in enumerate(CLASSES):
        draw(folder / "photos" / name, kind)
    base = tiny_sd.build(folder / "base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference.save(reference.ReferenceNet((8, 8, 16, 16), 16), base / "reference_encoder", 32)
    root = folder / "project"
    init(root, "folder", folder / "photos", base)
    loaded = yaml.safe_load((root / "params.yaml").read_text())
    loaded["sets"].pop("far_ood")
    merge(loaded, SMALL)
    loaded["ingest"]["path"] = "../photos"  # so that a copy beside its own photographs is whole
    (root / "params.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False))
    (folder / "commands.json").write_text(json.dumps(_resolved(root)))
    return root


def commands(folder: Path) -> dict[str, list[str]]:
    """Every stage's command by its name in DVC (``train@real-0``), in an order that they can run in."""
    return json.loads((folder / "commands.json").read_text())


def _resolved(root: Path) -> dict[str, list[str]]:
    import networkx
    from dvc.repo import Repo

    with Repo(os.fspath(root)) as repo:
        order = networkx.lexicographical_topological_sort(
            repo.index.graph.reverse(copy=True), key=lambda stage: stage.addressing
        )
        return {stage.name: shlex.split(stage.cmd)[1:] for stage in order if stage.cmd}
