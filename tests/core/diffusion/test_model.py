from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import tiny_sd
from PIL import Image

from partsynth.core.diffusion.images import latent_mask, padded, paste, to_images, to_tensor
from partsynth.core.diffusion.loading import load
from partsynth.core.diffusion.loading import load as load_diffusion
from partsynth.core.diffusion.prompts import fill

FORMS = {"epsilon": {}, "v": {"prediction": "v_prediction"}, "sd15": {"sd15": True}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {name: tiny_sd.build(root / name, **form) for name, form in FORMS.items()}


@pytest.fixture(scope="module", params=FORMS)
def model(request, folders):
    loaded = load(folders[request.param])
    generator = torch.Generator().manual_seed(1)
    for name in ("<gear_t12>", "<gear_t1>"):
        loaded.prompts.install_token(name, torch.randn(4, loaded.prompts.width, generator=generator))
    return loaded


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1


def edit(model, latents, seeds, strength=0.5, guidance=4.0, prompt="a photo of a rusty <gear_t12>", mask=None, steps=8):
    context = model.prompts.embed(prompt).expand(len(latents), -1, -1)
    return model.sdedit(latents, context, seeds, strength, guidance, steps, mask)


def test_a_token_is_read_as_exactly_its_own_ids(model) -> None:
    ids = model.prompts.tokenise("a photo of a rusty <gear_t1>, and a <gear_t12>.")
    added = [i for i in ids if i >= model.prompts.words.first]
    first = model.prompts.words.first
    assert added == [*range(first + 4, first + 8), *range(first, first + 4)]
    model.prompts.install_token("<GEAR_t1>", torch.zeros(2, model.prompts.width))
    assert [i - first for i in model.prompts.tokenise("<GEAR_t1> <gear_t1>") if i >= first] == [8, 9, 4, 5, 6, 7]


def test_a_missing_token_is_an_error_never_the_plain_word(model) -> None:
    with pytest.raises(ValueError, match="no learned token <flange_h4>"):
        model.prompts.embed("a photo of a rusty <flange_h4>")
    with pytest.raises(ValueError, match="long, the text encoder takes"):
        model.prompts.tokenise("part " * 100)
    with pytest.raises(ValueError, match="does not know the word"):
        model.prompts.word_vector("")


FAULTY = [("gear", (2, 32)), ("<a|b>", (2, 32)), ("<c>", (2, 31)), ("<gear_t1>", (3, 32))]


@pytest.mark.parametrize("name, vectors", FAULTY)
def test_faulty_tokens_are_refused(model, name, vectors) -> None:
    with pytest.raises(ValueError):
        model.prompts.install_token(name, torch.zeros(vectors))


def test_a_tokens_vectors_reach_the_context_and_are_put_back_after_noise(model) -> None:
    prompt = "a photo of a rusty <gear_t12>"
    before = model.prompts.embed(prompt)
    noisy = model.prompts.embed(prompt, {"<gear_t12>": torch.ones(4, model.prompts.width)})
    assert not torch.equal(noisy, before)
    assert torch.equal(noisy[:6], before[:6])  # the text encoder is causal: only from the token on
    assert torch.equal(model.prompts.embed(prompt), before)
    model.prompts._contexts.clear()
    assert torch.equal(model.prompts.embed(prompt), before)
    assert not torch.equal(model.prompts.embed("a photo of a rusty <gear_t1>"), before)


def test_diffusers_reads_the_same_context(model, folders, tmp_path) -> None:
    """The token file's route through diffusers' own loader gives the context that ours does."""
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    name = "sd15" if model.factor == 8 else "epsilon" if model.prediction == "epsilon" else "v"
    pipeline = StableDiffusionPipeline.from_pretrained(folders[name], dtype=torch.float32)
    vectors = model.prompts.words.added[model.prompts.rows("<gear_t1>")].contiguous()
    save_file({"vectors": vectors}, tmp_path / "t.safetensors")
    pipeline.load_textual_inversion(tmp_path / "t.safetensors", token="<gear_t1>")
    theirs, _ = pipeline.encode_prompt("a photo of a rusty <gear_t1>", "cpu", 1, False)
    torch.testing.assert_close(model.prompts.embed("a photo of a rusty <gear_t1>"), theirs[0], atol=1e-5, rtol=1e-4)


def test_encode_takes_the_posterior_mean_and_does_not_depend_on_the_number_of_pictures(model, images) -> None:
    latents = model.encode(images)
    assert latents.shape == (6, 4, 64 // model.factor, 64 // model.factor)
    with torch.no_grad():
        wanted = model.vae.encode(images).latent_dist.mean * model.vae.config.scaling_factor
    torch.testing.assert_close(latents, wanted, atol=1e-5, rtol=1e-4)
    assert torch.equal(model.encode(images[2:3])[0], latents[2])
    assert torch.equal(model.decode(latents[4:])[0], model.decode(latents)[4])


def test_timesteps_honour_the_strength_exactly(model) -> None:
    for steps in (4, 25, 50):
        for strength in (0.01, 0.2, 0.33, 0.5, 0.9, 1.0):
            times = model.timesteps(strength, steps)
            assert len(times) == max(round(strength * steps), min(6, steps))
            assert times[0] == round(strength * 1000) - 1
            assert times == sorted(set(times), reverse=True) and times[-1] >= 0


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_a_pictures_bytes_do_not_depend_on_its_neighbours(model, images, strength) -> None:
    latents = model.encode(images)
    edited = edit(model, latents, range(6), strength)
    order = [4, 1, 0, 5, 2, 3]
    assert torch.equal(edit(model, latents[order], order, strength), edited[order])
    alone = edit(model, latents[3:4].expand(6, -1, -1, -1), [3] * 6, strength)
    assert torch.equal(alone[0], edited[3])
    assert not torch.equal(edit(model, latents, range(10, 16), strength), edited)


def test_strength_zero_is_the_vae_alone_and_one_knows_nothing_of_the_source(model, images) -> None:
    latents = model.encode(images)
    assert torch.equal(edit(model, latents, range(6), 0), latents)
    assert torch.equal(edit(model, latents, range(6), 1), edit(model, latents.flip(0), range(6), 1))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_of_several_strengths_gives_each_the_bytes_of_its_own(model, images, guidance, masked) -> None:
    latents, strengths = model.encode(images), [0.5, 0, 1, 0.12, 0.9, 0.5]
    mask = torch.zeros(6, 1, *latents.shape[2:])
    mask[:, :, 2:5, 2:5] = 1
    told = {"guidance": guidance, "mask": mask if masked else None}
    together = edit(model, latents, range(6), strengths, **told)
    for i, strength in enumerate(strengths):
        assert torch.equal(together[i], edit(model, latents, range(6), strength, **told)[i]), strength
    order = [4, 1, 0, 5, 2, 3]
    again = edit(model, latents[order], order, [strengths[i] for i in order], **told)
    assert torch.equal(again, together[order])


def test_drift_from_the_source_rises_with_strength(model, images) -> None:
    latents = model.encode(images)
    drift = [float((edit(model, latents, range(6), s) - latents).square().mean()) for s in (0, 0.1, 0.3, 0.6, 0.9)]
    assert drift == sorted(drift) and drift[0] == 0 and len(set(drift)) == 5


def test_guidance_off_is_the_prompt_alone_and_more_moves_away_from_the_empty_prompt(model, images) -> None:
    latents = model.encode(images)
    plain, off, hardly = (edit(model, latents, range(6), guidance=g, steps=2) for g in (1.0, 0.0, 1e-6))
    empty = edit(model, latents, range(6), guidance=1.0, steps=2, prompt="")
    assert torch.equal(off, plain)  # as in diffusers
    torch.testing.assert_close(hardly, empty, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, empty, atol=1e-3)


def test_a_perfect_denoiser_gives_the_source_back(model, images) -> None:
    """DDIM against the known answer: a U-Net that knows the noise must end at the clean latents, at any strength."""
    latents = model.encode(images)
    noise = torch.stack([model.noise(s, latents.shape[1:]) for s in range(6)])

    def oracle(noisy, t, context):
        alpha = model.alphas[int(t[0])]
        return noise if model.prediction == "epsilon" else alpha**0.5 * noise - (1 - alpha) ** 0.5 * latents

    model.predict = oracle
    try:
        edited = edit(model, latents, range(6), 0.6, guidance=1.0, steps=20)
    finally:
        del model.predict
    torch.testing.assert_close(edited, latents, atol=1e-4, rtol=1e-3)


def test_our_ddim_is_diffusers_ddim(folders, images) -> None:
    """Where the timesteps are diffusers' own (trailing, whole schedule), so is the result."""
    from diffusers import DDIMScheduler

    for name in ("epsilon", "v"):
        model = load(folders[name])
        latents = model.encode(images)
        config = json.loads((folders[name] / "scheduler/scheduler_config.json").read_text())
        scheduler = DDIMScheduler.from_config(config, timestep_spacing="trailing", set_alpha_to_one=True)
        scheduler.set_timesteps(10)
        assert scheduler.timesteps.tolist() == model.timesteps(1.0, 10)
        x = torch.stack([model.noise(s, latents.shape[1:]) for s in range(6)])
        context = model.prompts.embed("a photo of a part").expand(6, -1, -1)
        with torch.no_grad():
            for t in scheduler.timesteps:
                x = scheduler.step(model.predict(x, t.expand(6), context), t, x).prev_sample
        ours = model.sdedit(latents, context, range(6), 1.0, 1.0, 10)
        torch.testing.assert_close(ours, x, atol=1e-2, rtol=1e-3)


def test_a_masked_edit_leaves_the_latents_outside_alone(model, images) -> None:
    latents = model.encode(images)
    mask = torch.zeros(6, 1, *latents.shape[2:])
    mask[:, :, 2:5, 2:5] = 1
    edited = edit(model, latents, range(6), 0.7, mask=mask)
    outside = (mask == 0).expand_as(latents)
    assert torch.equal(edited[outside], latents[outside])
    assert not torch.allclose(edited[~outside], latents[~outside], atol=1e-2)


def test_masks_cover_every_latent_that_sees_the_part_and_paste_keeps_the_rest() -> None:
    mask = Image.new("L", (64, 64))
    mask.putpixel((17, 9), 255)
    found = latent_mask(mask, 64, 4)
    assert found.shape == (1, 16, 16) and found.sum() == 1 and found[0, 2, 4] == 1
    original, edited = Image.new("RGB", (64, 64), (1, 2, 3)), Image.new("RGB", (64, 64), (9, 9, 9))
    pasted = paste(edited, original, mask)
    assert pasted.getpixel((17, 9)) == (9, 9, 9) and pasted.getcolors() == [(1, (9, 9, 9)), (4095, (1, 2, 3))]


def test_generation_from_text_alone_does_not_depend_on_the_batch(model) -> None:
    prompts = ["a photo of a <gear_t12>", "a photo of a rusty <gear_t1>", "a photo of a part"]
    pictures = model.generate(prompts, [1, 2, 3], 4.0, 4, 64, batch_size=2)
    assert pictures.shape == (3, 3, 64, 64) and pictures.abs().max() <= 1
    assert torch.equal(model.generate(prompts[::-1], [3, 2, 1], 4.0, 4, 64, batch_size=2), pictures.flip(0))


def test_what_is_not_finite_is_named(model, images) -> None:
    latents = model.encode(images)
    latents[4] = float("nan")
    with pytest.raises(FloatingPointError, match=r"seeds \[14\]"):
        edit(model, latents, range(10, 16))


def test_half_precision_unet_stays_near_float32(folders, images) -> None:
    full, half = load(folders["v"]), load(folders["v"], dtype="bfloat16")
    latents = full.encode(images)
    assert torch.equal(half.encode(images), latents)
    edits = [edit(model, latents, range(6), prompt="a part") for model in (half, full)]
    assert 0 < (edits[0] - edits[1]).abs().mean() < 0.1


def test_batches_are_padded_to_one_size() -> None:
    assert list(padded(5, 3)) == [([0, 1, 2], 3), ([3, 4, 4], 2)] and list(padded(0, 3)) == []


def test_pictures_survive_the_way_to_tensors_and_back() -> None:
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    assert to_images(to_tensor([picture], 64))[0].tobytes() == picture.tobytes()
    assert to_tensor([picture], 32).shape == (1, 3, 32, 32)


def test_templates_are_filled_without_stray_spaces() -> None:
    assert fill("a photo of a {state} {token}", "", "<x>") == "a photo of a <x>"
    assert fill("{token}, {state}", "brand new", "<x>") == "<x>, brand new"


def test_a_wrong_folder_is_named(folders, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model_index.json"):
        load(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(folders["epsilon"], broken)
    (broken / "unet/diffusion_pytorch_model.safetensors").rename(broken / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="pickled weights are not read"):
        load(broken)
    shutil.rmtree(broken / "unet")
    with pytest.raises(FileNotFoundError, match="lacks unet"):
        load(broken)
    index = json.loads((broken / "model_index.json").read_text())
    (broken / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusion3Pipeline"}))
    with pytest.raises(ValueError, match="StableDiffusion3Pipeline"):
        load(broken)
    with pytest.raises(ValueError, match="cannot be loaded"):
        load("nobody/nothing")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_on_a_gpu_bytes_do_not_depend_on_the_batch(folders, images, dtype) -> None:
    model = load_diffusion(folders["sd15"], device="cuda", dtype=dtype)
    latents = model.encode(images)
    edited = edit(model, latents, range(6), prompt="a part")
    order = [4, 1, 0, 5, 2, 3]
    assert torch.equal(edit(model, latents[order], order, prompt="a part"), edited[order])


def test_guidance_0_is_no_guidance_and_keeps_the_prompt(model, images) -> None:
    latents = model.encode(images[:2])
    off, plain = (edit(model, latents, [1, 2], guidance=value) for value in (0.0, 1.0))
    assert torch.equal(off, plain)
    assert not torch.equal(off, edit(model, latents, [1, 2], guidance=0.0, prompt="a photo of a clean <gear_t1>"))
