"""A sheet of what SDEdit's settings do to the same photographs: docs/methods.md shows it.

    python benchmarks/edit_sheet.py [--project DIR] [--out docs/methods.webp] [--classes N]

--project is a project with masks whose stage `tokens` has run. Each row is one training image, drawn as `generate`
draws them; each column one set of SETS, with the same seed and state.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Order
from partsynth.augmentation.methods.sdedit import MEMBER, SdeditSet
from partsynth.augmentation.sources import drawn_sources
from partsynth.config import load as config_load
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.layout import Layout

COMMON = {"strength": 0.8, "guidance": 5.0, "states": ["rusty"], "variants": 1}
SETS = {
    "free": {},
    "restore: 1": {"restore": 1.0},
    "restore_sigma: 3": {"restore": 1.0, "restore_sigma": 3.0},
    "restore_sigma: 8": {"restore": 1.0, "restore_sigma": 8.0},
    "edit: part": {"edit": "part", "feather": 2.0},
    "edit: context": {"edit": "context", "feather": 2.0},
}
HEAD, GAP = 26, 4  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--out", type=Path, default=Path("docs/methods.webp"))
    parser.add_argument("--classes", type=int, default=3)
    given = parser.parse_args()
    root, layout = given.project, Layout(given.project)
    diffusion, shared = (config_load.load(section, layout.params) for section in ("diffusion", "generate"))
    real = read_manifest(layout.real_manifest, RealRecord)
    sources = drawn_sources(real, shared.seed, 1)[: given.classes]
    materials = Materials(real=real, tokens=layout.tokens, diffusion=diffusion, root=root)
    columns = {"source": [materials.source(source.path) for source in sources]}
    for title, settings in SETS.items():
        order = Order(
            set_name="sheet",  # of the seeds: the same noise in every column
            parameters=SdeditSet(**COMMON | settings),
            shared=shared,
            sources=sources,
            strengths={source.class_name: COMMON["strength"] for source in sources},
            folder="sheet",
        )
        made = {row.source: image for row, image in MEMBER.paint(MEMBER.plan(order, materials), materials)}
        columns[title] = [made[source.path] for source in sources]
    sheet(columns).save(given.out, quality=85)
    print(f"{given.out}: {', '.join(source.class_name for source in sources)} at {columns['source'][0].width} px")


def sheet(columns: dict[str, list[Image.Image]]) -> Image.Image:
    """Columns of images of one size, each under its title."""
    side, rows = max(columns["source"][0].width, 130), len(columns["source"])
    page = Image.new("RGB", (len(columns) * (side + GAP) - GAP, HEAD + rows * (side + GAP)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for x, (title, images) in enumerate(columns.items()):
        draw.text((x * (side + GAP) + 2, 4), title, "black", font)
        for y, image in enumerate(images):
            page.paste(
                image.resize((side, side), Image.Resampling.LANCZOS), (x * (side + GAP), HEAD + y * (side + GAP))
            )
    return page


if __name__ == "__main__":
    main()
