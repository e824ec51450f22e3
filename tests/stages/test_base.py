from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.corpus import fake_corpus

from partsynth.config.generation import Base
from partsynth.core.diffusion.images import to_images, to_tensor
from partsynth.core.diffusion.loading import load as load_diffusion
from partsynth.core.drift import reference
from partsynth.errors import UserError
from partsynth.rendering import corpus
from partsynth.stages import base
from partsynth.store.hashing import sha256_tree

SETTINGS = Base(
    images=12,
    vae_images=8,
    vae_steps=1,
    vae_batch_size=2,
    unet_steps=1,
    batch_size=2,
    reference_steps=1,
    reference_tune_steps=1,
    workers=1,
)


def run(params: Base, out: Path, work: Path) -> None:
    base.run(base.Inputs(params=params, out=out, work=work, device="cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """The base model after one step of each training, and its working folder."""
    root = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "render_corpus", fake_corpus)
        patch.setattr(base, "HELD_OUT", 4)
        run(SETTINGS, root / "models/base", root / "work")
    return root / "models/base", root / "work"


def test_the_folder_loads_as_pipeline_and_reference_encoder(trained) -> None:
    out, work = trained
    model = load_diffusion(out)
    latents = model.encode(to_tensor(to_images(model.generate(["a part"], [0], 1, 1, 64, 1)), 64))
    assert latents.shape == (1, 4, 16, 16)
    scale = json.loads((work / "scaling.json").read_text())["scaling_factor"]
    assert model.vae.config.scaling_factor == pytest.approx(scale) and scale != 0.18215
    assert reference.load(str(out / "reference_encoder"))(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 128)


def test_the_folder_says_what_it_was_trained_on(trained) -> None:
    out, _ = trained
    training = json.loads((out / "training.json").read_text())
    assert training["params"]["unet_steps"] == 1 and "workers" not in training["params"]
    assert training["corpus"]["images_sha256"] == "0" * 64
    assert training["log"]["unet"]["step"] == 1 and "held_out_psnr" in training["log"]["vae"]


def test_a_finished_part_is_not_trained_again(trained, tmp_path: Path, monkeypatch) -> None:
    out, work = trained
    for part in ("vae.train_vae", "unet.train_unet", "reference.train_reference", "reference.tune_reference"):
        monkeypatch.setattr(f"partsynth.core.pretraining.{part}", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(corpus, "render_corpus", lambda *a: None)
    run(SETTINGS, tmp_path / "again", work)
    assert sha256_tree(tmp_path / "again") == sha256_tree(out)


def test_work_of_other_parameters_is_refused(trained, tmp_path: Path) -> None:
    _, work = trained
    with pytest.raises(UserError, match="other base parameters"):
        run(SETTINGS.model_copy(update={"unet_steps": 2}), tmp_path, work)
