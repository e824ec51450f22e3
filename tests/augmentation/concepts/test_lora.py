"""Classes learned as adapters of the U-Net, with and without prior preservation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_sd
from PIL import Image
from safetensors.torch import load_file

from partsynth.augmentation.again import encodings, regenerate
from partsynth.augmentation.concepts import lora
from partsynth.augmentation.methods.sdedit import SdeditSet
from partsynth.config.generation import Generate, Lora, Tokens
from partsynth.config.models import Diffusion
from partsynth.core.diffusion import concept_adapter
from partsynth.core.diffusion import lora as adapters
from partsynth.core.diffusion.concept_adapter import AdapterSettings, learn_adapter, prior_latents
from partsynth.core.diffusion.denoising import Examples
from partsynth.core.diffusion.images import to_tensor
from partsynth.core.diffusion.loading import load
from partsynth.errors import UserError
from partsynth.records.augmented import read_augmented
from partsynth.store.hashing import sha256_file
from partsynth.store.tensors import safetensors_metadata

SHORT = Lora(steps=4, batch_size=2, rank=2, prior_images=2)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(concept_adapter, "PRIOR_STEPS", 3)
    tiny_sd.build(tmp_path / "models/base")
    tiny_sd.write_real(tmp_path)
    return tmp_path


def learn(root: Path, method: str = "lora", settings: Lora = SHORT, **changes: object) -> dict[str, str]:
    out = tiny_sd.learn_tokens(root, Tokens(method=method, lora=settings, **changes))
    return {p.name: sha256_file(p) for p in sorted(out.iterdir())}


def test_one_adapter_a_class_with_its_provenance(project) -> None:
    files = learn(project)
    assert list(files) == ["gear_t12.safetensors", "gear_t24.safetensors", "manifest.json"]
    path = project / "models/tokens/gear_t12.safetensors"
    names = list(load_file(path))
    assert names and all(name.startswith("unet.") and ".lora_" in name and ".to_" in name for name in names)
    metadata = safetensors_metadata(path)
    assert metadata["method"] == "lora" and metadata["class_name"] == "gear_t12" and metadata["token"] == "part"
    assert all(sha256_file(project / name) == sha256 for name, sha256 in json.loads(metadata["sources"]))
    assert learn(project) == files
    assert not list((project / ".work").rglob("*.safetensors"))


def test_dreambooth_names_the_class_by_a_rare_word(project) -> None:
    learn(project, "dreambooth_lora", init_words={"gear_*": "gear"})
    metadata = safetensors_metadata(project / "models/tokens/gear_t12.safetensors")
    assert (metadata["method"], metadata["token"]) == ("dreambooth_lora", "sks gear")


def test_only_what_decides_has_classes_learned_again(project) -> None:
    files = learn(project)
    # of textual inversion and of DreamBooth alone
    assert learn(project, settings=SHORT.model_copy(update={"identifier": "xyz"}), steps=7, vectors=3) == files
    assert learn(project, settings=SHORT.model_copy(update={"rank": 3})) != files
    learn(project)
    tiny_sd.write_real(project, ("gear_t12", "gear_t24", "flange_h4"))
    more = learn(project)
    assert all(more[name] == sha256 for name, sha256 in files.items() if name != "manifest.json")


def test_a_killed_run_keeps_finished_classes_and_goes_on_within_one(project, monkeypatch) -> None:
    monkeypatch.setattr(lora, "EVERY", 2)
    wanted = learn(project)
    for path in (project / "models/tokens").glob("*.safetensors"):
        path.unlink()
    steps = []

    def until(name: str, count: int):
        def log(step: int, values: dict[str, float]) -> None:
            steps.append((name, step))
            if (name, step) == ("gear_t24", 4):
                raise KeyboardInterrupt

        return log

    with monkeypatch.context() as patch:
        patch.setattr(lora, "_told", until)
        with pytest.raises(KeyboardInterrupt):
            learn(project)
    assert [path.name for path in (project / "models/tokens").iterdir()] == ["gear_t12.safetensors"]
    assert len(list((project / ".work/tokens").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(lora, "_told", lambda name, count: lambda step, values: steps.append((name, step)))
        assert learn(project) == wanted
    assert steps == [("gear_t12", 2), ("gear_t12", 4), ("gear_t24", 2), ("gear_t24", 4), ("gear_t24", 4)]


def test_edits_are_made_with_their_class_s_adapter_and_made_again(project) -> None:
    strong = SHORT.model_copy(update={"learning_rate": 0.05, "steps": 8})
    generate, edits = Generate(steps=3, batch_size=4), SdeditSet(strength=0.5, variants=1)
    learn(project, settings=strong)
    out = tiny_sd.make_set(project, "id", generate, edits)
    rows = read_augmented(out / "manifest.csv")
    assert {row.prompt for row in rows} <= {f"a photo of a {state} part" for state in edits.states}
    first = {row.path: np.asarray(Image.open(project / row.path)).astype(int) for row in rows}
    for row in rows:
        assert row.token_sha256 == sha256_file(project / f"models/tokens/{row.class_name}.safetensors")
    for row in (rows[0], rows[-1]):
        image = regenerate(row, Diffusion(device="cpu"), project / "data/real", project / "models/tokens", project)
        assert (project / row.path).read_bytes() in encodings(image, row)
    learn(project, settings=strong.model_copy(update={"learning_rate": 1e-7}))
    tiny_sd.make_set(project, "id", generate, edits)
    moved = {path: np.abs(np.asarray(Image.open(project / path)) - before).mean() for path, before in first.items()}
    assert all(change > 0.5 for change in moved.values()), moved
    with pytest.raises(UserError, match=r"token_noise displaces learned vectors, and tokens\.method lora learns none"):
        tiny_sd.make_set(project, "id", generate, SdeditSet(strength=0.5, variants=1, token_noise=0.1))


def test_an_adapter_of_a_class_lowers_the_error_on_images_of_it_that_it_never_saw(project) -> None:
    model = load(project / "models/base")
    latents = {}
    for split in ("train", "val"):
        paths = sorted((project / f"data/real/{split}/gear_t12").glob("*.png"))
        latents[split] = model.encode(to_tensor([Image.open(path) for path in paths], 64))
    prompts = [["a photo of a part"]] * 3
    settings = AdapterSettings(
        rank=4, targets=adapters.EVERYWHERE, steps=60, batch_size=4, learning_rate=3e-3, every=50, seed=1
    )
    held_out = Examples(model, latents["val"], prompts)
    plain = held_out.measure(5, 4)
    weights, before, after = learn_adapter(model, latents["train"], prompts, settings, None, lambda *_: None)
    assert after < before and held_out.measure(5, 4) == plain  # the model is left as it was
    adapters.load(model.unet, weights, "a")
    assert held_out.measure(5, 4) < 0.97 * plain
    adapters.switch(model.unet, None)
    assert held_out.measure(5, 4) == pytest.approx(plain, rel=1e-6)


def test_the_prior_keeps_what_the_model_makes_of_the_word(project) -> None:
    model = load(project / "models/base")
    paths = sorted((project / "data/real/train/gear_t12").glob("*.png"))
    latents = model.encode(to_tensor([Image.open(path) for path in paths], 64))
    prior = prior_latents(model, "a photo of a gear", [1, 2, 3], latents.shape[1:])
    assert prior.shape == (3, *latents.shape[1:]) and not torch.equal(prior[0], prior[1])
    kind = Examples(model, prior, [["a photo of a gear"]] * 3)
    errors = []
    for weight in (0.0, 4.0):
        settings = AdapterSettings(
            rank=4,
            targets=adapters.EVERYWHERE,
            steps=40,
            batch_size=4,
            learning_rate=3e-3,
            every=50,
            seed=1,
            prior_weight=weight,
        )
        given = (prior, "a photo of a gear")
        weights, _, _ = learn_adapter(
            model, latents, [["a photo of a sks gear"]] * 3, settings, None, lambda *_: None, given
        )
        adapters.load(model.unet, weights, f"w{weight:.0f}")
        adapters.switch(model.unet, f"w{weight:.0f}")
        errors.append(kind.measure(5, 4))
        model.unet.unload_lora()
    assert errors[1] < errors[0]


def test_diffusers_reads_an_adapter_s_file(project) -> None:
    from diffusers import StableDiffusionPipeline

    learn(project)
    pipeline = StableDiffusionPipeline.from_pretrained(project / "models/base", dtype=torch.float32)
    pipeline.load_lora_weights(str(project / "models/tokens/gear_t12.safetensors"))
    assert pipeline.get_list_adapters() == {"unet": ["default_0"]}
