"""The ONNX file against torch and Pillow."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import exports
from PIL import Image

from partsynth.core.contrastive.encoder import resize
from partsynth.serving.network import METADATA, OUTPUTS, to_onnx


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(to_onnx(exports.network(), exports.metadata()))


def test_onnxruntime_and_torch_agree():
    images = np.random.default_rng(3).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        threshold = float(exports.network()(pixels)[1].median()) + 1e-5
        network = exports.network(threshold)
        wanted = network(pixels)
    session = onnxruntime.InferenceSession(to_onnx(network, {}))
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))
    for name, value in zip(OUTPUTS, wanted, strict=True):
        np.testing.assert_allclose(found[name].astype(float), value.double().numpy(), atol=1e-4, err_msg=name)
    assert found["unknown"].sum() == 4 and found["in_set"].any() and not found["in_set"].all()


@pytest.mark.parametrize("side", [11, 16, 17, 32, 45, 100, 301])
def test_images_of_any_size_are_resized_as_in_training(session, side):
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    small = np.asarray(resize(Image.fromarray(image), 16))
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
