"""Training of the embedded VAE."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsynth.core.pretraining.loop import Log, Loop, State, as_floats, draw_batch
from partsynth.core.pretraining.networks import build_vae


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + MSE, and L1 on chroma (x 3), on 4 x 4 means (x 2) and on edges.

    PSNR hides colour: most of an image is grey metal, and at 31 dB rust had become grey. Chroma = image minus its
    channel mean.
    """
    difference = made - wanted
    chroma = difference - difference.mean(1, keepdim=True)
    edges = (difference[..., 1:] - difference[..., :-1]).abs().mean() + (
        difference[..., 1:, :] - difference[..., :-1, :]
    ).abs().mean()
    return (
        difference.abs().mean()
        + 2 * difference.square().mean()
        + 3 * chroma.abs().mean()
        + 2 * F.avg_pool2d(difference, 4).abs().mean()
        + 0.5 * edges
    )


def train_vae(images: Tensor, *, steps: int, batch_size: int, seed: int, state: State | None, log: Log) -> Any:
    """Train on uint8 images (N, S, S, 3) already on the training device; returns the EMA model in eval mode."""
    device = images.device.type
    torch.manual_seed(seed)
    vae = build_vae().to(memory_format=torch.channels_last)
    loop = Loop(
        {"vae": vae},
        steps=steps,
        learning_rate=1e-3,
        device=device,
        seed=seed,
        state=state,
        ema=0.999,
        weight_decay=0.0,
    )
    fast = torch.compile(_VaeForward(vae)) if device == "cuda" else _VaeForward(vae)

    def loss_of(generator: torch.Generator) -> Tensor:
        batch, _ = draw_batch(images, batch_size, generator)
        noise = torch.randn(
            batch_size, 4, batch.shape[2] // 4, batch.shape[3] // 4, generator=generator, device=batch.device
        )
        made, kl = fast(batch, noise)
        return reconstruction_loss(made.float(), batch) + 1e-4 * kl

    loop.run(loss_of, log)
    return vae.eval()


class _VaeForward(nn.Module):
    vae: Any

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, batch: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        moments = self.vae.quant_conv(self.vae.encoder(batch)).float()
        mean, log_variance = moments.chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        latent = mean + (0.5 * log_variance).exp() * noise
        return self.vae.decoder(self.vae.post_quant_conv(latent)), kl


@torch.inference_mode()
def encode_latents(vae: Any, images: Tensor, batch_size: int = 256) -> Tensor:
    """Posterior means (N, 4, S/4, S/4) float32, unscaled, of uint8 images (N, S, S, 3)."""
    means = [vae.encode(as_floats(part)).latent_dist.mean.float() for part in images.split(batch_size)]
    return torch.cat(means)


def scaled_latents(vae: Any, images: Tensor) -> tuple[Tensor, float]:
    """Scaled latents (2, N, 4, S/4, S/4) of uint8 images (N, S, S, 3) and their mirrors, and the factor 1 / std."""
    latents = torch.stack([encode_latents(vae, views) for views in (images, images.flip(2))])
    factor = 1.0 / latents.std().item()
    return latents * factor, factor


@torch.inference_mode()
def round_trip(vae: Any, images: Tensor) -> Tensor:
    """Images (B, 3, S, S) in [-1, 1], of uint8 images (B, S, S, 3), after one pass through the VAE."""
    return vae(as_floats(images)).sample.clamp(-1, 1)


@torch.inference_mode()
def mean_psnr(vae: Any, images: Tensor, batch_size: int = 100) -> float:
    """Mean PSNR in dB of uint8 images (N, S, S, 3) after one pass through the VAE."""
    made = torch.cat([round_trip(vae, part) for part in images.split(batch_size)])
    mse = ((made - as_floats(images)) / 2).square().mean((1, 2, 3))
    return (-10 * mse.log10()).mean().item()
