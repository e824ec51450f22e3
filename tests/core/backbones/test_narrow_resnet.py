from __future__ import annotations

import pytest
import torch

from partsynth.core.backbones.narrow_resnet import MEMBER


def images(count: int, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_features_are_the_last_stage_pooled_twice() -> None:
    extractor = MEMBER.build({"width": 8, "blocks": [1, 2, 1]})
    MEMBER.initialise(extractor)
    maps = torch.nn.Sequential(*extractor.module)(images(3))  # (3, 32, 2, 2)
    features = extractor.module(images(3))
    assert features.shape == (3, extractor.feature_dim) == (3, 64)
    torch.testing.assert_close(features, torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))


def test_an_image_is_seen_alike_in_any_batch_and_mode() -> None:
    """No batch statistics: what else is in the batch (synthetic images, another process's share) plays no part."""
    net = MEMBER.build({"width": 8, "blocks": [1, 1, 1]}).module
    torch.testing.assert_close(net.train()(images(6))[2:3], net.eval()(images(6)[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [16, 33, 50])
def test_any_size(size: int) -> None:
    extractor = MEMBER.build({"width": 8, "blocks": [1, 1, 1, 1]})
    assert extractor.input_size is None and torch.isfinite(extractor.module(images(2, size))).all()


def test_width_must_fit_the_groups() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        MEMBER.build({"width": 12, "blocks": [1]})


def test_weights_are_drawn_and_nothing_is_fetched() -> None:
    built = MEMBER.build({"width": 8, "blocks": [1]})
    assert built.fetch is None and (built.mean, built.std) == ((0.5,) * 3, (0.25,) * 3)
    before = built.module[0].weight.clone()
    MEMBER.initialise(built)
    assert not torch.equal(before, built.module[0].weight)
