from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from partsynth.core.backbones.base import Extractor
from partsynth.core.backbones.narrow_resnet import MEMBER
from partsynth.core.contrastive import encoder


def build(blocks: list[int], projection_dim: int, seed: int | None = 0) -> encoder.Encoder:
    return encoder.build(MEMBER, {"width": 8, "blocks": blocks, "anything": "else"}, projection_dim, seed)


def pictures(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_embeddings_are_unit_vectors_and_features_are_the_backbones() -> None:
    net = build([1, 2, 1], 16)
    x = encoder.to_float(torch.from_numpy(pictures(3)))
    assert net(x).shape == (3, 16)
    torch.testing.assert_close(net(x).norm(dim=1), torch.ones(3))
    assert net.features(x).shape == (3, net.feature_dim) == (3, 64)
    torch.testing.assert_close(net.features(x), net.backbone((x - 0.5) / 0.25))


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    nets = [build([1, 1], 4, seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(nets[0].values(), nets[1].values(), strict=True))
    assert not torch.equal(nets[0]["backbone.0.weight"], nets[2]["backbone.0.weight"])


def test_a_seed_gives_the_weights_that_it_always_gave() -> None:
    """Drawn in this order: layers of the backbone, the head, then the backbone's convolutions once more."""
    state = build([1, 1], 4, 0).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        extractor = MEMBER.build({"width": 8, "blocks": [1, 1]})
        head = torch.nn.Linear(32, 16), torch.nn.Linear(16, 4)
        MEMBER.initialise(extractor)
    for name, value in extractor.module.state_dict().items():
        assert torch.equal(state[f"backbone.{name}"], value)
    assert torch.equal(state["projection.0.weight"], head[0].weight)
    assert torch.equal(state["projection.2.bias"], head[1].bias)


def test_an_image_is_encoded_alike_in_any_batch_and_mode() -> None:
    net = build([1, 1, 1], 16)
    x = encoder.to_float(torch.from_numpy(pictures(6)))
    torch.testing.assert_close(net.train()(x)[2:3], net.eval()(x[2:3]), rtol=1e-4, atol=1e-5)


def test_the_backbones_own_normalisation_is_used_and_is_no_part_of_the_state() -> None:
    class Means(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    net = encoder.Encoder(Extractor(Means(), 3, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)), 2)
    features = net.features(torch.full((1, 3, 4, 4), 0.5))
    torch.testing.assert_close(features, torch.tensor([[0.8, 0.3, 0.1]]))
    assert set(net.state_dict()) == {f"projection.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}


def test_embed_refuses_what_would_be_misread() -> None:
    model = encoder.Classifier(build([1], 4), 2, 32)
    for wrong in (pictures(2).astype(np.float32) / 255, pictures(2, 30), pictures(2)[..., :1]):
        with pytest.raises(ValueError, match=r"uint8 \(B, 32, 32, 3\)"):
            encoder.embed(model, wrong)
    assert [len(x) for x in encoder.embed(model, pictures(0))] == [0, 0]


def test_resize_leaves_the_right_size_alone() -> None:
    picture = Image.fromarray(pictures(1)[0])
    assert encoder.resize(picture, 32) is picture
    assert encoder.resize(picture, 20).size == (20, 20)
