"""base: the embedded Stable Diffusion and reference encoder, trained on the project's own renders.

A frozen stage: its result is committed. Every part is resumable; working files lie in .work/base (git-ignored).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.config.generation import Base
from partsynth.errors import UserError
from partsynth.store.files import read_json, write_json
from partsynth.store.hashing import fingerprint

if TYPE_CHECKING:
    from torch import Tensor

HELD_OUT = 500  # the corpus' last pictures: never trained on, reconstruction is measured on them


def run(params: Base, out: Path, work: Path = Path(".work/base"), device: str = "auto") -> None:
    """Corpus, VAE, latents, text encoder + U-Net, reference encoder, then ``out`` in diffusers' format."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    work.mkdir(parents=True, exist_ok=True)
    _same_parameters(params, work)
    render_corpus(params, work)
    train_vae(params, work, device)
    train_unet(params, work, device)
    train_reference(params, work, device)
    assemble(params, work, out)


def _same_parameters(params: Base, work: Path) -> None:
    """A checkpoint of other parameters must not be taken up by these."""
    stamp, mark = work / "params.json", fingerprint(params.model_dump(exclude={"workers"}))
    if stamp.is_file() and read_json(stamp)["fingerprint"] != mark:
        raise UserError(f"{work} holds the work of other base parameters: move it away, or restore them in params.yaml")
    write_json(stamp, {"fingerprint": mark, "params": params})


def render_corpus(params: Base, work: Path) -> None:
    from partsynth.rendering import corpus

    corpus.render_corpus(work / "corpus", params.images, params.seed, params.workers or os.cpu_count() or 1)


def load_corpus(work: Path, limit: int | None = None) -> dict[str, Any]:
    """Arrays over the pictures: images uint8 (N, S, S, 3), captions (N, K), variants, families, states (N,) of str."""
    shards = sorted((work / "corpus").glob("shard-*.npz"))
    parts: dict[str, list[Any]] = {"images": [], "captions": [], "variants": [], "families": [], "states": []}
    count = 0
    for shard in shards:
        if limit is not None and count >= limit:
            break
        with np.load(shard, allow_pickle=False) as data:
            for key in parts:
                parts[key].append(data[key])
            count += len(data["images"])
    if not count:
        raise UserError(f"{work / 'corpus'} holds no shards: `partsynth base` renders them")
    return {key: np.concatenate(value)[:limit] for key, value in parts.items()}


def train_vae(params: Base, work: Path, device: str) -> None:
    import torch
    from safetensors.torch import save_file

    from partsynth.core.pretraining import vae as pretraining_vae

    if (work / "vae.safetensors").is_file():
        return
    images = torch.from_numpy(load_corpus(work, params.vae_images)["images"]).to(device)
    vae = pretraining_vae.train_vae(
        images,
        steps=params.vae_steps,
        batch_size=params.vae_batch_size,
        seed=params.seed,
        checkpoint=work / "vae.checkpoint.safetensors",
        log=_logger(work, "vae", params.vae_steps),
    )
    save_file({k: v.contiguous().cpu() for k, v in vae.state_dict().items()}, work / "vae.safetensors")


def load_vae(work: Path, device: str) -> Any:
    from safetensors.torch import load_file

    from partsynth.core.pretraining.networks import build_vae

    vae = build_vae()
    vae.load_state_dict(load_file(work / "vae.safetensors"))
    return vae.to(device).eval()


def held_out_psnr(work: Path, images: Tensor, device: str) -> float:
    """Mean PSNR in dB of uint8 pictures (N, S, S, 3) after one round trip through the VAE."""
    import torch

    vae = load_vae(work, device)
    with torch.inference_mode():
        wanted = images.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        made = torch.cat([vae(part).sample.clamp(-1, 1) for part in wanted.split(100)])
        mse = ((made - wanted) / 2).square().mean((1, 2, 3))
    return (-10 * mse.log10()).mean().item()


def encode(work: Path, images: Tensor, device: str) -> tuple[Tensor, float]:
    """Scaled latents (2, N, 4, h, w) of the pictures and their mirror images, and the scaling factor 1 / std."""
    import torch

    from partsynth.core.pretraining.vae import encode_latents

    vae = load_vae(work, device)
    latents = torch.stack([encode_latents(vae, views) for views in (images, images.flip(2))])
    factor = 1.0 / latents.std().item()
    return latents * factor, factor


def train_unet(params: Base, work: Path, device: str) -> None:
    import torch
    from safetensors.torch import save_file

    from partsynth.core.pretraining import unet as pretraining_unet
    from partsynth.core.pretraining.networks import build_tokenizer, tokenize

    if (work / "unet.safetensors").is_file():
        return
    corpus = load_corpus(work)
    keep = len(corpus["images"]) - HELD_OUT
    psnr = held_out_psnr(work, torch.from_numpy(corpus["images"][keep:]), device)
    _logger(work, "vae", params.vae_steps)(params.vae_steps, {"held_out_psnr": psnr})
    captions = corpus["captions"][:keep]  # (N, K)
    tokenizer = build_tokenizer([str(c) for c in captions.flatten()], work / "tokenizer")
    ids = tokenize(tokenizer, [str(c) for c in captions.flatten()])
    ids = ids.view(keep, captions.shape[1], -1).to(device)
    latents, factor = encode(work, torch.from_numpy(corpus["images"][:keep]).to(device), device)
    unet, text_encoder = pretraining_unet.train_unet(
        latents,
        ids,
        tokenizer,
        steps=params.unet_steps,
        batch_size=params.batch_size,
        caption_dropout=params.caption_dropout,
        ema=params.ema,
        seed=params.seed,
        checkpoint=work / "unet.checkpoint.safetensors",
        log=_logger(work, "unet", params.unet_steps),
    )
    write_json(work / "scaling.json", {"scaling_factor": factor})
    save_file(
        {k: v.half().contiguous().cpu() for k, v in text_encoder.state_dict().items()},
        work / "text_encoder.safetensors",
    )
    save_file({k: v.half().contiguous().cpu() for k, v in unet.state_dict().items()}, work / "unet.safetensors")


def train_reference(params: Base, work: Path, device: str) -> None:
    import torch

    from partsynth.core.drift import reference
    from partsynth.core.pretraining.reference import train_reference as train_encoder
    from partsynth.core.pretraining.reference import tune_reference

    if (work / "reference_encoder" / "config.json").is_file():
        return
    corpus = load_corpus(work)
    keep = len(corpus["images"]) - HELD_OUT
    images = torch.from_numpy(corpus["images"][:keep]).to(device)
    variants, families = (
        torch.from_numpy(np.unique(corpus[key][:keep], return_inverse=True)[1].astype(np.int64)).to(device)
        for key in ("variants", "families")
    )
    start = work / "reference_start"
    if not (start / "config.json").is_file():
        net = train_encoder(
            images,
            variants,
            steps=params.reference_steps,
            seed=params.seed,
            checkpoint=work / "reference.checkpoint.safetensors",
            log=_logger(work, "reference", params.reference_steps),
        )
        reference.save(net, start, params.size)
    few = params.reference_tune_images
    net = tune_reference(
        reference.load(str(start), device=device).net,
        images[:few],
        round_trips(work, images[:few], device),
        variants[:few],
        families[:few],
        steps=params.reference_tune_steps,
        seed=params.seed,
        checkpoint=work / "reference_tune.checkpoint.safetensors",
        log=_logger(work, "reference_tune", params.reference_tune_steps),
    )
    reference.save(net, work / "reference_encoder", params.size)


def round_trips(work: Path, images: Tensor, device: str) -> Tensor:
    """uint8 pictures (N, S, S, 3) after the VAE; kept in the working folder."""
    import torch
    from rich.progress import track

    path = work / "round_trips.npy"
    if not path.is_file():
        vae, made = load_vae(work, device), []
        with torch.inference_mode():
            for part in track(images.split(100), "base: pictures through the VAE"):
                there = vae(part.permute(0, 3, 1, 2).float() / 127.5 - 1).sample.clamp(-1, 1)
                made.append(((there + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu())
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            np.save(file, torch.cat(made).numpy())
        draft.replace(path)
    return torch.from_numpy(np.load(path, allow_pickle=False)).to(device)


def assemble(params: Base, work: Path, out: Path) -> None:
    """Write ``out`` as a pipeline folder (fp16 safetensors under the default names) with the reference encoder beside."""
    import shutil

    from safetensors.torch import load_file
    from transformers import CLIPTokenizer

    from partsynth.core.pretraining.networks import build_text_encoder, build_unet, save_pipeline

    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    text_encoder, unet, vae = build_text_encoder(tokenizer), build_unet(), load_vae(work, "cpu")
    text_encoder.load_state_dict(load_file(work / "text_encoder.safetensors"))
    unet.load_state_dict(load_file(work / "unet.safetensors"))
    vae.register_to_config(scaling_factor=read_json(work / "scaling.json")["scaling_factor"])
    save_pipeline(out, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet)
    shutil.copytree(work / "reference_encoder", out / "reference_encoder", dirs_exist_ok=True)
    corpus = read_json(work / "corpus" / "corpus.json")
    write_json(
        out / "training.json",
        {
            "params": params.model_dump(exclude={"workers"}),
            "corpus": corpus,
            "log": {part: _last(work, part) for part in ("vae", "unet", "reference", "reference_tune")},
        },
    )
    print(f"{out}: {sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) / 1e6:.1f} MB")


def _logger(work: Path, part: str, steps: int) -> Callable[[int, dict[str, float]], None]:
    """Append each measurement to <part>.jsonl and print it with the time that is left."""
    begun: list[tuple[float, int]] = []

    def log(step: int, values: dict[str, float]) -> None:
        begun.append((time.monotonic(), step))
        first_time, first_step = begun[0]
        pace = (begun[-1][0] - first_time) / max(1, step - first_step)
        with open(work / f"{part}.jsonl", "a") as file:
            file.write(json.dumps({"step": step, "seconds_a_step": round(pace, 5), **values}) + "\n")
        text = ", ".join(f"{k} {v:.4f}" for k, v in values.items())
        print(
            f"{part}: step {step}/{steps}, {text}, {pace * 1000:.1f} ms a step, {pace * (steps - step) / 60:.1f} min left",
            flush=True,
        )

    return log


def _last(work: Path, part: str) -> dict[str, Any]:
    path = work / f"{part}.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return json.loads(lines[-1]) if lines else {}
