"""Drawn parts, and a stand-in for the reference encoder that tells them apart."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

KINDS = ("bracket", "disc", "gear", "shaft")


def part(kind: str, seed: int, size: int = 48) -> Image.Image:
    """A drawn part in a light, colour and position of its own."""
    rng = np.random.default_rng(seed)
    tone = int(rng.integers(150, 200))
    image = Image.new("RGB", (2 * size, 2 * size), (60, 62, 66))
    draw = ImageDraw.Draw(image)
    x, y = size + rng.integers(-4, 5, 2)
    r = int(size * rng.uniform(0.62, 0.74))
    colour = (tone, tone - 10, tone - 25)
    hole = (30, 30, 32)
    if kind == "gear":
        turn = rng.uniform(0, 0.2)
        points = [
            (x + q * np.cos(a), y + q * np.sin(a))
            for i in range(24)
            for a, q in [(np.pi * i / 12 + turn, r if i % 4 < 2 else 0.75 * r)]
        ]
        draw.polygon(points, fill=colour)
        draw.ellipse([x - r / 4, y - r / 4, x + r / 4, y + r / 4], fill=hole)
    elif kind == "disc":
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
        for a in np.arange(5) * 2 * np.pi / 5 + rng.uniform(0, 0.2):
            cx, cy = x + 0.6 * r * np.cos(a), y + 0.6 * r * np.sin(a)
            draw.ellipse([cx - r / 6, cy - r / 6, cx + r / 6, cy + r / 6], fill=hole)
    elif kind == "bracket":
        draw.rectangle([x - r, y - r, x - r / 3, y + r], fill=colour)
        draw.rectangle([x - r, y + r / 3, x + r, y + r], fill=colour)
    else:
        draw.rectangle([x - r / 4, y - 1.3 * r, x + r / 4, y + 1.3 * r], fill=colour)
        draw.rectangle([x - r / 2, y - r / 3, x + r / 2, y + r / 3], fill=colour)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)
    light = rng.uniform(0.9, 1.1) + 0.1 * np.linspace(-1, 1, size)[None, :, None] * rng.choice([-1, 1])
    return Image.fromarray(np.clip(pixels * light + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8))


def edges(images: list[Image.Image]) -> np.ndarray:
    """A stand-in of the reference encoder's form: gradients in 6 x 6 cells and 6 directions, and coarse colour."""
    features = []
    for image in images:
        pixels = np.asarray(image.convert("RGB").resize((48, 48)), np.float32) / 255
        dy, dx = np.gradient(pixels.mean(2))
        strength, angle = np.hypot(dx, dy), (np.arctan2(dy, dx) % np.pi) / np.pi * 6
        cells = [
            np.where(angle.astype(int) % 6 == b, strength, 0).reshape(6, 8, 6, 8).sum((1, 3)).ravel() for b in range(6)
        ]
        colour = pixels.reshape(6, 8, 6, 8, 3).mean((1, 3)).ravel() - 0.5
        feature = np.concatenate([*(np.sqrt(c) for c in cells), colour])
        features.append(feature / np.linalg.norm(feature))
    return np.stack(features).astype(np.float32)
