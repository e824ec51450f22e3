"""A sheet of edits that are none of their class, and how many of each kind lie beyond the edge of every class.

    python benchmarks/negatives_sheet.py --project DIR [--out docs/negatives.webp] [--sources N] [--classes NAME ...]

--project is a demo whose stage `tokens` has run: its classes are named in words by rendering/negatives.py. Each row of
the sheet is a class's first training image, drawn as `generate` draws them, each column one set of SETS, of the same
seeds and states. Of N sources per class it prints what rule nobody's gate says: the percentile of the least drift.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from edit_sheet import sheet
from PIL import Image

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Order
from partsynth.augmentation.sources import drawn_sources
from partsynth.config import load as config_load
from partsynth.core.drift.calibration import conformal_percentiles, drift_scores, least_scores
from partsynth.core.drift.distances import class_distances
from partsynth.quality.features import Encoder, embed_batch
from partsynth.quality.real_parts import calibrated, columns, further_columns, measure_real, real_parts
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.rendering import negatives
from partsynth.seams import METHODS
from partsynth.store.layout import Layout

EDIT: dict[str, Any] = {"strength": 0.8, "guidance": 5.0, "states": ["rusty", "used"], "restore": 1.0}
FAMILIES = {f"{family}_*": family for family in ("alternator", "gear", "flange", "pump")}
WORDS = {"concept": "words", "words": negatives.words(6)}
SIBLINGS = {"concept": "siblings", "siblings": FAMILIES}
MATCHED = {"restore_sigma": 3.0, "match_sigma": 6.0, "match_state": "source"}
SETS: dict[str, dict[str, Any]] = {
    "own, sigma 3": EDIT | {"restore_sigma": 3.0},
    "words": EDIT | WORDS,
    "words, matched": EDIT | WORDS | MATCHED | {"match_state": "same"},
    "m., source's state": EDIT | WORDS | MATCHED,
    "siblings .5, m.": EDIT | SIBLINGS | MATCHED,
    "sibling 1, m.": EDIT | SIBLINGS | MATCHED | {"mix": 1.0},
    "noise .5": EDIT | {"token_noise": 0.5},
    "exchange sibl.": {"method": "exchange", "siblings": FAMILIES},
    "exchange own": {"method": "exchange", "between": "own"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/negatives.webp"))
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--classes", nargs="*", help="names of some of the classes")
    parser.add_argument("--only", nargs="*", help="titles of some of the sets")
    given = parser.parse_args()
    root, layout = given.project, Layout(given.project)
    diffusion, shared, quality, reference = (
        config_load.load(section, layout.params) for section in ("diffusion", "generate", "quality", "reference")
    )
    real = read_manifest(layout.real_manifest, RealRecord)
    sources = drawn_sources(real, shared.seed, given.sources)
    names = given.classes or sorted({source.class_name for source in sources})
    sources = [source for source in sources if source.class_name in names]
    shared = shared.model_copy(update={"batch_size": min(len(sources), shared.batch_size)})  # few need no full batch
    first = [next(source for source in sources if source.class_name == name) for name in names]
    materials = Materials(real=real, tokens=layout.tokens, diffusion=diffusion, root=root)
    parts, embed = real_parts(root / "data/real"), Encoder(reference, root)
    measured, _ = measure_real(parts, quality, root, embed)
    bank, calibration = calibrated(parts, measured.features, quality, None)
    shown = {"source": [materials.source(source.path) for source in first]}
    print(f"{len(sources)} images per set; beyond the 95th percentile of real images: own class, every class; least sd")
    for title, settings in SETS.items():
        if given.only and title not in given.only:
            continue
        method = METHODS[settings.get("method", "sdedit")]
        order = Order(
            set_name="sheet",  # of the seeds: the same noise in every column
            parameters=method.Parameters(**settings | {"variants": 1}),
            shared=shared,
            sources=sources,
            strengths=dict.fromkeys(names, settings.get("strength", 0.0)),
            folder="sheet",
        )
        made = {row.source: (row, image) for row, image in method.paint(method.plan(order, materials), materials)}
        shown[title] = [made[source.path][1] for source in first]
        rows: list[AugmentedRecord] = [row for row, _ in made.values()]
        features = features_of([image for _, image in made.values()], embed)
        paths, classes, groups = columns(rows)
        distances = class_distances(features, paths, groups, bank, quality.neighbours, further_columns(rows))
        own = conformal_percentiles(drift_scores(distances, classes, bank.kinds, calibration), calibration.drift)
        least = least_scores(distances, calibration)
        nobody = conformal_percentiles(least, calibration.least)
        print(f"{title}: {(own > 0.95).mean():.2f}, {(nobody > 0.95).mean():.2f}; {np.median(least):.1f}", flush=True)
    sheet(shown).save(given.out, quality=85)
    print(f"{given.out}: {', '.join(names)}")


def features_of(images: list[Image.Image], embed: Encoder) -> np.ndarray:
    size = embed.reference.batch_size
    return np.concatenate([embed_batch(embed, images[i : i + size], size) for i in range(0, len(images), size)])


if __name__ == "__main__":
    main()
