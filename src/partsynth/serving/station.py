"""What runs an exported model: plain Python on onnxruntime, NumPy and Pillow, which imports nothing of partsynth.

The export holds a copy of this file (pyfunc/code/partsynth_station.py).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

LEAST_SIDE = 8  # pixels


class Unreadable(ValueError):
    """Why an image cannot be used."""


class Station:
    """An exported model.

    Parameters
    ----------
    file : model.onnx of an export.
    threads : cores that one image may use; None = all.
    """

    def __init__(self, file: str | Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.about: dict[str, Any] = json.loads(self.session.get_modelmeta().custom_metadata_map["partsynth"])
        self.classes: list[str] = self.about["classes"]

    def raw(self, data: bytes) -> dict[str, np.ndarray]:
        """The model's outputs for one encoded image (PNG, JPEG, ...).

        Raises
        ------
        Unreadable
            where it is no image that can be used.
        """
        pixels = framed(decoded(data), self.about["unmasked"])
        found = self.session.run(None, {"images": pixels[None]})
        return {name: values[0] for name, values in zip(self.outputs, found, strict=True)}

    def answer(self, raw: dict[str, np.ndarray]) -> dict[str, Any]:
        """The outputs of one image in words."""
        best = int(raw["probabilities"].argmax())
        return {
            "class": self.classes[best],
            "probability": float(raw["probabilities"][best]),
            "ood_score": float(raw["ood_score"]),
            "unknown": bool(raw["unknown"]),
            "prediction_set": [name for name, inside in zip(self.classes, raw["in_set"], strict=True) if inside],
            "nearest": [
                {**self.about["training"][index], "distance": float(distance)}
                for index, distance in zip(raw["nearest"], raw["nearest_distance"], strict=True)
            ],
        }

    def part(self, views: list[dict[str, np.ndarray]]) -> dict[str, Any]:
        """Several images of one part as one answer, from their outputs.

        The class is that of the largest mean of log-probabilities over the images; its probability is that of the
        means, scaled to sum to 1 over the classes. The part is unknown where the mean of the OOD scores lies above the
        threshold of single images.
        """
        logs = np.mean([np.log(np.maximum(view["probabilities"].astype(float), 1e-30)) for view in views], axis=0)
        shares = np.exp(logs - logs.max())
        best, score = int(logs.argmax()), float(np.mean([view["ood_score"] for view in views]))
        return {
            "class": self.classes[best],
            "probability": float(shares[best] / shares.sum()),
            "ood_score": score,
            "unknown": score > self.about["threshold"],
            "images": len(views),
        }


def decoded(data: bytes) -> np.ndarray:
    """Upright 8-bit RGB (H, W, 3) of an encoded image, as partsynth's ingest reads photographs.

    Grey, palette, alpha (over white), CMYK and EXIF orientation are handled; 16-bit grey is scaled by its whole range.

    Raises
    ------
    Unreadable
        where it is damaged, no image, or too small.
    """
    try:
        opened = Image.open(io.BytesIO(data))
        opened.load()
        image: Image.Image = ImageOps.exif_transpose(opened)
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise Unreadable(f"no image that can be read: {error}" if data else "an empty file") from None
    if min(image.size) < LEAST_SIDE:
        raise Unreadable(f"only {image.width} x {image.height} pixels (at least {LEAST_SIDE} a side)")
    if image.mode == "F":
        raise Unreadable("floating-point values: save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip((deep + 128) // 257, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        hidden = image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (0, 0)
        image = image.convert("RGBA")
        if not hidden:  # a camera's alpha channel of zeros is no transparency
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def framed(pixels: np.ndarray, unmasked: str) -> np.ndarray:
    """The square (S, S, 3) that ingest takes of a photograph without a mask.

    ``unmasked`` is "whole" (the shorter side is widened by repeating edge pixels) or "centre" (the longer one is cut).
    """
    height, width = pixels.shape[:2]
    side = min(height, width) if unmasked == "centre" else max(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if unmasked != "centre":
        top, left = -((side - height) // 2), -((side - width) // 2)
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return np.ascontiguousarray(pixels[rows][:, columns])
