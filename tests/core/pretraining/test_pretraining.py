from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from partsynth.core.diffusion.loading import load as load_diffusion
from partsynth.core.drift import reference
from partsynth.core.pretraining.loop import Loop
from partsynth.core.pretraining.networks import (
    TEXT_LENGTH,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    build_vae,
    save_pipeline,
    tokenize,
)
from partsynth.core.pretraining.reference import _spoil, _Variants, train_reference, tune_reference
from partsynth.core.pretraining.unet import train_unet
from partsynth.core.pretraining.vae import encode_latents, reconstruction_loss, train_vae

CAPTIONS = [
    f"a photo of a {s} {f}, {n} holes"
    for s in ("rusty", "used", "brand new")
    for f in ("gear", "flange")
    for n in (3, 4)
]


def quiet(step: int, values: dict[str, float]) -> None:
    assert math.isfinite(values["loss"])


def pictures(count: int, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, side, side, 3), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return build_tokenizer(CAPTIONS, tmp_path_factory.mktemp("tokenizer"))


# --- the resumable loop -------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def fit(checkpoint: Path | None, stop_at: int | None = None, ema: float | None = 0.9) -> tuple[list[torch.Tensor], int]:
    """Twelve steps of a small regression, a checkpoint every five; the weights, and how many losses were computed."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    loop = Loop(
        {"net": net},
        steps=12,
        learning_rate=0.05,
        device="cpu",
        seed=7,
        checkpoint=checkpoint,
        ema=ema,
        warmup=3,
        every=5,
    )
    calls = 0

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        nonlocal calls
        if stop_at is not None and loop.start + calls == stop_at:
            raise Killed
        calls += 1
        x = torch.randn(16, 4, generator=generator)
        return (net(x).float()[:, 0] - x.sum(1)).square().mean()

    loop.run(loss_of, quiet)
    return [p.detach().clone() for p in net.parameters()], calls


@pytest.mark.parametrize("ema", [0.9, None])
def test_a_killed_run_goes_on_and_ends_as_the_unbroken_one(tmp_path: Path, ema: float | None) -> None:
    wanted, calls = fit(None, ema=ema)
    assert calls == 12
    checkpoint = tmp_path / "loop.safetensors"
    with pytest.raises(Killed):
        fit(checkpoint, stop_at=8, ema=ema)
    with safe_open(checkpoint, "pt") as file:
        assert file.metadata()["step"] == "5"
    found, calls = fit(checkpoint, ema=ema)
    assert calls == 7
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    again, calls = fit(checkpoint, ema=ema)  # finished: nothing is left to do, the result is the same
    assert calls == 0 and all(torch.equal(a, b) for a, b in zip(again, wanted, strict=True))


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    net = torch.nn.Linear(2, 1)
    loop = Loop({"net": net}, steps=3, learning_rate=0.1, device="cpu", seed=0, checkpoint=None)
    with pytest.raises(FloatingPointError, match="step 3"):
        loop.run(lambda generator: net.weight.sum() * float("nan"), quiet)


# --- words --------------------------------------------------------------------------------------------------------


def test_the_tokenizer_keeps_its_ids_when_loaded(words, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    words.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    for caption in (*CAPTIONS, "a photo of a zebra with 19 stripes", ""):
        ids = words(caption).input_ids
        assert ids == loaded(caption).input_ids
        assert ids[0] == words.bos_token_id and ids[-1] == words.eos_token_id
    assert loaded.model_max_length == TEXT_LENGTH


def test_whole_words_are_learned_and_unknown_ones_are_spelled(words) -> None:
    assert len(words("rusty", add_special_tokens=False).input_ids) == 1
    spelled = words("zebra", add_special_tokens=False).input_ids
    assert len(spelled) > 1 and words.unk_token_id not in spelled
    assert words.decode(spelled).strip() == "zebra"


def test_prompts_are_padded_and_cut_to_one_length(words) -> None:
    ids = tokenize(words, ["", "a rusty gear", "gear " * 200])
    assert ids.shape == (3, TEXT_LENGTH)
    assert (ids[0, 1:] == words.eos_token_id).all()
    assert ids[2, -1] == words.eos_token_id


# --- the three trainings ------------------------------------------------------------------------------------------


def test_lost_colour_costs_more_than_as_much_lost_brightness() -> None:
    rust = torch.tensor([0.4, -0.2, -0.6]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    grey = rust.mean(1, keepdim=True).expand_as(rust)
    error = (grey - rust).square().mean().sqrt()
    assert reconstruction_loss(rust, rust) == 0
    assert reconstruction_loss(grey, rust) > 1.5 * reconstruction_loss(rust + error, rust)


def test_vae_trains_and_its_finished_checkpoint_gives_it_again(tmp_path: Path) -> None:
    settings = dict(steps=2, batch_size=2, seed=0, checkpoint=tmp_path / "vae.safetensors", log=quiet)
    vae = train_vae(pictures(4), **settings)
    latents = encode_latents(vae, pictures(3), batch_size=2)
    assert latents.shape == (3, 4, 8, 8) and latents.isfinite().all()
    again = train_vae(pictures(4), **settings)
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), again.state_dict().values(), strict=True))


def test_unet_and_text_encoder_learn_together(words) -> None:
    torch.manual_seed(0)
    before = build_unet()
    text = build_text_encoder(words)
    start = [p.detach().clone() for p in (*before.parameters(), *text.parameters())]
    latents = torch.randn(2, 4, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    ids = tokenize(words, CAPTIONS[:8]).view(4, 2, -1)
    unet, text = train_unet(
        latents, ids, words, steps=2, batch_size=2, caption_dropout=0.5, ema=0.5, seed=0, checkpoint=None, log=quiet
    )
    after = [*unet.parameters(), *text.parameters()]
    moved = [not torch.equal(a, b) for a, b in zip(start, after, strict=True)]
    assert np.mean(moved) > 0.9 and not unet.training and not text.training


def test_reference_encoder_trains_and_loads(tmp_path: Path) -> None:
    variants = torch.tensor([0, 0, 0, 1, 1, 1, 2])  # the last one has no partner and is left out
    net = train_reference(
        pictures(7, 64), variants, steps=2, seed=0, checkpoint=None, log=quiet, variants_a_step=2, pictures_a_variant=2
    )
    reference.save(net, tmp_path, 64)
    features = reference.load(str(tmp_path))(pictures(3, 64).numpy())
    assert features.shape == (3, 128)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_tuning_goes_on_from_the_given_weights_and_sees_what_the_vae_makes() -> None:
    variants, families = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])
    settings = dict(steps=2, seed=0, checkpoint=None, log=quiet, variants_a_step=2, pictures_a_variant=2)

    def tuned(round_trips: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net = reference.ReferenceNet((8, 8), 4)
        before = [p.detach().clone() for p in net.parameters()]
        net = tune_reference(net.eval(), pictures(4), round_trips, variants, families, **settings)
        assert not net.training
        return [after - start for after, start in zip(net.parameters(), before, strict=True)]

    moved, otherwise = tuned(pictures(4)), tuned(255 - pictures(4))
    assert all(0 < step.abs().max() < 0.01 for step in moved)  # two small steps, not new weights
    assert not all(torch.equal(a, b) for a, b in zip(moved, otherwise, strict=True))


def test_a_step_draws_whole_variants_and_every_other_one_keeps_to_few_families() -> None:
    variants = torch.arange(24) // 2  # twelve variants of two pictures ...
    variants = torch.cat([variants, torch.tensor([12])])  # ... and one picture that has no partner
    families = torch.tensor([v // 4 for v in variants.tolist()])
    sampler = _Variants(variants, families)
    spread = []
    for seed in range(40):
        index = sampler.draw(4, 3, torch.Generator().manual_seed(seed))
        found = variants[index].view(4, 3)
        assert (found == found[:, :1]).all() and len(found[:, 0].unique()) == 4 and 12 not in found
        spread.append(len(families[index].unique()))
    assert 10 <= spread.count(1) <= 30  # four variants fill one family
    assert max(spread) == 3
    plain = _Variants(variants)
    assert (
        len({len(families[plain.draw(4, 3, torch.Generator().manual_seed(s))].unique()) for s in range(9)} - {1}) >= 1
    )


def test_spoilt_pictures_are_of_three_kinds() -> None:
    batch = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    spoilt = _spoil(batch, torch.Generator().manual_seed(1))
    inverted = (spoilt == -batch).flatten(1).all(1)
    smooth = spoilt.diff(dim=3).abs().mean((1, 2, 3)) < 0.5 * batch.diff(dim=3).abs().mean((1, 2, 3))
    assert inverted.sum() == 2 and smooth.sum() == 2 and not (inverted & smooth).any()
    assert spoilt.abs().max() <= 1


# --- the saved pipeline -------------------------------------------------------------------------------------------


def test_the_saved_folder_is_a_stable_diffusion(words, tmp_path: Path) -> None:
    torch.manual_seed(0)
    out = tmp_path / "base"
    save_pipeline(out, vae=build_vae(), text_encoder=build_text_encoder(words), tokenizer=words, unet=build_unet())
    weights = {"vae/diffusion_pytorch_model", "unet/diffusion_pytorch_model", "text_encoder/model"}
    assert {p.relative_to(out).with_suffix("").as_posix() for p in out.rglob("*.safetensors")} == weights
    assert not [p for p in out.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
    with safe_open(out / "unet/diffusion_pytorch_model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    model = load_diffusion(out)
    assert model.prediction == "v_prediction" and model.factor == 4 and model.length == TEXT_LENGTH
    made = model.generate(["a rusty gear", "a used flange"], [1, 2], 2.0, 2, 64, batch_size=2)
    assert made.shape == (2, 3, 64, 64) and made.isfinite().all() and made.abs().max() <= 1
