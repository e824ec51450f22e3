import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from partsynth.core.contrastive import encoder


def pictures(count, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_embeddings_are_unit_vectors_and_features_are_the_last_stage_pooled_twice():
    net = encoder.build(8, [1, 2, 1], 16, seed=0)
    x = encoder.to_float(torch.from_numpy(pictures(3)))
    assert net(x).shape == (3, 16)
    torch.testing.assert_close(net(x).norm(dim=1), torch.ones(3))
    assert net.features(x).shape == (3, net.feature_dim) == (3, 64)


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    nets = [encoder.build(8, [1, 1], 4, seed=s).state_dict() for s in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(nets[0].values(), nets[1].values(), strict=True))
    assert not torch.equal(nets[0]["backbone.0.weight"], nets[2]["backbone.0.weight"])


def test_a_picture_is_encoded_alike_in_any_batch_and_mode():
    """No batch statistics: what else is in the batch (synthetic pictures, another process's share) plays no part."""
    net = encoder.build(8, [1, 1, 1], 16, seed=0)
    x = encoder.to_float(torch.from_numpy(pictures(6)))
    torch.testing.assert_close(net.train()(x)[2:3], net.eval()(x[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [16, 33, 50])
def test_any_size(size):
    net = encoder.build(8, [1, 1, 1, 1], 16, seed=0)
    assert torch.isfinite(net(encoder.to_float(torch.from_numpy(pictures(2, size))))).all()


def test_width_must_fit_the_groups():
    with pytest.raises(ValueError, match="multiple of 8"):
        encoder.build(12, [1], 4)


def test_load_gives_back_what_was_saved(tmp_path):
    net = encoder.build(8, [1, 1], 16, seed=0)
    model = encoder.Classifier(net, 3, 32)
    save_file(encoder.tensors(net), tmp_path / "encoder.safetensors")
    save_file(model.classifier.state_dict(), tmp_path / "classifier.safetensors")
    config = {"architecture": {"width": 8, "blocks": [1, 1], "embedding": 16}, "size": 32, "classes": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded, read = encoder.load(tmp_path)
    images = pictures(5)
    features, logits = encoder.embed(loaded, images)
    assert read == config and features.shape == (5, 2 * 16) and logits.shape == (5, 3)  # mean- and max-pooled
    expected = encoder.embed(model, torch.from_numpy(images), batch_size=2)
    torch.testing.assert_close((features, logits), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, loaded.classifier(features).detach())


def test_embed_refuses_what_would_be_misread():
    model = encoder.Classifier(encoder.build(8, [1], 4, seed=0), 2, 32)
    for wrong in (pictures(2).astype(np.float32) / 255, pictures(2, 30), pictures(2)[..., :1]):
        with pytest.raises(ValueError, match=r"uint8 \(B, 32, 32, 3\)"):
            encoder.embed(model, wrong)
    assert [len(x) for x in encoder.embed(model, pictures(0))] == [0, 0]


def test_resize_leaves_the_right_size_alone():
    picture = Image.fromarray(pictures(1)[0])
    assert encoder.resize(picture, 32) is picture
    assert encoder.resize(picture, 20).size == (20, 20)
