"""Every shipped preset as a project that runs in seconds: fewer images, steps and channels, in the preset's own
proportions; and `dvc repro` whose stages run in this process."""

from __future__ import annotations

import json
import os
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from helpers import in_process, tiny_sd

WORKED_AT = 32  # pixels per side of the small diffusion model's images; all other sizes shrink alike
NAMES = ("flange", "gear", "shaft")
RENDERED = ["gear_t12_h4_u1", "gear_t16_h4_u1"]


def models(folder: Path) -> Path:
    """``base`` (the embedded kind, with its encoder), ``sd15`` and ``dino`` in ``folder``, of random weights."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    from partsynth.core.drift import reference

    tiny_sd.build(folder / "base")
    tiny_sd.build(folder / "sd15", sd15=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference.save(reference.ReferenceNet((8, 8, 16, 16), 16), folder / "base/reference_encoder", 32)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14}
        Dinov2Model(Dinov2Config(image_size=28, **sizes)).save_pretrained(folder / "dino")
    return folder


def shrink(params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A preset's content made small: sizes by one factor, so that what is larger than training stays so.

    ``folder`` holds the models. What a GPU alone does (``device: cuda``, half precision of the diffusion) becomes the
    CPU's.
    """
    diffusion, train = params["diffusion"], params["train"]
    hub = diffusion["model"] != "models/base"
    size = 2 * WORKED_AT if hub else WORKED_AT  # Stable Diffusion 1.5 halves its latents three times
    scale = size / diffusion["size"]
    params["ingest"]["size"] = round(params["ingest"].get("size", 64) * scale)
    params["ingest"]["min_per_class"] = 3
    if (pattern := params["ingest"].get("group_pattern")) and not re.search(pattern, "flange/00.jpg"):
        params["ingest"]["group_pattern"] = None  # of names that are not drawn here
    train["size"] = max(16, round(train.get("size", 64) * scale))
    diffusion["size"] = size
    if hub:
        diffusion |= {"model": os.fspath(folder / "sd15"), "dtype": "float32"}
        params["reference"]["model"] = os.fspath(folder / "dino")
    for section in (diffusion, params["reference"], train, params["evaluate"]):
        section["device"] = "cpu"
    params["tokens"] |= {"steps": 2, "warmup": 1, "batch_size": min(2, params["tokens"].get("batch_size", 2))}
    params["calibrate"] |= {"sources": 2, "rounds": 2}
    params["generate"] |= {"steps": 4, "batch_size": 4, "max_sources": 2}
    for augmentation in params["sets"].values():
        augmentation["variants"] = min(2, augmentation["variants"])
    params["matrix"] = {"setups": list(params["select"]), "seeds": [0]}
    train.pop("precision", None)  # one process has one precision, the default
    train |= {"steps": 3, "eval_every": 2, "anchors": 8, "negatives": 4, "embedding": 16, "classifier_steps": 10}
    if "backbone" not in train:
        train |= {"width": 8, "blocks": [1] * len(train.get("blocks", [1, 1, 1, 1]))}
    if params["ingest"]["source"] == "mvip":
        params["ingest"]["classes"] = [*RENDERED]
    if "render" in params:
        few = {"train": 4, "val": 2, "test": 2, "shifted": 1} | dict.fromkeys(
            ("near_val", "near_test", "far_val", "far_test"), 2
        )
        params["render"] |= {"size": 2 * WORKED_AT, "samples": 1, "instances": few, "workers": 1}
        params["render"]["classes"] = [*RENDERED]
        by_class = [(params["tokens"], "init_words")]
        by_class += [(made, key) for made in params["sets"].values() for key in ("words", "siblings")]
        for section, key in by_class:
            if key in section:
                named = section[key].items()
                section[key] = {n: value for n, value in named if any(fnmatch(name, n) for name in RENDERED)}
    return params


def draw(folder: Path, kind: int, side: int, masks: bool, count: int = 12) -> None:
    """Photographs of one class, ``side`` x 3/4 ``side`` pixels: a bright shape of its own on noise."""
    rng = np.random.default_rng(kind)
    folder.mkdir(parents=True)
    for n in range(count):
        wide, high = side, 3 * side // 4
        image = Image.fromarray(rng.integers(60, 120, (high, wide, 3), dtype=np.uint8))
        left, top = (int(v) for v in rng.integers((wide // 8, high // 8), (wide // 3, high // 3)))
        right, bottom = left + wide // 2, top + high // 2
        shapes = (
            [(left, top), (right, top), (right, bottom), (left, bottom)],
            [(left, bottom), (right, bottom), ((left + right) // 2, top)],
            [(left, top), (right, bottom), (right, top), (left, bottom)],
        )
        colour = tuple(int(v) for v in rng.integers(130, 255, 3))
        ImageDraw.Draw(image).polygon(shapes[kind % len(shapes)], fill=colour)
        image.save(folder / f"{n:02}.jpg", quality=95)
        if masks:
            mask = Image.new("L", image.size)
            ImageDraw.Draw(mask).polygon(shapes[kind % len(shapes)], fill=255)
            mask.save(folder / f"{n:02}_mask.png")


def photographs(folder: Path, params: dict[str, Any], side: int) -> Path:
    """In the layout that the preset's source reads: folders per class, held-out ones among them; or MVIP's."""
    if params["ingest"]["source"] == "mvip":
        return _mvip(folder)
    for kind, name in enumerate(dict.fromkeys([*params["ood"]["holdout_classes"], *NAMES])):
        draw(folder / name, kind, side, masks=params["ingest"].get("masks") in ("required", "optional"))
    return folder


def _mvip(folder: Path) -> Path:
    """Renders are written in MVIP's layout; the super-class is written as MVIP has it, as a list."""
    from partsynth.config.data import Render, RenderInstances
    from partsynth.stages import render

    few = dict.fromkeys(("val", "test", "shifted", "near_val", "near_test", "far_val", "far_test"), 2)
    params = Render(size=48, samples=1, instances=RenderInstances(train=4, **few), classes=RENDERED, workers=1)
    render.run(render.Inputs(params=params, out=folder))
    for path in sorted(folder.glob("*/meta.json")):
        about = json.loads(path.read_text())
        path.write_text(json.dumps(about | {"super_class": ["CarComponent"]}))
    return folder


def rewrite(root: Path, change: dict[str, Any]) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(change, sort_keys=False))


def reproduce(root: Path) -> list[str]:
    """`dvc repro` in this process; the stages that ran."""
    done = in_process.dvc(root, "repro")
    assert done.code == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stages
