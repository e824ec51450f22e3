"""Hundreds of renders of the demo's target classes, for the judge of the base model. Never used by the pipeline.

python benchmarks/target_renders.py --out .work/benchmark/targets.npz --per-class 300
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

SIDE, RAW_SIDE, SAMPLES = 64, 72, 25


def render_one(seed: int, class_index: int, index: int) -> tuple:
    """One framed picture (64, 64, 3) of a target class under any of the demo's settings, and its state word."""
    import numpy as np
    from PIL import Image

    from partsynth.core.images import framing
    from partsynth.rendering import catalog, scene

    rng = np.random.default_rng([seed, class_index, index])
    target = catalog.TARGETS[class_index]
    ranges = (catalog.CORPUS, catalog.NARROW, catalog.CORPUS, catalog.SHIFTED)[index % 4]
    worn = catalog.draw_wear(ranges, rng, catalog.DEMO_MATERIAL[target.family])
    shot = catalog.draw_shots(ranges, rng)[catalog.CAMERAS[index // 4 % 2]]
    image, mask = scene.photograph(
        target.family, target.values, int(rng.integers(2**31)), worn, shot, RAW_SIDE, SAMPLES
    )
    box = framing.roi_box(mask, framing.dilation_pixels(0.05, (RAW_SIDE, RAW_SIDE)))
    framed = framing.crop_resize(Image.fromarray(image), box, SIDE, Image.Resampling.LANCZOS)
    return np.asarray(framed), worn.state


def render(out: Path, per_class: int, seed: int = 7, workers: int | None = None) -> None:
    """Write images (N, 64, 64, 3) uint8, labels (N,), states (N,), class names (12,), unless ``out`` exists."""
    import numpy as np

    from partsynth.rendering import catalog

    if out.is_file():
        return
    jobs = [(c, i) for c in range(len(catalog.TARGETS)) for i in range(per_class)]
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(render_one, [seed] * len(jobs), *zip(*jobs, strict=True), chunksize=20))
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_suffix(".draft")
    with draft.open("wb") as file:
        np.savez_compressed(
            file,
            images=np.stack([r[0] for r in rows]),
            states=np.array([r[1] for r in rows]),
            labels=np.array([c for c, _ in jobs]),
            classes=np.array([v.name for v in catalog.TARGETS]),
        )
    draft.replace(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".work/benchmark/targets.npz"))
    parser.add_argument("--per-class", type=int, default=300)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    render(args.out, args.per_class, workers=args.workers)
