"""A corpus of the base model without a renderer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from partsynth.rendering import corpus


def fake_corpus(out: Path, count: int, seed: int, workers: int) -> None:
    """Two shards as the renderer writes them, of random pictures."""
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(count), 2)):
        np.savez_compressed(
            corpus.shard_path(out, number),
            images=rng.integers(0, 256, (len(rows), 64, 64, 3), dtype=np.uint8),
            captions=np.array([[f"a photo of a rusty gear with {i} holes"] * 3 for i in rows]),
            variants=np.array([json.dumps({"family": "gear", "features": {"holes": int(i) % 3}}) for i in rows]),
            families=np.array(["gear"] * len(rows)),
            states=np.array(["rusty"] * len(rows)),
        )
    (out / "corpus.json").write_text(json.dumps({"count": count, "seed": seed, "images_sha256": "0" * 64}))
