"""Training of the embedded U-Net and text encoder."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsynth.core.pretraining.loop import Log, Loop, State
from partsynth.core.pretraining.networks import build_scheduler, build_text_encoder, build_unet, tokenize


def train_unet(
    latents: Tensor,
    captions: Tensor,
    tokenizer: Any,
    *,
    steps: int,
    batch_size: int,
    caption_dropout: float,
    ema: float,
    seed: int,
    state: State | None,
    log: Log,
) -> tuple[nn.Module, nn.Module]:
    """Train both on scaled latents (V, N, 4, h, w), V = the image and its mirror image, and token ids (N, K, T).

    ``captions[i]`` holds K alternative captions of image i. Returns the EMA (unet, text_encoder) in eval mode.
    """
    device = latents.device.type
    torch.manual_seed(seed)
    unet = build_unet().to(memory_format=torch.channels_last)
    text_encoder = build_text_encoder(tokenizer)
    loop = Loop(
        {"unet": unet, "text_encoder": text_encoder},
        steps=steps,
        learning_rate=6e-4,
        device=device,
        seed=seed,
        state=state,
        ema=ema,
        warmup=500,
        every=2000,
    )
    alphas = build_scheduler().alphas_cumprod.to(latents.device)
    empty = tokenize(tokenizer, [""]).to(latents.device)[0]
    fast = torch.compile(unet) if device == "cuda" else unet

    def loss_of(generator: torch.Generator) -> Tensor:
        draw: dict[str, Any] = {"generator": generator, "device": latents.device}
        index = torch.randint(latents.shape[1], (batch_size,), **draw)
        clean = latents[torch.randint(len(latents), (batch_size,), **draw), index]  # (B, 4, h, w)
        ids = captions[index, torch.randint(captions.shape[1], (batch_size,), **draw)]  # (B, T)
        dropped = torch.rand(batch_size, **draw) < caption_dropout
        ids = torch.where(dropped[:, None], empty, ids)
        t = torch.randint(len(alphas), (batch_size,), **draw)
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, **draw)
        context = text_encoder(ids).last_hidden_state  # (B, T, TEXT_WIDTH)
        made = fast(a * clean + s * noise, t, context).sample
        return F.mse_loss(made.float(), a * noise - s * clean)

    loop.run(loss_of, log)
    return unet.eval(), text_encoder.eval()
