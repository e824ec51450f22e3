"""What `peers.py` measures on: made here, the same each time; nothing need be at hand but the base model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
CLASSES = [f"part_{i:02d}" for i in range(12)]
PER_CLASS = 16  # training images of a class, as the demo has them
PHOTO_SIZE = (1600, 1200)
VECTORS = 12  # of a token, as the demo has them
READY = "ready"


def picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Noise of many scales: as hard to decode as a photograph, and unlike any other."""
    total = np.zeros((height, width, 3), np.float32)
    for cells in (4, 8, 16, 32, 64, 128):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), np.float32) / cells
    low, high = total.min(), total.max()
    grain = rng.normal(0, 2, total.shape)
    return Image.fromarray((255 * (total - low) / (high - low) + grain).clip(0, 255).astype(np.uint8))


def make_inputs(folder: Path, photos_per_class: int) -> None:
    """A small project of 64 px training images with tokens, and a folder of JPEG photographs; kept where they are."""
    if (folder / READY).is_file():
        return
    project = folder / "project"
    _make_project(project)
    rng = np.random.default_rng(1)
    for name in CLASSES:
        place = folder / "photographs" / name
        place.mkdir(parents=True, exist_ok=True)
        for i in range(photos_per_class):
            picture(rng, *PHOTO_SIZE).save(place / f"{i:03d}.jpg", quality=90)
    (folder / READY).touch()


def _make_project(project: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from partsynth.augmentation.base_model import find_base
    from partsynth.config.models import Diffusion
    from partsynth.records.manifest import write_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.hashing import sha256_file
    from partsynth.store.png import write_png
    from partsynth.store.tensors import write_safetensors

    (project / "models").mkdir(parents=True, exist_ok=True)
    if not (project / "models/base").exists():
        os.symlink(ROOT / "models/base", project / "models/base")
    rng, rows = np.random.default_rng(0), []
    for name in CLASSES:
        for i in range(PER_CLASS):
            path = f"data/real/train/{name}/{i:02d}.png"
            write_png(project / path, picture(rng, 64, 64))
            row = {
                "path": path,
                "sha256": sha256_file(project / path),
                "class_name": name,
                "split": "train",
                "role": "target",
                "group": f"{name}-{i:02d}",
                "state": "used",
                "camera": "",
                "mask": "",
                "source": path,
                "source_sha256": "",
                "box": "0,0,64,64",
            }
            rows.append(RealRecord.model_validate(row))
    (project / "data/real/manifest.csv").unlink(missing_ok=True)
    write_manifest(project / "data/real/manifest.csv", rows, RealRecord)
    words = next(
        value
        for key, value in load_file(ROOT / "models/base/text_encoder/model.safetensors").items()
        if key.endswith("token_embedding.weight")
    ).float()
    generator = torch.Generator().manual_seed(0)
    identity = find_base(Diffusion(), project).identity
    for name in CLASSES:
        vectors = torch.randn(VECTORS, words.shape[1], generator=generator) * words.std()
        told = {"class_name": name, "token": f"<{name}>", "base_sha256": identity, "fingerprint": name}
        write_safetensors(project / f"models/tokens/{name}.safetensors", {"vectors": vectors}, told)
