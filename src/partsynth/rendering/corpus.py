"""The base model's corpus: shards of framed images with their captions.

    python -m partsynth.rendering.corpus --out DIR --count 20000 --seed 0 --workers 15

A shard is a pure function of the seed and its number: it can be made anywhere, in any order, and is skipped where it
exists. ``corpus.json`` is written last and sums the shards up.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import os
import time
from collections import Counter
from concurrent.futures import as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.errors import UserError
from partsynth.rendering.pool import pool
from partsynth.store.files import write_bytes_atomic, write_text_atomic
from partsynth.store.process import cores

if TYPE_CHECKING:
    import numpy as np

    from partsynth.rendering.catalog import Variant

SHARD = 125  # images per shard
SIDE = 64  # side of a framed image, pixels
RAW_SIDE = 72  # side of the render before framing, pixels
SAMPLES = 16  # light paths per pixel
DILATION = 0.04  # of the raw image's side, as the ingest stage frames real images
CAPTIONS = 3  # alternative captions per image
SUMMARY = "corpus.json"
COLUMNS = ("images", "captions", "variants", "families", "states")  # of a shard, that training reads


def render_one(seed: int, index: int) -> dict[str, Any]:
    """Image ``index`` of the corpus: image (64, 64, 3) uint8, captions, variant (JSON), family, state."""
    import numpy as np
    from PIL import Image

    from partsynth.core.images import framing
    from partsynth.rendering import captions, catalog, scene

    rng = np.random.default_rng([seed, index])
    variants = _by_family()
    # half by family, half by variant: rich families hold most of the counts to learn, small ones still show up
    families = sorted(variants)
    if rng.random() < 0.5:
        family = families[rng.integers(len(families))]
    else:
        sizes = np.array([len(variants[name]) for name in families])
        family = families[rng.choice(len(families), p=sizes / sizes.sum())]
    variant = variants[family][rng.integers(len(variants[family]))]
    worn = catalog.draw_wear(catalog.CORPUS, rng)
    shot = catalog.draw_shots(catalog.CORPUS, rng)[catalog.CAMERAS[rng.integers(len(catalog.CAMERAS))]]
    part_seed = int(rng.integers(2**31))
    image, mask = scene.photograph(variant.family, variant.values, part_seed, worn, shot, RAW_SIDE, SAMPLES)
    box = framing.roi_box(mask, framing.dilation_pixels(DILATION, (RAW_SIDE, RAW_SIDE)))
    framed = framing.crop_resize(Image.fromarray(image), box, SIDE, Image.Resampling.BICUBIC)
    words = [captions.caption(variant.family, variant.values, worn, shot, rng) for _ in range(CAPTIONS)]
    return {
        "images": np.asarray(framed),
        "captions": words,
        "variants": json.dumps({"family": variant.family, "features": variant.values}),
        "families": variant.family,
        "states": worn.state,
        "severities": worn.severity,
        "materials": worn.material,
    }


@functools.cache
def _by_family() -> dict[str, list[Variant]]:
    """The corpus variants grouped by family."""
    from partsynth.rendering import catalog

    groups: dict[str, list[Variant]] = {}
    for variant in catalog.corpus_variants():
        groups.setdefault(variant.family, []).append(variant)
    return groups


def shard_path(out: Path, number: int) -> Path:
    return out / f"shard-{number:05d}.npz"


def make_shard(out: Path, number: int, first: int, stop: int, seed: int) -> Path:
    """Render images first..stop-1 into one file, whole or not at all."""
    import numpy as np

    rows = [render_one(seed, index) for index in range(first, stop)]
    columns: dict[str, Any] = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, indices=np.arange(first, stop), **columns)
    path = shard_path(out, number)
    write_bytes_atomic(path, buffer.getvalue())
    return path


def render_corpus(out: Path, count: int, seed: int, workers: int, start: int = 0) -> dict[str, Any]:
    """Images start..start+count-1 as shards in ``out``; returns (and writes as corpus.json) their summary.

    ``start`` must be a multiple of SHARD. Shards that exist are kept, so a stopped run goes on where it was.
    """
    if start % SHARD:
        raise ValueError(f"start is {start}: shards begin at multiples of {SHARD}")
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(first // SHARD, first, min(first + SHARD, start + count)) for first in range(start, start + count, SHARD)]
    missing = [job for job in jobs if not shard_path(out, job[0]).exists()]
    begun = time.monotonic()
    with pool(workers) as processes:
        waiting = [processes.submit(make_shard, out, *job, seed) for job in missing]
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                path = future.result()
                print(f"{path.name}  {done}/{len(missing)}  {time.monotonic() - begun:.0f} s", flush=True)
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise
    summary = _summary(out, jobs, count, seed, start)
    write_text_atomic(out / SUMMARY, json.dumps(summary, indent=1) + "\n")
    return summary


def load_corpus(folder: Path, limit: int | None = None) -> dict[str, np.ndarray]:
    """Arrays over the images: images uint8 (N, S, S, 3), captions (N, K), variants, families, states (N,) of str.

    Parameters
    ----------
    limit : read the first so many images alone.

    Raises
    ------
    UserError
        where the folder holds no shards.
    """
    import numpy as np

    parts: dict[str, list[np.ndarray]] = {key: [] for key in COLUMNS}
    count = 0
    for shard in sorted(folder.glob("shard-*.npz")):
        if limit is not None and count >= limit:
            break
        with np.load(shard, allow_pickle=False) as data:
            for key in COLUMNS:
                parts[key].append(data[key])
            count += len(data["images"])
    if not count:
        raise UserError(f"{folder} holds no shards: `partsynth base` renders them")
    return {key: np.concatenate(value)[:limit] for key, value in parts.items()}


def _summary(out: Path, jobs: list[tuple[int, int, int]], count: int, seed: int, start: int) -> dict[str, Any]:
    import numpy as np

    from partsynth.rendering.scene import VERSION

    digest = hashlib.sha256()
    families: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for number, first, stop in jobs:
        path, shape = shard_path(out, number), (stop - first, SIDE, SIDE, 3)
        with np.load(path) as shard:
            if shard["images"].shape != shape:
                raise ValueError(f"{path} holds {shard['images'].shape}, wanted {shape}: delete it and run again")
            digest.update(shard["images"].tobytes())
            families.update(shard["families"].tolist())
            states.update(shard["states"].tolist())
    return {
        "count": count,
        "start": start,
        "seed": seed,
        "renderer_version": VERSION,
        "shards": len(jobs),
        "images_sha256": digest.hexdigest(),
        "families": dict(sorted(families.items())),
        "states": dict(sorted(states.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the base model's corpus.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--first-shard", type=int, default=0)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # workers import this module, and numpy with it, before they are prepared
    summary = render_corpus(args.out, args.count, args.seed, args.workers, args.first_shard * SHARD)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
