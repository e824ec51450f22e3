"""What an export gets to tell drift by: the reference encoder as a graph, and what held-out images are like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from partsynth.config.models import Reference
from partsynth.core.drift.window import fit
from partsynth.core.evaluation.ood import Array
from partsynth.errors import UserError
from partsynth.quality.features import Encoder
from partsynth.records.images import read_image
from partsynth.records.rows import ImageRecord
from partsynth.serving.checks import TOLERANCE
from partsynth.serving.drift import FEATURES, GRAPH, NUMBERS, open_graph, run_graph
from partsynth.serving.network import onnx_bytes
from partsynth.store.files import write_bytes_atomic, write_json


class ReferenceGraph(nn.Module):
    """The reference encoder from pixels (B, 3, S, S), whole values in [0, 255], to features (B, D) of unit length."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", mean.cpu())
        self.register_buffer("std", std.cpu())

    def forward(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.net((pixels / 255 - self.mean) / self.std).float(), dim=1)


def write(
    folder: Path,
    root: Path,
    reference: Reference,
    train: Sequence[ImageRecord],
    val: Sequence[ImageRecord],
    predicted: Array,
    classes: list[str],
) -> dict[str, Any]:
    """Write the graph and the numbers into ``folder``; returns what export.json says of them.

    Parameters
    ----------
    predicted : (n,) the classes that the model says of the validation images.

    Raises
    ------
    UserError
        where the reference encoder cannot be loaded.
    RuntimeError
        where onnxruntime and torch differ by more than TOLERANCE.
    """
    encoder = Encoder(reference.model_copy(update={"device": "cpu"}), root)
    graph = ReferenceGraph(encoder.loaded.net, encoder.loaded.mean, encoder.loaded.std).eval()
    about = {"identity": encoder.identity}
    write_bytes_atomic(folder / GRAPH, onnx_bytes(graph, encoder.loaded.size, (FEATURES,), about))
    session = open_graph(folder / GRAPH)
    images = {name: [read_image(root, row) for row in rows] for name, rows in (("train", train), ("val", val))}
    seen = {name: _features(session, some) for name, some in images.items()}  # as a station sees them
    labels = np.array([classes.index(row.class_name) for row in train])
    baseline = fit(seen["train"], labels, seen["val"], predicted, [row.origin_group for row in val])
    write_json(folder / NUMBERS, baseline.as_json())
    return {
        "reference": reference.model,
        "identity": encoder.identity,
        "training_images": len(train),
        "validation_images": len(val),
        "columns": baseline.columns,
        "design_effect": [round(float(value), 3) for value in baseline.effect],
        "agreement": _agreement(session, encoder, images["val"]),
        "classes_without_validation_images": [n for n, c in zip(classes, baseline.counts, strict=True) if not c],
    }


def _features(session: Any, images: Sequence[Image.Image]) -> Array:
    return np.concatenate([run_graph(session, np.asarray(image.convert("RGB"))[None]) for image in images])


def _agreement(session: Any, encoder: Encoder, images: Sequence[Image.Image]) -> float:
    """Of images at the encoder's size: the graph's own resize is Pillow's but for single grey levels."""
    size = encoder.loaded.size
    fitted = [image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC) for image in images]
    worst = float(np.abs(_features(session, fitted) - encoder(fitted)).max())
    if not worst <= TOLERANCE:
        raise RuntimeError(f"onnxruntime and torch differ by {worst:.2e} in reference features")
    return worst


def try_writing(folder: Path, **arguments: Any) -> dict[str, Any]:
    """As ``write``; where the encoder cannot be had or written as a graph the export does without, and says why."""
    try:
        return write(folder, **arguments)
    except (UserError, torch.onnx.errors.OnnxExporterError) as error:
        (folder / GRAPH).unlink(missing_ok=True)
        return {"missing": f"drift cannot be told: {error}"}
