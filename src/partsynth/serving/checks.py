"""The ONNX file once it is made: does it compute what torch does, and how long does an image take."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from partsynth.core.evaluation.ood import Array
from partsynth.serving.network import OUTPUTS, Deployed
from partsynth.serving.station import Station

TOLERANCE = 1e-4  # between onnxruntime and torch; of scores above 1, relative


def agreement(network: Deployed, onnx: Path, images: Array) -> float:
    """The largest difference of onnxruntime's probabilities, scores and distances from torch's.

    Parameters
    ----------
    images : uint8 (n, S, S, 3).

    Raises
    ------
    RuntimeError
        where it is more than TOLERANCE.
    """
    session = Station(onnx).session
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        wanted = dict(zip(OUTPUTS, (value.numpy() for value in network(pixels)), strict=True))
    worst = max(
        float((np.abs(found[name] - wanted[name]) / np.maximum(1, np.abs(wanted[name]))).max())
        for name in ("probabilities", "ood_score", "nearest_distance")
    )
    if not worst <= TOLERANCE:
        raise RuntimeError(f"onnxruntime and torch differ by {worst:.2e}, more than {TOLERANCE:.0e}")
    return worst


def latency(onnx: Path, encoded: list[bytes]) -> float:
    """Milliseconds per image on one core, from encoded bytes to the answer: the median."""
    one = Station(onnx, threads=1)
    one.answer(one.raw(encoded[0]))
    taken = []
    for data in encoded:
        start = time.perf_counter()
        one.answer(one.raw(data))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1000
