"""Stable Diffusion XL, tiny and random: its conditioning is diffusers' own, and a token is learned in both encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from helpers import tiny_sd

from partsynth.core.diffusion.denoising import Examples
from partsynth.core.diffusion.inversion import Concept, Inversion
from partsynth.core.diffusion.loading import load
from partsynth.core.diffusion.xl import StableDiffusionXL

PROMPT = "a photo of a rusty gear"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_sd.build_xl(tmp_path_factory.mktemp("xl"))


@pytest.fixture
def model(folder) -> StableDiffusionXL:
    loaded = load(folder)
    assert isinstance(loaded, StableDiffusionXL)
    return loaded


def test_its_conditioning_and_prediction_are_diffusers_own(folder, model) -> None:
    from diffusers import StableDiffusionXLPipeline

    theirs = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, add_watermarker=False)
    hidden, empty, pooled, empty_pooled = theirs.encode_prompt(PROMPT, do_classifier_free_guidance=True)
    context = model.prompts.embed(PROMPT)  # (L + 1, D)
    assert torch.allclose(context[:-1], hidden[0], atol=1e-5)
    assert torch.allclose(context[-1, : pooled.shape[1]], pooled[0], atol=1e-5)
    assert not context[-1, pooled.shape[1] :].any()
    assert not model.prompts.embed("").any() and not empty.any() and not empty_pooled.any()

    noisy = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    ids = theirs._get_add_time_ids((64, 96), (0, 0), (64, 96), torch.float32, pooled.shape[1]).repeat(2, 1)
    with torch.no_grad():
        made = model.predict(noisy, torch.tensor([500, 20]), context.expand(2, -1, -1))
        added = {"text_embeds": pooled.repeat(2, 1), "time_ids": ids}
        wanted = theirs.unet(noisy, torch.tensor([500, 20]), hidden.repeat(2, 1, 1), added_cond_kwargs=added).sample
    assert torch.allclose(made, wanted, atol=1e-4)


def test_the_empty_prompt_is_encoded_where_the_model_was_trained_so(tmp_path) -> None:
    model = load(tiny_sd.build_xl(tmp_path / "xl", zeros=False))
    assert model.prompts.embed("").any()


@pytest.mark.parametrize("eos", [None, 2])
def test_the_pooled_vector_is_that_of_the_end_though_a_learned_token_has_a_greater_id(tmp_path, eos) -> None:
    model = load(tiny_sd.build_xl(tmp_path / "xl", eos=eos))
    before = model.prompts.embed("a photo of a gear")
    vectors = model.prompts.word_vector("gear")[None]  # the token stands for the very word
    model.prompts.install_token("<it>", vectors)
    assert torch.allclose(model.prompts.embed("a photo of a <it>"), before, atol=1e-5)


def test_sdedit_keeps_the_source_at_strength_nought_and_heeds_the_prompt_above(model) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents = model.encode(images)

    def edit(prompt: str, strength: float, guidance: float = 4.0) -> torch.Tensor:
        context = model.prompts.embed(prompt).expand(2, -1, -1)
        return model.sdedit(latents, context, [1, 2], strength, guidance, 6)

    assert torch.equal(edit(PROMPT, 0.0), latents)
    assert torch.equal(edit(PROMPT, 0.6), edit(PROMPT, 0.6))
    assert not torch.allclose(edit(PROMPT, 0.6), edit("a photo of a clean flange", 0.6), atol=1e-3)


def test_a_token_is_learned_in_both_encoders_and_goes_on_after_a_kill(folder) -> None:
    def training() -> Inversion:
        model = load(folder)
        images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
        concept = Concept("<it>", model.encode(images), [["a photo of a <it>"]] * 3, 5, "gear")
        return Inversion(model, [concept], vectors=2, steps=8, batch_size=2, learning_rate=0.05, warmup=1)

    whole = training()
    start = whole.vectors.detach().clone()
    examples = Examples(whole.model, whole.concepts[0].latents, [["a photo of a <it>"]] * 3)
    while whole.done < whole.steps:
        whole.step()
    learned = whole.result()["<it>"]
    width = whole.model.prompts.first.width
    moved = (learned - start[0]).abs()
    assert moved[:, :width].mean() > 1e-3 and moved[:, width:].mean() > 1e-3
    after = Examples(whole.model, whole.concepts[0].latents, [["a photo of a <it>"]] * 3)
    assert after.measure(1, 4) < examples.measure(1, 4)

    broken = training()
    for _ in range(3):
        broken.step()
    resumed = training()
    resumed.restore({key: value.clone() for key, value in broken.state().items()})
    while resumed.done < resumed.steps:
        resumed.step()
    assert torch.equal(resumed.result()["<it>"], learned)


def test_tokens_of_another_family_and_other_kinds_of_xl_are_named(model, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"it holds vectors, not clip_l and clip_g: another family"):
        model.prompts.from_tensors({"vectors": torch.zeros(1, 8)})
    plain = load(tiny_sd.build(tmp_path / "sd"))
    both = model.prompts.as_tensors(torch.arange(112.0).view(2, 56))
    assert {name: tuple(value.shape) for name, value in both.items()} == {"clip_l": (2, 32), "clip_g": (2, 24)}
    assert torch.equal(model.prompts.from_tensors(both), torch.arange(112.0).view(2, 56))
    with pytest.raises(ValueError, match=r"it holds clip_g, clip_l and no vectors"):
        plain.prompts.from_tensors(both)
    model.unet.register_to_config(addition_time_embed_dim=4)
    with pytest.raises(ValueError, match=r"takes 72 numbers beside the prompt, an SDXL base model's takes 48"):
        StableDiffusionXL(model.vae, model.unet, model.prompts, DDIMScheduler(), torch.float32)
