"""The embedded encoder, and DINOv2 or CLIP from a folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from partsynth.core.drift import reference


def pictures(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def embedded(tmp_path):
    torch.manual_seed(0)
    reference.save(reference.ReferenceNet((8, 16), 12), tmp_path / "encoder", 32)
    return tmp_path / "encoder"


def test_features_are_normalised_and_do_not_depend_on_the_images_beside(embedded):
    encoder = reference.load(str(embedded))
    images = pictures(5)
    features = encoder(images)
    assert features.shape == (5, 12) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder(images[3:4]), features[3:4], atol=1e-4)


def test_pil_pictures_of_any_size_are_taken(embedded):
    encoder = reference.load(str(embedded))
    image = Image.fromarray(pictures(1)[0])
    np.testing.assert_allclose(encoder([image]), encoder(pictures(1)), atol=1e-5)
    assert encoder([image.resize((50, 40)).convert("L")]).shape == (1, 12)


def test_a_missing_or_foreign_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        reference.load(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        reference.load(str(tmp_path / "empty"))
    (tmp_path / "empty/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="allowed"):
        reference.load(str(tmp_path / "empty"))


def test_dinov2_and_clip_load_from_folders(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14}
    Dinov2Model(Dinov2Config(image_size=28, **sizes)).save_pretrained(tmp_path / "dino")
    clip = CLIPVisionConfig(image_size=224, intermediate_size=16, projection_dim=6, **sizes)
    CLIPVisionModelWithProjection(clip).save_pretrained(tmp_path / "clip")
    assert reference.load(str(tmp_path / "dino"))(pictures(2)).shape == (2, 16)
    assert reference.load(str(tmp_path / "clip"))(pictures(2)).shape == (2, 6)
