"""Folders in diffusers' format, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import tiny_sd

from partsynth.core.diffusion.folder import check_folder
from partsynth.core.diffusion.loading import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_sd.build(tmp_path / "base")


def rename(folder: Path, variant: str, parts: tuple[str, ...] = ("vae", "unet", "text_encoder")) -> None:
    for part in parts:
        for path in (folder / part).glob("*.safetensors"):
            path.rename(path.with_name(path.name.replace(".safetensors", f".{variant}.safetensors")))


def test_a_folder_of_fp16_files_alone_is_loaded(folder: Path) -> None:
    assert check_folder(folder) is None
    plain = load(folder).unet.state_dict()
    rename(folder, "fp16")
    assert check_folder(folder) == "fp16"
    again = load(folder).unet.state_dict()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_parts_of_different_variants_are_named(folder: Path) -> None:
    rename(folder, "fp16", ("unet",))
    with pytest.raises(FileNotFoundError, match=r"no variant .*vae: plain, unet: fp16"):
        check_folder(folder)


def test_weights_that_are_missing_or_cut_off_are_named(folder: Path) -> None:
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    for cut in (whole[:-10], whole[:20], b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"):
        weights.write_bytes(cut)
        with pytest.raises(ValueError, match="is no whole safetensors file"):
            check_folder(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"unet has no diffusion_pytorch_model\.safetensors"):
        check_folder(folder)


def test_other_pipelines_and_damage_are_named(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    with pytest.raises(ValueError, match="names a StableDiffusionXLPipeline"):
        check_folder(folder)
    index.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        check_folder(folder)
