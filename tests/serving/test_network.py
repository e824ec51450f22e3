"""The ONNX file against torch and Pillow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import exports
from PIL import Image

from partsynth.core.contrastive import encoder
from partsynth.core.evaluation.ood import known
from partsynth.core.images.views import FIXED
from partsynth.seams import BACKBONES
from partsynth.serving.network import METADATA, OUTPUTS, Deployed, to_onnx

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(to_onnx(exports.network(), exports.metadata()))


@pytest.mark.parametrize("test_views", FIXED)
def test_onnxruntime_and_torch_agree(test_views):
    images = np.random.default_rng(3).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        threshold = float(exports.network(test_views=test_views)(pixels)[1].median()) + 1e-5
        network = exports.network(threshold, test_views=test_views)
        wanted = network(pixels)
    session = onnxruntime.InferenceSession(to_onnx(network, {}))
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))
    for name, value in zip(OUTPUTS, wanted, strict=True):
        np.testing.assert_allclose(found[name].astype(float), value.double().numpy(), atol=1e-4, err_msg=name)
    assert found["unknown"].sum() == 4 and found["in_set"].any() and not found["in_set"].all()


@pytest.mark.parametrize("side", [11, 16, 17, 32, 45, 100, 301])
def test_images_of_any_size_are_resized_as_in_training(session, side):
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    small = np.asarray(encoder.resize(Image.fromarray(image), 16))
    for name, found, wanted in zip(
        OUTPUTS, session.run(None, {"images": image[None]}), session.run(None, {"images": small[None]}), strict=True
    ):
        if name != "nearest":
            np.testing.assert_allclose(found.astype(float), wanted.astype(float), atol=2e-3, err_msg=name)


def test_the_file_says_what_the_station_needs_and_is_the_same_each_time(session):
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    assert about == exports.metadata()
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert tuple(o.name for o in session.get_outputs()) == OUTPUTS
    again = [to_onnx(exports.network(), exports.metadata()) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("reference", {"model": str(ROOT / "models/base/reference_encoder"), "size": 32}),
        ("timm", {"model": "test_vit", "size": 160}),
        ("torchvision", {"model": "resnet18", "size": 32, "stem3x3": True}),
    ],
)
def test_other_backbones_have_a_graph_too(name, given):
    if name == "timm":
        pytest.importorskip("timm", reason='needs pip install "partsynth[imagenet]"')
    parameters = {"pretrained": name == "reference", "weights": None, "stem3x3": False, "trainable": "all"} | given
    built = encoder.build(BACKBONES[name], parameters, 8, 0)
    model = encoder.Classifier(built, 3, given["size"]).eval()
    images = np.random.default_rng(1).integers(0, 256, (6, given["size"], given["size"], 3), dtype=np.uint8)
    features, _ = encoder.embed(model, images)
    weight, bias = (p.detach().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
    fitted = known(features.double().numpy(), np.arange(6) % 3, weight, bias)
    network = Deployed(model, fitted, "knn", 1.0, 0.1, 0.1).eval()
    session = onnxruntime.InferenceSession(to_onnx(network, {}))
    with torch.no_grad():
        wanted = network(torch.from_numpy(images[:3]).permute(0, 3, 1, 2).float())
    for value, truth in zip(session.run(list(OUTPUTS[:2]), {"images": images[:3]}), wanted[:2], strict=True):
        np.testing.assert_allclose(value, truth.numpy(), atol=1e-4)
