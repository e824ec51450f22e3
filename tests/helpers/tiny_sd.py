"""A tiny Stable Diffusion with random weights, saved as diffusers saves a real one: fp16 safetensors, built in < 1 s.

``build(folder)`` has the shape of the embedded base model (f = 4, 64 px -> 4 x 16 x 16 latents); ``sd15=True`` has
Stable Diffusion 1.5's class names, blocks and scheduler (f = 8, four levels, PNDM, 77 tokens, no safety checker).
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partsynth.config.generation import Generate, Tokens
    from partsynth.config.models import Diffusion
    from partsynth.config.sets import AugmentationSet

CAPTIONS = [
    f"a photo of a {state} {part}"
    for state in ("used", "rusty", "dirty", "broken", "brand new", "old", "clean")
    for part in ("part", "motor", "gear", "flange", "bracket", "alternator with 12 slots", "gear with 24 teeth")
]


def tokenizer(length: int):
    """CLIPTokenizer whose byte-pair merges were learned from CAPTIONS; ``length`` tokens a prompt.

    The merges are counted here: the trainer of ``tokenizers`` breaks ties differently in every process.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    counts = Counter(word for caption in CAPTIONS for word in caption.split())
    pieces = {word: (*word[:-1], word[-1] + "</w>") for word in counts}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merge(parts, best) for word, parts in pieces.items()}
    alphabet = sorted(ByteLevel.alphabet())
    vocab = [*alphabet, *(a + "</w>" for a in alphabet), *("".join(m) for m in merges)]
    vocab = list(dict.fromkeys([*vocab, "<|startoftext|>", "<|endoftext|>"]))
    return CLIPTokenizer(vocab={v: i for i, v in enumerate(vocab)}, merges=merges, model_max_length=length)


def _merge(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def _vae(levels: int, scaling_factor: float):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(16,) * levels,
        norm_num_groups=8,
        layers_per_block=1,
        latent_channels=4,
        sample_size=64,
        scaling_factor=scaling_factor,
    )


def build(folder: Path, sd15: bool = False, prediction: str = "epsilon", seed: int = 0) -> Path:
    """Save the model in ``folder`` and return it. ``prediction``: epsilon or v_prediction."""
    import torch
    from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPImageProcessor, CLIPTextConfig, CLIPTextModel

    length = 77 if sd15 else 32
    words = tokenizer(length)
    noise = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "prediction_type": prediction,
    }
    levels = 4 if sd15 else 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = _vae(levels, 0.18215)
        unet = UNet2DConditionModel(
            sample_size=8 if sd15 else 16,
            down_block_types=(
                (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D") if sd15 else ("DownBlock2D", "CrossAttnDownBlock2D")
            ),
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3) if sd15 else ("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 16, 32, 32) if sd15 else (16, 32),
            norm_num_groups=8,
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=8,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=length,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        )
        # random weights hardly heed the prompt: stronger words and keys, so that tests see the conditioning work
        with torch.no_grad():
            text.get_input_embeddings().weight.mul_(10)
            for name, weight in unet.named_parameters():
                if "attn2" in name and name.endswith("weight"):
                    weight.mul_(4)
    scheduler = PNDMScheduler(skip_prk_steps=True, **noise) if sd15 else DDIMScheduler(clip_sample=False, **noise)
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        unet=unet.half(),
        text_encoder=text.half(),
        tokenizer=words,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=CLIPImageProcessor() if sd15 else None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return Path(folder)


def build_xl(folder: Path, seed: int = 0, eos: int | None = None, zeros: bool = True) -> Path:
    """Save a tiny SDXL with random weights in ``folder`` and return it.

    ``eos``: what the text encoders' configurations say (2 in old ones); ``zeros``: force_zeros_for_empty_prompt.
    """
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = tokenizer(32)

    def text(width: int, projection: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=32,
            projection_dim=projection,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id if eos is None else eos,
            pad_token_id=words.pad_token_id,
        )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = _vae(3, 0.13025)
        unet = UNet2DConditionModel(
            sample_size=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 32),
            norm_num_groups=8,
            layers_per_block=1,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 2),
            projection_class_embeddings_input_dim=6 * 8 + 24,
            cross_attention_dim=32 + 24,
        )
        first, second = CLIPTextModel(text(32, 32)), CLIPTextModelWithProjection(text(24, 24))
        with torch.no_grad():
            for encoder in (first, second):
                encoder.get_input_embeddings().weight.mul_(10)
            for name, weight in unet.named_parameters():
                if "attn2" in name and name.endswith("weight"):
                    weight.mul_(4)
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    pipeline = StableDiffusionXLPipeline(
        vae=vae.half(),
        unet=unet.half(),
        text_encoder=first.half(),
        text_encoder_2=second.half(),
        tokenizer=words,
        tokenizer_2=tokenizer(32),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", **noise),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return Path(folder)


def as_single_file(folder: Path) -> dict:
    """The model's tensors under the names of the original Stable Diffusion, as one-file checkpoints have them."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    unet, vae, found = pipeline.unet, pipeline.vae, {}
    layers = unet.config.layers_per_block
    names = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
    names |= {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    names |= {"mid_block.attentions.0": "middle_block.1"}
    names |= {f"mid_block.resnets.{j}": f"middle_block.{2 * j}" for j in range(2)}
    for i, kind in enumerate(unet.config.up_block_types):
        for j in range(layers + 1):
            names[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{(layers + 1) * i + j + 1}.0"
            names[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{(layers + 1) * i + j + 1}.1"
            names[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{(layers + 1) * i + j}.0"
            names[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{(layers + 1) * i + j}.1"
        names[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{(layers + 1) * (i + 1)}.0.op"
        place = 2 if "CrossAttn" in kind else 1
        names[f"up_blocks.{i}.upsamplers.0"] = f"output_blocks.{(layers + 1) * i + layers}.{place}"
    inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3"}
    inner |= {"time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
    for key, value in unet.state_dict().items():
        old = next(name for name in sorted(names, key=len, reverse=True) if key.startswith(f"{name}."))
        rest = key.removeprefix(old)
        if "resnets" in old:
            part = rest.split(".")[1]
            rest = rest.replace(part, inner[part], 1)
        found[f"model.diffusion_model.{names[old]}{rest}"] = value
    levels = len(vae.config.block_out_channels)
    for key, value in vae.state_dict().items():
        name = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for i in range(2):
            name = name.replace(f"mid_block.resnets.{i}.", f"mid.block_{i + 1}.")
        for i in range(levels):
            up = levels - 1 - i
            name = name.replace(f"down_blocks.{i}.resnets.", f"down.{i}.block.")
            name = name.replace(f"down_blocks.{i}.downsamplers.0.", f"down.{i}.downsample.")
            name = name.replace(f"up_blocks.{i}.resnets.", f"up.{up}.block.")
            name = name.replace(f"up_blocks.{i}.upsamplers.0.", f"up.{up}.upsample.")
        if "attn_1" in name:
            for new, old in {
                "group_norm": "norm",
                "to_q": "q",
                "to_k": "k",
                "to_v": "v",
                "to_out.0": "proj_out",
            }.items():
                name = name.replace(f"attn_1.{new}.", f"attn_1.{old}.")
            value = value[..., None, None] if value.ndim == 2 else value
        found[f"first_stage_model.{name}"] = value
    for key, value in pipeline.text_encoder.state_dict().items():
        name = key if key.startswith("text_model.") else f"text_model.{key}"
        found[f"cond_stage_model.transformer.{name}"] = value
    return {name: value.contiguous() for name, value in found.items()}


def write_real(
    root: Path, classes: tuple[str, ...] = ("gear_t12", "gear_t24"), pictures: int = 3, size: int = 64
) -> Path:
    """A small ``data/real`` below ``root``: drawn train and val pictures, masks, manifest; returns its folder."""
    import numpy as np
    from PIL import Image, ImageDraw

    from partsynth.records.manifest import write_manifest
    from partsynth.records.rows import RealRecord
    from partsynth.store.hashing import sha256_file
    from partsynth.store.png import write_png

    rows = []
    for k, name in enumerate(classes):
        for split in ("train", "val"):
            for i in range(pictures):
                box = [size // 4 + i, size // 4 + k, 3 * size // 4 + k, 3 * size // 4]
                image = Image.new("RGB", (size, size), (90 + 20 * i, 90, 90 + 5 * k))
                ImageDraw.Draw(image).ellipse(box, fill=(200 - 40 * k, 120 + 30 * k, 60 + 10 * i))
                mask = Image.new("L", (size, size))
                ImageDraw.Draw(mask).ellipse(box, fill=255)
                grain = np.random.default_rng([k, i, split == "val"]).normal(0, 6, (size, size, 3))
                pixels = (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)
                path = f"data/real/{split}/{name}/{name}_{i}.png"
                mask_path = path.replace("data/real", "data/real/masks")
                write_png(root / path, pixels)
                write_png(root / mask_path, mask)
                rows.append(
                    RealRecord(
                        path=path,
                        sha256=sha256_file(root / path),
                        class_name=name,
                        split=split,
                        group=f"{name}_{split}_{i}",
                        state=("used", "rusty")[i % 2],
                        mask=mask_path,
                        source=f"{name}/{i}.png",
                        source_sha256="0" * 64,
                    )
                )
    write_manifest(root / "data/real/manifest.csv", rows, RealRecord)
    return root / "data/real"


def learn_tokens(root: Path, settings: Tokens | None = None, base: str = "models/base", size: int = 64) -> Path:
    """Run stage tokens below ``root`` on the CPU, few steps; returns its folder."""
    from partsynth.config.generation import Tokens
    from partsynth.config.models import Diffusion
    from partsynth.stages import tokens

    out = root / "models/tokens"
    tokens.run(
        tokens.Inputs(
            params=settings or Tokens(steps=2, batch_size=2, vectors=2, warmup=1),
            diffusion=Diffusion(model=base, size=size, device="cpu"),
            real=root / "data/real",
            out=out,
            root=root,
        )
    )
    return out


def make_learned(root: Path) -> Path:
    """A project with a base, a real set and learned tokens; returns ``root``."""
    build(root / "models/base")
    write_real(root)
    learn_tokens(root)
    return root


def make_set(
    root: Path, name: str, settings: Generate, augmentation: AugmentationSet, diffusion: Diffusion | None = None
) -> Path:
    """Run stage generate below ``root`` on the CPU; returns the set's folder."""
    from partsynth.config.models import Diffusion
    from partsynth.stages import generate

    out = root / "data/augmented" / name
    generate.run(
        generate.Inputs(
            params=settings,
            diffusion=(diffusion or Diffusion()).model_copy(update={"device": "cpu"}),
            augmentation=augmentation,
            set_name=name,
            real=root / "data/real",
            tokens=root / "models/tokens",
            strengths=root / f"data/strengths/{name}.json",
            out=out,
            root=root,
        )
    )
    return out
