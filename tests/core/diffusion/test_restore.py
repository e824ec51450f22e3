from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from partsynth.core.diffusion.images import to_images, to_pixels
from partsynth.core.diffusion.restore import fitted, grained, matched, restored

SEEDS = st.integers(0, 2**32 - 1)
SIGMAS = st.floats(0, 12)


def images(seed: int, *sides: int) -> list[torch.Tensor]:
    """One (3, S, S) for each side, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, side, side, generator=generator) * 2 - 1 for side in sides]


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, share=st.floats(0, 1))
def test_without_a_cut_off_it_is_what_the_vae_lost(seed: int, share: float) -> None:
    edit, trip, source = images(seed, 24, 24, 24)
    plain = edit + share * (source - trip)
    assert torch.equal(restored(edit, trip, source, share, 0), plain)
    assert (restored(edit, trip, source, share, 1e-3) - plain).abs().max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, sigma=SIGMAS, side=st.integers(8, 60))
def test_an_edit_that_changed_nothing_gives_the_source(seed: int, sigma: float, side: int) -> None:
    trip, source = images(seed, 24, side)
    levels = to_pixels(to_images(source[None])[0])
    made = to_images(restored(trip, trip, levels, 1, sigma)[None])[0]
    assert made.tobytes() == to_images(levels[None])[0].tobytes()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, sigma=st.floats(0.5, 6), share=st.floats(0, 1))
def test_the_share_is_between_the_edit_and_the_source_with_its_coarse_part(
    seed: int, sigma: float, share: float
) -> None:
    edit, trip, source = images(seed, 24, 24, 40)
    none, all_of_it = (restored(edit, trip, source, s, sigma) for s in (0, 1))
    assert torch.equal(none, fitted(edit, (40, 40)))
    assert torch.allclose(restored(edit, trip, source, share, sigma), torch.lerp(none, all_of_it, share), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, sigma=SIGMAS, side=st.integers(8, 60))
def test_pictures_stay_in_range_and_have_their_sources_size(seed: int, sigma: float, side: int) -> None:
    edit, trip, source = images(seed, 24, 24, side)
    made = to_images(restored(edit, trip, source, 1, sigma)[None])[0]
    low, high = zip(*made.getextrema(), strict=True)
    assert made.size == (side, side) and min(low) >= 0 and max(high) <= 255


def test_grain_is_put_back_and_no_ghost_of_the_sources_outline() -> None:
    """A source with grain and an edge that the VAE blurs; the edit is of another form: flat."""
    side, generator = 64, torch.Generator().manual_seed(0)
    grain = 0.03 * torch.randn(3, side, side, generator=generator)
    step = torch.where(torch.arange(side) < 32, -0.4, 0.4).expand(3, side, side)
    trip, flat = low(step, 2).float(), torch.zeros(3, side, side)
    found = grained(flat, trip, step + grain, 1.0)
    away, edge = found[:, :, :20], found[:, :, 31:33]
    assert torch.allclose(away, grain[:, :, :20], atol=0.03) and away.std() > 0.9 * 0.03
    assert restored(flat, trip, step + grain, 1.0, 0.0)[:, :, 31:33].mean(1).abs().max() > 0.1  # the ghost
    assert edge.mean(1).abs().max() < 0.05
    assert torch.equal(grained(flat, trip, step, 0.0), flat)
    assert grained(flat[:, ::2, ::2], trip[:, ::2, ::2], step, 1.0).shape == step.shape


def low(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter(image.double().numpy(), (0, sigma, sigma), mode="reflect"))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, sigma=st.floats(0.5, 8))
def test_a_matched_edit_has_its_own_fine_part_and_the_others_coarse_one(seed: int, sigma: float) -> None:
    edit, other = images(seed, 32, 32)
    found = matched(edit, other, edit, sigma).double()
    assert torch.allclose(found, edit - low(edit, sigma) + low(other, sigma), atol=1e-5)
    assert torch.allclose(matched(edit, edit, 2 * edit, sigma), edit, atol=1e-5)
    shifted = matched(edit + 0.5, other, edit, sigma)  # another light of the edit changes nothing
    assert torch.allclose(shifted.double(), found, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, sigma=st.floats(0.5, 8), share=st.floats(0, 1))
def test_its_fine_colours_are_no_stronger_than_the_sources_and_its_luma_is_its_own(
    seed: int, sigma: float, share: float
) -> None:
    edit, other = images(seed, 32, 32)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = (weights * edit).sum(0, keepdim=True).expand(3, 32, 32)
    pale = grey + share * (edit - grey)
    found = matched(edit, other, pale, sigma)
    assert torch.allclose(found, matched(pale, other, pale, sigma), atol=1e-4)


def test_the_cut_off_is_in_the_sources_own_pixels() -> None:
    """A blot in the middle of the edit: its width in the image grows with sigma, whatever the model's size."""
    for model in (16, 32, 64):
        trip = torch.zeros(3, model, model)
        edit = trip.clone()
        edit[:, model // 2 - 1 : model // 2 + 1, model // 2 - 1 : model // 2 + 1] = 1.0
        edit *= (model / 16) ** 2  # the same amount of light
        for sigma in (6.0, 12.0):
            made = restored(edit, trip, torch.zeros(3, 128, 128), 1, sigma)[0].double()
            row = made.sum(0)
            place = torch.arange(128) - 63.5
            width = float(((row * place**2).sum() / row.sum()).sqrt())
            blot = 128 / model * 2 / 12**0.5  # of the square itself, and of the bicubic kernel next to nothing
            assert width == pytest.approx((sigma**2 + blot**2) ** 0.5, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, sigma=st.floats(1.5, 4))
def test_a_photograph_of_twice_the_size_is_edited_alike(seed: int, sigma: float) -> None:
    """Source and cut-off twice as large: the same image, twice as large."""
    edit, trip, small = images(seed, 32, 32, 32)
    large = fitted(small, (64, 64))
    done, alike = restored(edit, trip, large, 1, 2 * sigma), fitted(restored(edit, trip, small, 1, sigma), (64, 64))
    change = fitted(restored(edit, trip, torch.zeros_like(small), 1, sigma), (64, 64))
    inner = (..., slice(8, -8), slice(8, -8))
    assert (done - alike)[inner].abs().mean() < 0.05 * change[inner].abs().mean()


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_detail_finer_than_the_cut_off_is_the_sources(seed: int) -> None:
    """Stripes of a pixel that the edit redrew elsewhere do not reach the image; its change of light does."""
    stripes = torch.ones(3, 64, 64) * torch.tensor([0.5, -0.5]).repeat(32)
    source, trip = 0.4 * stripes, torch.zeros(3, 64, 64)
    light = 0.1 + (seed % 100) / 500
    made = restored(-stripes * 0.4 + light, trip, source, 1, 3.0)
    assert torch.allclose(made[..., 12:-12], (source + light)[..., 12:-12], atol=0.01)  # the border mirrors a stripe


def test_a_photograph_keeps_its_own_detail_at_any_size() -> None:
    """A model at 16 px, a photograph at 96: what it had of detail is still there."""
    (source,) = images(0, 96)
    model = fitted(source, (16, 16))
    made = restored((model * 0.5 + 0.3).clamp(-1, 1), model, source, 1, 8.0)
    fine = [image - fitted(fitted(image, (16, 16)), (96, 96)) for image in (made, source)]
    correlation = torch.corrcoef(torch.stack([f.flatten() for f in fine]))[0, 1]
    assert correlation > 0.99 and float(made.mean()) > float(source.mean()) + 0.25


def test_pixels_are_levels_of_255() -> None:
    image = Image.new("L", (3, 2), 255)
    assert to_pixels(image).shape == (3, 2, 3) and float(to_pixels(image).min()) == 1.0
