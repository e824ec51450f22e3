"""The embedded Stable Diffusion's parts: small, in the shapes that diffusers and transformers load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

TEXT_WIDTH = 192
TEXT_LENGTH = 48  # tokens per prompt, start and end included


def build_vae() -> Any:
    """An ``AutoencoderKL`` of a quarter of the side: images (B, 3, S, S) to latents (B, 4, S/4, S/4)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 64, 128),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        mid_block_add_attention=False,
        sample_size=64,
    )


def build_unet() -> Any:
    """A ``UNet2DConditionModel``.

    Cross-attention at 8 x 8 both ways and in the middle: at 16 x 16 it costs most on a CPU, at 4 x 4 it adds weights.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
    )


def build_tokenizer(captions: Sequence[str], folder: Path, vocabulary: int = 900) -> Any:
    """A CLIP-style BPE tokenizer (end-of-word suffix ``</w>``) trained on the captions, and saved to ``folder``."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    bpe = Tokenizer(models.BPE(unk_token=special[1], end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")  # so that a word unseen in the captions still splits
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        end_of_word_suffix="</w>",
        show_progress=False,
        initial_alphabet=letters,
    )
    bpe.train_from_iterator(sorted(set(captions)) + letters, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    vocab_file, merges_file = bpe.model.save(str(folder))
    vocab = json.loads(Path(vocab_file).read_text())
    lines = [line for line in Path(merges_file).read_text().splitlines() if line and not line.startswith("#version")]
    merges: Any = [tuple(line.split(" ")) for line in lines]
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, pad_token=special[1], model_max_length=TEXT_LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_text_encoder(tokenizer: Any) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=6,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenize(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Token ids (N, TEXT_LENGTH), padded and cut."""
    return tokenizer(
        list(captions), padding="max_length", truncation=True, max_length=TEXT_LENGTH, return_tensors="pt"
    ).input_ids


def build_scheduler() -> Any:
    """Stable Diffusion's noise schedule (scaled linear, 1,000 steps) as DDIM with v-prediction."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def save_pipeline(out: Path, *, vae: nn.Module, text_encoder: nn.Module, tokenizer: Any, unet: nn.Module) -> None:
    """Write a Stable Diffusion folder in diffusers' format, fp16 safetensors under the default file names."""
    from diffusers import StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out, safe_serialization=True)
