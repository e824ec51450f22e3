"""Training of the embedded VAE."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsynth.core.pretraining.loop import Log, Loop, draw_batch
from partsynth.core.pretraining.networks import build_vae


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + MSE, and L1 on chroma (x 3), on 4 x 4 means (x 2) and on edges.

    PSNR hides colour: most of a picture is grey metal, and at 31 dB rust had become grey. Chroma = picture less its
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


def train_vae(
    images: Tensor, *, steps: int, batch_size: int, seed: int, checkpoint: Path | None, log: Log
) -> nn.Module:
    """Train on uint8 pictures (N, S, S, 3) already on the training device; returns the EMA model in eval mode."""
    device = images.device.type
    torch.manual_seed(seed)
    vae = build_vae().to(memory_format=torch.channels_last)
    loop = Loop(
        {"vae": vae},
        steps=steps,
        learning_rate=1e-3,
        device=device,
        seed=seed,
        checkpoint=checkpoint,
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
def encode_latents(vae: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Posterior means (N, 4, S/4, S/4) float32, unscaled, of uint8 pictures (N, S, S, 3)."""
    means = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].permute(0, 3, 1, 2).float() / 127.5 - 1
        means.append(vae.encode(batch).latent_dist.mean.float())
    return torch.cat(means)
