from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers.pretraining import CAPTIONS
from safetensors import safe_open

from partsynth.core.diffusion.loading import load as load_diffusion
from partsynth.core.pretraining.networks import (
    TEXT_LENGTH,
    build_text_encoder,
    build_unet,
    build_vae,
    save_pipeline,
    tokenize,
)


def test_the_tokenizer_keeps_its_ids_when_loaded(words: Any, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    words.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    for caption in (*CAPTIONS, "a photo of a zebra with 19 stripes", ""):
        ids = words(caption).input_ids
        assert ids == loaded(caption).input_ids
        assert ids[0] == words.bos_token_id and ids[-1] == words.eos_token_id
    assert loaded.model_max_length == TEXT_LENGTH


def test_whole_words_are_learned_and_unknown_ones_are_spelled(words: Any) -> None:
    assert len(words("rusty", add_special_tokens=False).input_ids) == 1
    spelled = words("zebra", add_special_tokens=False).input_ids
    assert len(spelled) > 1 and words.unk_token_id not in spelled
    assert words.decode(spelled).strip() == "zebra"


def test_prompts_are_padded_and_cut_to_one_length(words: Any) -> None:
    ids = tokenize(words, ["", "a rusty gear", "gear " * 200])
    assert ids.shape == (3, TEXT_LENGTH)
    assert (ids[0, 1:] == words.eos_token_id).all()
    assert ids[2, -1] == words.eos_token_id


def test_the_saved_folder_is_a_stable_diffusion(words: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    out = tmp_path / "base"
    save_pipeline(out, vae=build_vae(), text_encoder=build_text_encoder(words), tokenizer=words, unet=build_unet())
    weights = {"vae/diffusion_pytorch_model", "unet/diffusion_pytorch_model", "text_encoder/model"}
    assert {p.relative_to(out).with_suffix("").as_posix() for p in out.rglob("*.safetensors")} == weights
    assert not [p for p in out.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
    with safe_open(out / "unet/diffusion_pytorch_model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    model = load_diffusion(out)
    assert model.prediction == "v_prediction" and model.factor == 4 and model.prompts.length == TEXT_LENGTH
    made = model.generate(["a rusty gear", "a used flange"], [1, 2], 2.0, 2, 64, batch_size=2)
    assert made.shape == (2, 3, 64, 64) and made.isfinite().all() and made.abs().max() <= 1
