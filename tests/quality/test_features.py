from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from partsynth.config.models import Reference
from partsynth.core.drift import reference
from partsynth.core.drift.reference import ReferenceNet
from partsynth.errors import UserError
from partsynth.quality.features import Encoder, embed_batch


def image(level: int) -> Image.Image:
    return Image.new("RGB", (16, 16), (level, 0, 0))


def save(root, seed: int, name: str = "encoder") -> None:
    torch.manual_seed(seed)
    reference.save(ReferenceNet((8, 16), 12), root / name, 32)


def test_the_encoder_is_loaded_once_and_not_before_the_first_image(tmp_path, monkeypatch):
    save(tmp_path, 0)
    loaded, load = [], reference.load
    monkeypatch.setattr(reference, "load", lambda *args: loaded.append(args) or load(*args))
    encoder = Encoder(Reference(model="encoder", device="cpu"), tmp_path)
    assert not loaded
    first = encoder([image(0), image(90)])
    assert first.shape == (2, 12) and np.array_equal(encoder([image(0), image(90)]), first)
    assert loaded == [(str(tmp_path / "encoder"), None, "cpu")]


def test_an_encoder_is_known_by_its_weights_not_by_its_place(tmp_path):
    save(tmp_path, 0), save(tmp_path, 0, "elsewhere"), save(tmp_path, 1, "other")
    one, two, other = (Encoder(Reference(model=m), tmp_path) for m in ("encoder", "elsewhere", "other"))
    assert one.identity == two.identity != other.identity
    assert one.folder == two.folder != other.folder
    hub = [Encoder(Reference(model="owner/name", revision=r), tmp_path).identity for r in (None, "a", "b")]
    assert len(set(hub)) == 3


def test_what_cannot_be_loaded_names_its_key(tmp_path):
    with pytest.raises(UserError, match=r"reference\.model: .*does not exist"):
        Encoder(Reference(model="models/none", device="cpu"), tmp_path)([image(0)])
    if not torch.cuda.is_available():
        save(tmp_path, 0)
        with pytest.raises(UserError, match="reference: device is cuda, but torch sees no CUDA device"):
            Encoder(Reference(model="encoder", device="cuda"), tmp_path)([image(0)])


def test_damaged_weights_are_named(tmp_path):
    save(tmp_path, 0)
    file = tmp_path / "encoder/model.safetensors"
    weights = load_file(file)
    weights["stem.weight"][0, 0] = float("nan")
    save_file(weights, file)
    with pytest.raises(UserError, match=r"reference\.model: .*encoder are no numbers \(NaN\): its weights are damaged"):
        Encoder(Reference(model="encoder", device="cpu"), tmp_path)([image(0)])


def test_every_batch_has_one_shape():
    seen = []

    def embed(images: list[Image.Image]) -> np.ndarray:
        seen.append([i.getpixel((0, 0))[0] for i in images])
        return np.array([[level] for level in seen[-1]], np.float64)

    features = embed_batch(embed, [image(1), image(2), image(3)], 5)
    assert seen == [[1, 2, 3, 3, 3]] and features.dtype == np.float32
    np.testing.assert_array_equal(features, [[1], [2], [3]])
