"""Folders in diffusers' format, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import tiny_sd
from safetensors.torch import save_file

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


def test_the_variant_that_is_asked_for_is_taken_or_missed(folder: Path) -> None:
    for part in ("vae", "unet", "text_encoder"):
        for path in list((folder / part).glob("*.safetensors")):
            shutil.copy(path, path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    assert check_folder(folder) is None and check_folder(folder, "fp16") == "fp16"
    with pytest.raises(FileNotFoundError, match=r"no variant 'bf16' .*unet: (plain, fp16|fp16, plain)"):
        check_folder(folder, "bf16")


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_a_single_file_is_read_with_the_configuration_of_a_folder(folder: Path, ending: str) -> None:
    wanted = load(folder)
    tensors = tiny_sd.as_single_file(folder)
    path = folder.parent / f"all.{ending}"
    if ending == "ckpt":
        torch.save({"state_dict": tensors}, path)
    else:
        save_file(tensors, path)
    for part in (folder / "unet", folder / "vae", folder / "text_encoder"):
        for weights in part.glob("*.safetensors"):
            weights.unlink()  # of the folder the configuration alone is read
    found = load(path, config=folder)
    assert all(torch.equal(value, found.unet.state_dict()[name]) for name, value in wanted.unet.state_dict().items())
    assert all(torch.equal(value, found.vae.state_dict()[name]) for name, value in wanted.vae.state_dict().items())
    assert torch.equal(found.prompts.embed("a photo of a gear"), wanted.prompts.embed("a photo of a gear"))
    with pytest.raises(ValueError, match=r"without configuration and tokenizers: name a folder .* diffusion\.config"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere \(diffusion\.config\) has no model_index\.json"):
        load(path, config=folder / "nowhere")


def test_a_pickle_that_holds_more_than_tensors_is_not_read(folder: Path) -> None:
    path = folder.parent / "all.ckpt"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "code": Path}, path)
    with pytest.raises(ValueError, match=r"all\.ckpt cannot be loaded as a Stable Diffusion"):
        load(path, config=folder)


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
    plain = index.read_text()
    index.write_text(json.dumps({"_class_name": "StableDiffusion3Pipeline"}))
    with pytest.raises(ValueError, match=r"names a StableDiffusion3Pipeline; allowed: .*StableDiffusionXLPipeline"):
        check_folder(folder)
    index.write_text(json.dumps(json.loads(plain) | {"_class_name": "StableDiffusionXLPipeline"}))
    with pytest.raises(FileNotFoundError, match="lacks text_encoder_2, tokenizer_2"):
        check_folder(folder)
    index.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        check_folder(folder)
