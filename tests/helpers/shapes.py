"""A project of drawn shapes with the three setups' training tables, and trainings of seconds on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from partsynth.config.training import Train
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord, SelectedRecord
from partsynth.store.png import write_png
from partsynth.training.images import TrainingImages, load_images
from partsynth.training.result import Fitted

SIZE, CLASSES = 16, ("bar", "disc", "square")
SETUPS = ("real", "real_id", "real_id_negatives")
TINY = Train(
    width=8,
    blocks=[1, 1],
    embedding=8,
    size=SIZE,
    steps=12,
    anchors=12,
    negatives=4,
    eval_every=4,
    classifier_steps=50,
    device="cpu",
    learning_rate=5e-3,
)


def shape(kind: str, rng: np.random.Generator) -> np.ndarray:
    image = Image.new("RGB", (SIZE, SIZE), tuple(rng.integers(20, 70, 3).tolist()))
    draw, x, y = ImageDraw.Draw(image), *rng.integers(-1, 2, 2).tolist()
    ink = tuple(rng.integers(140, 240, 3).tolist())
    box = {"bar": (2, 6, 13, 9), "disc": (3, 3, 12, 12), "square": (5, 5, 10, 10)}[kind]
    (draw.ellipse if kind == "disc" else draw.rectangle)((box[0] + x, box[1] + y, box[2] + x, box[3] + y), fill=ink)
    return np.asarray(image)


def make_project(root: Path) -> Path:
    """data/real, two augmentation sets and the three setups' tables below ``root``."""
    rng, real, rows = np.random.default_rng(0), [], []
    for split, count in (("train", 5), ("val", 3)):
        for name in CLASSES:
            for i in range(count):
                path = f"data/real/{split}/{name}/{i}.png"
                sha = write_png(root / path, shape(name, rng))
                facts = {"path": path, "sha256": sha, "class_name": name, "group": f"{split}{name}{i}"}
                real.append(RealRecord(**facts, split=split, source="x", source_sha256="0"))
                if split == "train":
                    rows.append(SelectedRecord(**facts, role="positive", origin="real", source=path))
    write_manifest(root / "data/real/manifest.csv", real, RealRecord)
    originals = list(rows)
    write_manifest(root / "data/selected/real.csv", rows, SelectedRecord)
    for setup, origin, role in (("real_id", "id", "positive"), ("real_id_negatives", "near_ood", "negative")):
        for row in originals:
            path = row.path.replace("data/real/train", f"data/augmented/{origin}")
            sha = write_png(root / path, shape(row.class_name, rng))
            rows.append(row.model_copy(update={"path": path, "sha256": sha, "role": role, "origin": origin}))
        write_manifest(root / f"data/selected/{setup}.csv", rows, SelectedRecord)
    return root


def images_of(root: Path, setup: str = "real_id_negatives") -> TrainingImages:
    """What a training of the setup sees."""
    rows = read_manifest(root / f"data/selected/{setup}.csv", SelectedRecord)
    val = [r for r in read_manifest(root / "data/real/manifest.csv", RealRecord) if r.split == "val"]
    return load_images(rows, val, SIZE, root)


def weights(fitted: Fitted) -> torch.Tensor:
    """All of the encoder's, in one row."""
    return torch.cat([p.flatten() for p in fitted.model.encoder.parameters()]).detach()
