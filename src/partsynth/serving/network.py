"""The whole way from images to answers as one torch module, and that as one ONNX file."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsynth.core.contrastive.encoder import Classifier
from partsynth.core.evaluation.ood import Known
from partsynth.serving.extras import load_extra
from partsynth.serving.scores import graph_of, nearest, to_tensor

OPSET, IR = 18, 9  # 18: Resize with antialiasing; any runtime since 2023 reads them
OUTPUTS = ("probabilities", "ood_score", "unknown", "in_set", "nearest", "nearest_distance")
NEAREST = 5  # training images that are told, at most
METADATA = "partsynth"  # property of the ONNX file: JSON for the station


class Deployed(nn.Module):
    """Images at the model's size to answers.

    ``forward`` takes float32 (B, 3, S, S) of whole values in [0, 255] and gives, in the order of OUTPUTS: calibrated
    probabilities (B, C), OOD score (B,), whether unknown (B,), which classes are in the prediction set (B, C), indices
    of the nearest training images (B, m) and their distances on the unit sphere (B, m), ascending.
    """

    bank: Tensor

    def __init__(
        self, model: Classifier, known: Known, score: str, temperature: float, threshold: float, least: float
    ) -> None:
        super().__init__()
        self.model, self.score = model, graph_of(score, known)
        self.temperature, self.threshold, self.least = temperature, threshold, least
        self.size, self.count = model.size, min(NEAREST, len(known.bank))
        self.register_buffer("bank", to_tensor(known.bank))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features, logits = self.model(pixels / 255)
        probabilities = F.softmax(logits / self.temperature, dim=1)
        score = self.score(features, logits)
        index, distance = nearest(features, self.bank, self.count)
        return probabilities, score, score > self.threshold, probabilities >= self.least, index, distance


def to_onnx(network: Deployed, metadata: dict[str, Any]) -> bytes:
    """The network as an ONNX file; see ``onnx_bytes``."""
    return onnx_bytes(network, network.size, OUTPUTS, metadata)


def onnx_bytes(network: nn.Module, size: int, outputs: Sequence[str], metadata: dict[str, Any]) -> bytes:
    """A network as an ONNX file that takes square uint8 images (B, H, H, 3) of any size under the name ``images``.

    Parameters
    ----------
    network : takes float32 (B, 3, size, size) of whole values in [0, 255].

    Raises
    ------
    UserError
        where onnx is not installed.
    """
    onnx = load_extra("onnx")
    example = torch.zeros(2, 3, size, size)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter that needs no onnxscript calls itself old
        file = Path(place, "body.onnx")
        torch.onnx.export(
            network.eval(),
            (example,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "images"} for name in ("pixels", *outputs)},
        )
        body = onnx.load(file)
    body.ir_version = IR
    whole = onnx.compose.merge_models(
        _resizing(size), body, io_map=[("resized", "pixels")], prefix1="resize/", prefix2="model/"
    )
    return _named(whole, outputs, metadata)


def _resizing(size: int) -> Any:
    """uint8 (B, H, W, 3) to float32 (B, 3, size, size) of whole values, as Pillow's bicubic resize of square images.

    Columns first, then rows, each rounded and cut to [0, 255], as Pillow does; its kernel has a = -0.5, widens as it
    reduces, and counts no pixels outside. Images of the size stay as they are.
    """
    from onnx import TensorProto, helper, numpy_helper

    def along(axis: int, source: str, result: str) -> list[Any]:
        wide, moved, whole = (f"{result}_{step}" for step in ("wide", "moved", "whole"))
        return [
            helper.make_node(
                "Resize",
                [source, "", "", "size"],
                [wide],
                antialias=1,
                axes=[axis],
                mode="cubic",
                cubic_coeff_a=-0.5,
                coordinate_transformation_mode="half_pixel",
                exclude_outside=1,
            ),
            helper.make_node("Add", [wide, "half"], [moved]),
            helper.make_node("Floor", [moved], [whole]),
            helper.make_node("Clip", [whole, "least", "most"], [result]),
        ]

    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["float"], to=TensorProto.FLOAT),
        *along(3, "float", "columns"),
        *along(2, "columns", "resized"),
    ]
    constants = {
        "size": np.array([size], np.int64),
        "half": np.float32(0.5),
        "least": np.float32(0),
        "most": np.float32(255),
    }
    graph = helper.make_graph(
        nodes,
        "resize",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["images", "height", "width", 3])],
        [helper.make_tensor_value_info("resized", TensorProto.FLOAT, ["images", 3, size, size])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def _named(model: Any, outputs: Sequence[str], metadata: dict[str, Any]) -> bytes:
    """The merged model's bytes, inputs and outputs under their plain names, with ``metadata`` inside; checked."""
    import onnx
    from onnx import helper

    plain = {"resize/images": "images"} | {f"model/{name}": name for name in outputs}
    for node in model.graph.node:
        node.input[:] = [plain.get(name, name) for name in node.input]
        node.output[:] = [plain.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = plain[value.name]
    helper.set_model_props(model, {METADATA: json.dumps(metadata, sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
