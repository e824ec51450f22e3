from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers import tiny_sd

from partsynth.core.diffusion.inversion import Concept, Inversion
from partsynth.core.diffusion.loading import load
from partsynth.core.diffusion.model import StableDiffusion

STATES = ("used", "rusty")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {p: tiny_sd.build(root / p, prediction=p) for p in ("epsilon", "v_prediction")}


@pytest.fixture(params=["epsilon", "v_prediction"])
def model(request, folders) -> StableDiffusion:
    return load(folders[request.param])


def concepts(model: StableDiffusion, *names: str, pictures: int = 5, init_word: str = "part") -> list[Concept]:
    found = []
    for k in map("abc".index, names):
        generator = torch.Generator().manual_seed(k)
        images = (torch.rand(pictures, 3, 64, 64, generator=generator) - 0.5) * (k + 1) * 0.6
        prompts = [[f"a photo of a {state} <{'abc'[k]}>" for state in STATES]] * pictures
        found.append(Concept(f"<{'abc'[k]}>", model.encode(images), prompts, 1000 * k, init_word))
    return found


def training(
    model: StableDiffusion, *names: str, steps: int = 8, learning_rate: float = 0.05, init_word: str = "part", **kwargs
) -> Inversion:
    settings = {"vectors": 3, "batch_size": 2, "warmup": 2} | kwargs
    return Inversion(
        model, concepts(model, *names, init_word=init_word), steps=steps, learning_rate=learning_rate, **settings
    )


def trained(model: StableDiffusion, *names: str, **kwargs) -> Inversion:
    run = training(model, *names, **kwargs)
    while run.done < run.steps:
        run.step()
    return run


def loss_of(model: StableDiffusion, concept: Concept, prompt: str) -> float:
    """Denoising loss of a concept's pictures under a prompt, with fixed noise."""
    generator = torch.Generator().manual_seed(99)
    total = 0.0
    context = model.prompts.embed(prompt).expand(len(concept.latents), -1, -1)
    with torch.no_grad():
        for t in range(150, 1000, 200):
            noise = torch.randn(concept.latents.shape, generator=generator)
            noisy = model.mix(concept.latents, noise, model.alphas[t])
            out = model.predict(noisy, torch.full((len(noisy),), t), context)
            alpha = model.alphas[t]
            v = alpha**0.5 * noise - (1 - alpha) ** 0.5 * concept.latents
            total += float((out - (noise if model.prediction == "epsilon" else v)).square().mean())
    return total


def test_a_learned_token_lowers_the_loss_of_its_own_class(model) -> None:
    run = trained(model, "a", "b", steps=30)
    run.result()
    assert run.losses.shape == (30, 2) and bool((run.losses > 0).all())
    for concept in run.concepts:
        own = loss_of(model, concept, f"a photo of a used {concept.token}")
        assert own < loss_of(model, concept, "a photo of a used part part part")


def test_the_base_is_left_as_it_was(model) -> None:
    parts = (model.vae, model.unet, model.prompts.text_encoder)
    before = [p.clone() for part in parts for p in part.parameters()]
    plain = model.prompts.embed("a photo of a used part")
    trained(model, "a").result()
    after = [p for part in parts for p in part.parameters()]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert all(p.grad is None and not p.requires_grad for p in after)
    assert torch.equal(model.prompts.embed("a photo of a used part"), plain)


def test_vectors_start_at_the_word_and_differ_a_little(model) -> None:
    run, word = training(model, "a"), model.prompts.word_vector("part")
    assert run.vectors.shape == (1, 3, model.prompts.width)
    assert 0 < float((run.state()["vectors"] - word).abs().max()) < 0.3 * float(word.abs().max())
    assert not torch.equal(run.vectors[0, 0], run.vectors[0, 1])


@pytest.mark.parametrize("batch_size", [2, 5, 9, 20])
def test_a_class_learns_the_same_bytes_alone_and_among_others(model, folders, batch_size) -> None:
    settings = {"steps": 3, "batch_size": batch_size}
    together = trained(model, "a", "b", "c", **settings)
    alone = trained(load(folders[model.prediction]), "b", **settings)
    assert torch.equal(alone.losses[:, 0], together.losses[:, 1])
    assert torch.equal(alone.result()["<b>"], together.result()["<b>"])


def test_a_restored_training_ends_with_the_same_bytes(model, folders) -> None:
    whole = trained(model, "a", "b")
    broken = training(load(folders[model.prediction]), "a", "b")
    for _ in range(3):
        broken.step()
    state = {k: v.clone() for k, v in broken.state().items()}
    resumed = training(load(folders[model.prediction]), "a", "b")
    resumed.restore(state)
    while resumed.done < resumed.steps:
        resumed.step()
    assert torch.equal(resumed.losses, whole.losses)
    assert all(torch.equal(v, whole.result()[k]) for k, v in resumed.result().items())


def test_passes_of_any_size_give_the_same_gradient(model, folders, monkeypatch) -> None:
    whole = training(model, "a", "b", steps=1, batch_size=8, learning_rate=1e-3)
    losses = whole.step()
    monkeypatch.setattr("partsynth.core.diffusion.inversion.PASS", 3)
    parts = training(load(folders[model.prediction]), "a", "b", steps=1, batch_size=8, learning_rate=1e-3)
    torch.testing.assert_close(parts.step(), losses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.state()["exp_avg"], whole.state()["exp_avg"], atol=1e-6, rtol=1e-3)


def test_the_gradient_is_the_losss_own(folders) -> None:
    """Against finite differences of the loss along the gradient's direction."""
    found = {}
    for sign in (-1, 0, 1):
        model = load(folders["epsilon"])
        run = training(model, "a", steps=2, batch_size=4)
        gradient = found.get("gradient")
        if gradient is None:
            run.optimiser.step = lambda run=run: found.update(gradient=run.vectors.grad.clone())
            run.step()
            gradient = found["gradient"]
            run.done = 0
        direction = gradient / gradient.norm()
        with torch.no_grad():
            run.vectors += sign * 1e-2 * direction
        run.optimiser.step = lambda: None
        found[sign] = float(run.step()[0])
    measured = (found[1] - found[-1]) / 2e-2
    assert measured == pytest.approx(float(found["gradient"].norm()), rel=0.05)


def test_every_timestep_from_the_lowest_noise_on_is_drawn_and_classes_are_balanced(model) -> None:
    run = training(model, "a", batch_size=8)
    times, prompts = [], []
    for run.done in range(40):
        latents, noise, drawn, picks = run._draw(run.concepts[0])
        assert latents.shape == noise.shape == (8, 4, 16, 16)
        times += drawn.tolist()
        prompts += picks.tolist()
    assert 100 <= min(times) < 130 and 970 < max(times) <= 999
    assert set(prompts) == {0, 1}


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_a_half_precision_unet_learns_too(folders, dtype) -> None:
    run = trained(load(folders["epsilon"], dtype=dtype), "a", steps=20)
    assert float(run.losses[-5:].mean()) < float(run.losses[:5].mean())


def test_faults_are_named(model) -> None:
    with pytest.raises(ValueError, match="does not know the word"):
        training(model, "a", init_word="")
    bad = Concept("<z>", torch.zeros(2, 4, 16, 16), [["a photo of a part"]] * 2, 0, "part")
    settings = {"vectors": 1, "steps": 1, "batch_size": 1, "learning_rate": 1, "warmup": 0}
    with pytest.raises(ValueError, match="lacks the token"):
        Inversion(model, [bad], **settings)
    broken = Concept("<y>", torch.full((2, 4, 16, 16), float("inf")), [["a <y>"]] * 2, 0, "part")
    with pytest.raises(FloatingPointError, match="<y>"):
        Inversion(model, [broken], **settings).step()


def test_learning_rates_are_those_of_before_to_the_last_bit(model) -> None:
    """Another rounding of the cosine would give every token other bytes."""
    run = Inversion(model, concepts(model, "a"), vectors=1, steps=400, batch_size=1, learning_rate=1.0, warmup=20)
    found = []
    for step in range(400):
        run.done = step
        found.append(run._schedule())
    rising = [(step + 1) / 21 for step in range(20)]
    assert found == rising + [0.5 * (1 + math.cos(math.pi * (step / 380))) for step in range(380)]
