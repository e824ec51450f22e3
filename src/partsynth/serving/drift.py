"""Images measured against what an export holds of its training version, in features of the reference encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from partsynth.core.drift.window import Baseline
from partsynth.core.evaluation.metrics import Array
from partsynth.errors import UserError
from partsynth.serving.extras import load_extra
from partsynth.serving.station import Station, decoded, framed
from partsynth.store.files import read_json

GRAPH, NUMBERS = "drift.onnx", "drift.json"
FEATURES = "features"  # the graph's output


class DriftMeter:
    """Measures images against what an export holds.

    Raises
    ------
    UserError
        where the export holds nothing to measure drift by, or onnxruntime is not installed.
    """

    def __init__(self, export: Path) -> None:
        if not (export / GRAPH).is_file():
            raise UserError(f"{export / GRAPH} is missing: this export cannot tell drift; export the model again")
        self.session = open_graph(export / GRAPH)
        self.baseline = Baseline.from_json(read_json(export / NUMBERS))

    def measure(self, station: Station, data: bytes, class_name: str) -> list[float]:
        """The columns of the baseline for one encoded image; NaN where its class cannot be compared."""
        pixels = framed(decoded(data), station.about["unmasked"])
        number = np.array([station.classes.index(class_name)])
        return [float(value) for value in self.baseline.standardised(run_graph(self.session, pixels[None]), number)[0]]


def open_graph(file: Path) -> Any:
    """An onnxruntime session on one CPU. Raises UserError where onnxruntime is missing, or the file is damaged."""
    runtime = load_extra("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each damage
        raise damaged(file, error) from None


def damaged(file: Path, error: Exception) -> UserError:
    """What to tell of a graph that cannot be read."""
    return UserError(f"{file} is no ONNX file that can be read ({type(error).__name__}): export the model again")


def run_graph(session: Any, pixels: Array) -> Array:
    """Features (B, D) in float64 of square uint8 images (B, H, H, 3)."""
    return session.run([FEATURES], {"images": pixels})[0].astype(np.float64)
