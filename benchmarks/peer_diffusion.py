"""The sides of `peers.py` that generate images and learn classes. Each prepares, and returns what is timed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer_inputs import CLASSES, ROOT, VECTORS
from peer_setting import Figures, Setting, Timed, add_flags, given

STEPS, BATCH = 25, 32  # generate.steps, generate.batch_size
# the demo's sets: name -> strength, guidance, variants of a source, restore
SETS = {"id": (0.25, 5.0, 4, 1.0), "near_ood": (0.5, 4.0, 2, 0.0), "far_ood": (0.9, 4.0, 1, 0.0)}
INVERSION = {"steps": 150, "batch_size": 4, "learning_rate": 1e-2}  # the demo's, a class has so many images in a step


def _rows(project: Path) -> list[Any]:
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import RealRecord

    return read_manifest(project / "data/real/manifest.csv", RealRecord)


def _sources(project: Path, quick: bool) -> list[Any]:
    """32 sources fill whole batches in every set; quick: 8 of them, for one batch."""
    return _rows(project)[:: 24 if quick else 6]


def _wanted(quick: bool) -> dict[str, tuple[float, float, int, float]]:
    return {"id": SETS["id"]} if quick else SETS


def sdedit(setting: Setting) -> Timed:
    """The demo's three sets of 32 sources, as stage generate paints them: decoded PIL images, nothing written."""
    from partsynth.augmentation.materials import Materials
    from partsynth.augmentation.method import Order
    from partsynth.augmentation.methods.sdedit import MEMBER, SdeditSet
    from partsynth.config.generation import Generate
    from partsynth.config.models import Diffusion

    project = setting.inputs / "project"
    sources = _sources(project, setting.quick)
    diffusion = Diffusion(size=64, device=setting.device, dtype=setting.dtype)
    materials = Materials(real=_rows(project), tokens=project / "models/tokens", diffusion=diffusion, root=project)
    planned = []
    for name, (strength, guidance, variants, restore) in _wanted(setting.quick).items():
        order = Order(
            set_name=name,
            parameters=SdeditSet(strength=strength, guidance=guidance, variants=variants, restore=restore),
            shared=Generate(steps=STEPS, batch_size=BATCH),
            sources=sources,
            strengths=dict.fromkeys(CLASSES, strength),
            folder=f"data/augmented/{name}",
        )
        planned.append(MEMBER.plan(order, materials))
    materials.model(setting.dtype, compiled=False)

    def work() -> Figures:
        return {"images": sum(1 for rows in planned for _ in MEMBER.paint(rows, materials))}

    return work


def unet_alone(setting: Setting) -> Timed:
    """The forwards alone that those sets take: with and without prompt in one batch, on tensors that are there."""
    import torch

    from partsynth.core.diffusion.loading import load

    project = setting.inputs / "project"
    model = load(project / "models/base", device=setting.device, dtype=setting.dtype)
    context = model.prompts.embed("a photo of a used part").expand(2 * BATCH, -1, -1).contiguous()  # (2 B, L, D)
    context, side = context.to(setting.number), 64 // model.factor
    noisy = torch.randn(2 * BATCH, model.unet.config.in_channels, side, side, device=setting.device)
    noisy = noisy.to(setting.number, memory_format=model.layout)
    count = len(_sources(project, setting.quick))
    calls = []
    for strength, _, variants, _ in _wanted(setting.quick).values():
        batches = -(-count * variants // BATCH)
        calls += [torch.tensor([t], device=setting.device) for t in model.timesteps(strength, STEPS)] * batches

    def work() -> None:
        with torch.no_grad():
            for t in calls:
                model.unet(noisy, t.expand(2 * BATCH), encoder_hidden_states=context)

    return work


def _pipeline(project: Path, setting: Setting) -> Any:
    import diffusers
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    diffusers.logging.set_verbosity_error()  # type: ignore[attr-defined]
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(str(project / "models/base"), **absent)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.float()  # the files hold half numbers
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for name in CLASSES:
        pipeline.load_textual_inversion(str(project / f"models/tokens/{name}.safetensors"), token=f"<{name}>")
    return pipeline.to(setting.device, setting.number)


def img2img(setting: Setting, together: int) -> Timed:
    """diffusers' pipeline on the same sources, prompts, strengths, steps and guidance, ``together`` images a call."""
    import torch
    from PIL import Image

    project = setting.inputs / "project"
    pipeline = _pipeline(project, setting)
    jobs: list[tuple[float, float, list[tuple[str, Path]]]] = []
    for strength, guidance, variants, _ in _wanted(setting.quick).values():
        one = [(f"a photo of a used <{r.class_name}>", project / r.path) for r in _sources(project, setting.quick)]
        jobs.append((strength, guidance, one * variants))

    def work() -> Figures:
        made = 0
        for strength, guidance, images in jobs:
            for start in range(0, len(images), together):
                part = images[start : start + together]
                made += len(
                    pipeline(
                        [prompt for prompt, _ in part],
                        image=[Image.open(path).convert("RGB") for _, path in part],
                        strength=strength,
                        guidance_scale=guidance,
                        num_inference_steps=STEPS,
                        generator=[torch.Generator().manual_seed(start + i) for i in range(len(part))],
                    ).images
                )
        return {"images": made}

    return work


# --- textual inversion ------------------------------------------------------------------------------------------------


def _classes(setting: Setting) -> list[str]:
    return CLASSES[: setting.classes]


def _steps(quick: bool) -> int:
    return 6 if quick else int(INVERSION["steps"])


def _process(*arguments: str) -> Figures:
    """A fresh process of this file; its last line's figures."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def inversion(setting: Setting) -> Timed:
    """Stage tokens, a whole process: imports, the model, all classes learned together, the files written."""
    return lambda: _process("stage", *setting.flags())


def inversion_each(setting: Setting) -> Timed:
    """A whole process for each class, one after another; ``loop``: the seconds inside their loops alone."""

    def work() -> Figures:
        told = [_process("one", "--class-name", name, *setting.flags()) for name in _classes(setting)]
        return {key: sum(t[key] for t in told) for key in ("loop", "cpu_loop")}

    return work


def learn_by_stage(setting: Setting) -> None:
    import shutil
    import tempfile

    from partsynth.config.generation import Tokens
    from partsynth.config.models import Diffusion
    from partsynth.records.manifest import write_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.stages import tokens

    project = setting.inputs / "project"
    with tempfile.TemporaryDirectory() as folder:  # its products and its checkpoint are nobody's
        root = Path(folder)
        shutil.copytree(project / "data", root / "data")
        (root / "models").mkdir()
        (root / "models/base").symlink_to((project / "models/base").resolve())
        rows = [row for row in _rows(project) if row.class_name in _classes(setting)]
        (root / "data/real/manifest.csv").unlink()
        write_manifest(root / "data/real/manifest.csv", rows, RealRecord)
        params = Tokens(vectors=VECTORS, **{**INVERSION, "steps": _steps(setting.quick)})
        tokens.run(
            tokens.Inputs(
                params=params,
                diffusion=Diffusion(size=64, device=setting.device),
                real=root / "data/real",
                out=root / "models/tokens",
                root=root,
            )
        )


def learn_one(setting: Setting, class_name: str) -> Figures:
    """Textual inversion of one class as diffusers' example script goes about it: images are decoded, mirrored and
    encoded by the VAE in every step, AdamW holds the whole embedding table, whose other rows are put back."""
    import random

    import numpy as np
    import torch
    import torch.nn.functional as F
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from PIL import Image, ImageOps
    from torch.utils.data import DataLoader, Dataset
    from transformers import CLIPTextModel, CLIPTokenizerFast  # type: ignore[attr-defined]

    base, project, device = ROOT / "models/base", setting.inputs / "project", setting.device
    tokenizer = CLIPTokenizerFast.from_pretrained(base / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(base / "vae")
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    schedule = DDPMScheduler.from_pretrained(base / "scheduler")
    names = [f"<{class_name}>", *(f"<{class_name}>_{i}" for i in range(1, VECTORS))]
    start = tokenizer("part", add_special_tokens=False).input_ids[0]
    tokenizer.add_tokens(names)
    new = tokenizer.convert_tokens_to_ids(names)
    text_encoder.resize_token_embeddings(len(tokenizer))
    table = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        table[new] = table[start].clone()
    for module in (vae, unet, text_encoder):
        module.float().to(device).requires_grad_(False)
    table = text_encoder.get_input_embeddings().weight
    table.requires_grad_(True)
    vae.eval()
    unet.eval()
    text_encoder.train()

    files = sorted((project / "data/real/train" / class_name).glob("*.png"))

    class Images(Dataset):
        def __len__(self) -> int:
            return 100 * len(files)  # the example repeats its images so often in an epoch

        def __getitem__(self, index: int) -> dict[str, Any]:
            image = Image.open(files[index % len(files)]).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
            image = ImageOps.mirror(image) if random.random() < 0.5 else image
            text = f"a photo of a used {' '.join(names)}"
            ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]
            pixels = torch.from_numpy(np.array(image)).float().permute(2, 0, 1) / 127.5 - 1
            return {"ids": ids, "pixels": pixels}

    batch_size, steps = int(INVERSION["batch_size"]), _steps(setting.quick)
    optimizer = torch.optim.AdamW([table], lr=INVERSION["learning_rate"])
    kept = table.detach().clone()
    others = torch.ones(len(tokenizer), dtype=torch.bool, device=device)
    others[new] = False
    loader = DataLoader(Images(), batch_size=batch_size, shuffle=True)
    begun, cpu = time.perf_counter(), time.process_time()
    for done, batch in enumerate(loader, 1):
        with torch.no_grad():
            latents = vae.encode(batch["pixels"].to(device)).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        times = torch.randint(schedule.config.num_train_timesteps, (len(latents),), device=device)
        context = text_encoder(batch["ids"].to(device))[0]
        made = unet(schedule.add_noise(latents, noise, times), times, encoder_hidden_states=context).sample
        wanted = noise
        if schedule.config.prediction_type == "v_prediction":
            wanted = schedule.get_velocity(latents, noise, times)
        F.mse_loss(made, wanted).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            table[others] = kept[others]
        if done == steps:
            break
    setting.wait()
    return {"loop": time.perf_counter() - begun, "cpu_loop": time.process_time() - cpu}


SIDES: dict[str, Callable[[Setting], Timed]] = {
    "sdedit": sdedit,
    "unet-alone": unet_alone,
    "img2img-one": lambda setting: img2img(setting, 1),
    "img2img-batched": lambda setting: img2img(setting, BATCH),
    "inversion": inversion,
    "inversion-each": inversion_each,
}


def main() -> None:
    """The whole processes that textual inversion is compared by."""
    from partsynth.store.process import keep_memory

    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["stage", "one"])
    parser.add_argument("--class-name")
    add_flags(parser)
    options = parser.parse_args()
    keep_memory()
    told: Figures = {}
    if options.what == "stage":
        learn_by_stage(given(options))
    else:
        told = learn_one(given(options), options.class_name)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
