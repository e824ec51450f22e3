from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pretraining import quiet, random_images

from partsynth.core.pretraining.networks import build_vae
from partsynth.core.pretraining.vae import (
    encode_latents,
    mean_psnr,
    reconstruction_loss,
    round_trip,
    scaled_latents,
    train_vae,
)
from partsynth.store.state import SavedState


def test_lost_colour_costs_more_than_as_much_lost_brightness() -> None:
    rust = torch.tensor([0.4, -0.2, -0.6]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    grey = rust.mean(1, keepdim=True).expand_as(rust)
    error = (grey - rust).square().mean().sqrt()
    assert reconstruction_loss(rust, rust) == 0
    assert reconstruction_loss(grey, rust) > 1.5 * reconstruction_loss(rust + error, rust)


def test_vae_trains_and_its_finished_state_gives_it_again(tmp_path: Path) -> None:
    state = SavedState(tmp_path / "vae.safetensors", "these settings")
    settings: dict[str, Any] = {"steps": 2, "batch_size": 2, "seed": 0, "state": state, "log": quiet}
    vae = train_vae(random_images(4), **settings)
    latents = encode_latents(vae, random_images(3), batch_size=2)
    assert latents.shape == (3, 4, 8, 8) and latents.isfinite().all()
    again = train_vae(random_images(4), **settings)
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), again.state_dict().values(), strict=True))


def test_latents_are_scaled_to_unit_variance_and_a_round_trip_is_measured() -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    latents, factor = scaled_latents(vae, random_images(5))
    assert latents.shape == (2, 5, 4, 8, 8) and float(latents.std()) == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(latents[0], encode_latents(vae, random_images(5)) * factor)
    made = round_trip(vae, random_images(5))
    assert made.shape == (5, 3, 32, 32) and made.abs().max() <= 1
    wanted = random_images(5).permute(0, 3, 1, 2).float() / 127.5 - 1
    errors = ((made - wanted) / 2).square().mean((1, 2, 3))
    assert mean_psnr(vae, random_images(5), batch_size=2) == pytest.approx(
        float((-10 * errors.log10()).mean()), rel=1e-4
    )
