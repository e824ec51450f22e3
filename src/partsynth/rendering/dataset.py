"""The embedded data set: which images there are, their rendering, and what is told of them, in MVIP's layout."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from partsynth.config.data import Render
from partsynth.errors import UserError
from partsynth.rendering import captions, catalog, development, geometry, scene
from partsynth.rendering.pool import pool
from partsynth.rendering.wear import Wear
from partsynth.store.hashing import fingerprint, seed_from, sha256_file
from partsynth.store.png import png_fingerprint, write_png

Role = Literal["target", "near_ood", "far_ood"]
Split = Literal["train", "val", "test", "shifted"]

SUPER_CLASS = "RenderedPart"
SPLIT_FOLDERS: dict[Split, str] = {
    "train": "train_data",
    "val": "valid_data",
    "test": "test_data",
    "shifted": "shifted_data",
}
RADIUS = 0.1  # metres that a part's bounding radius stands for, in the weight of meta.json
DENSITY = {"steel": 7850, "aluminium": 2700, "cast iron": 7200, "brass": 8500, "blue painted": 7200}  # kg / m3


@dataclass(frozen=True)
class PlannedImage:
    """One image to take: what, how, and where it goes (paths relative to the raw folder)."""

    path: str
    mask: str
    variant: catalog.Variant
    role: Role
    split: Split
    group: str  # the physical part: its two cameras share it
    camera: str
    part_seed: int
    wear: Wear
    shot: scene.Shot

    def fingerprint(self, size: int, samples: int) -> str:
        made_of = [self.variant.family, self.variant.values, self.part_seed, asdict(self.wear), asdict(self.shot)]
        return fingerprint([*made_of, size, samples, scene.VERSION])

    def is_current(self, folder: Path, size: int, samples: int) -> bool:
        """Whether image and mask lie below ``folder``, whole and of this making."""
        mark = self.fingerprint(size, samples)
        return all(png_fingerprint(folder / name) == mark for name in (self.path, self.mask))


def plan(params: Render) -> list[PlannedImage]:
    """All images of the data set, sorted by path.

    Every image is a pure function of its class, split, number and camera, and of ``params.seed`` (in the test, shifted
    and OOD parts ``params.test_seed``): adding a class changes no other image.

    Raises
    ------
    UserError
        for classes that are no targets.
    """
    targets = {variant.name: variant for variant in catalog.TARGETS}
    unknown = sorted(set(params.classes or []) - targets.keys())
    if unknown:
        raise UserError(f"render.classes: {', '.join(unknown)} unknown; there are: {', '.join(targets)}")
    chosen = [targets[name] for name in (params.classes or targets)]
    counts = params.instances
    near, far, shift = catalog.NEAR_OOD, catalog.FAR_OOD, catalog.SHIFTED
    if params.roles == "development":
        near, far, shift = development.NEAR_OOD, development.FAR_OOD, development.SHIFTED
    batches: list[tuple[Sequence[catalog.Variant], Role, Split, int, catalog.Ranges]] = [
        (chosen, "target", "train", counts.train, catalog.NARROW),
        (chosen, "target", "val", counts.val, catalog.NARROW),
        (chosen, "target", "test", counts.test, catalog.NARROW),
        (chosen, "target", "shifted", counts.shifted, shift),
        (near["val"], "near_ood", "val", counts.near_val, catalog.NARROW),
        (near["test"], "near_ood", "test", counts.near_test, catalog.NARROW),
        (far["val"], "far_ood", "val", counts.far_val, catalog.NARROW),
        (far["test"], "far_ood", "test", counts.far_test, catalog.NARROW),
    ]
    test_seed = params.seed if params.test_seed is None else params.test_seed
    images = [
        image
        for variants, role, split, count, ranges in batches
        for variant in variants
        for number in range(count)
        for image in _part(
            params.seed if role == "target" and split in ("train", "val") else test_seed,
            variant,
            role,
            split,
            number,
            ranges,
        )
    ]
    return sorted(images, key=lambda image: image.path)


def _part(
    seed: int, variant: catalog.Variant, role: Role, split: Split, number: int, ranges: catalog.Ranges
) -> Iterator[PlannedImage]:
    """The images of one physical part, one per camera."""
    rng = np.random.default_rng(seed_from("render", seed, variant.name, split, number))
    part_seed = int(rng.integers(2**31))
    worn = catalog.draw_wear(ranges, rng, catalog.DEMO_MATERIAL[variant.family])
    part = f"part{number:02d}"
    for camera, shot in catalog.draw_shots(ranges, rng).items():
        # MVIP has the orientation's level in the training data only
        orientation = f"yaw{90 * int(shot.yaw // 90):03d}/" if split == "train" else ""
        stem = f"{variant.name}/{SPLIT_FOLDERS[split]}/{part}/{orientation}{camera}/{part}_{camera}_rgb"
        yield PlannedImage(
            path=f"{stem}.png",
            mask=f"{stem}_mask_gen.png",
            variant=variant,
            role=role,
            split=split,
            group=f"{variant.name}/{split}/{part}",
            camera=camera,
            part_seed=part_seed,
            wear=worn,
            shot=shot,
        )


def metas(images: Sequence[PlannedImage]) -> dict[str, dict[str, Any]]:
    """The meta.json of every class by the class's name: MVIP's keys as its makers write them, then ours."""
    found = {}
    for variant, role in sorted({(image.variant, image.role) for image in images}, key=lambda pair: pair[0].name):
        material = catalog.DEMO_MATERIAL[variant.family]
        volume = geometry.build(variant.family, variant.values, np.random.default_rng(0)).volume()
        found[variant.name] = {
            "super_class": [SUPER_CLASS],
            "description": {
                "part": [captions.describe(variant.family, variant.values)],
                "features": [
                    p for name, value in variant.values.items() if (p := captions.feature_phrase(name, value))
                ],
                "material": [material],
            },
            "weight": round(volume * RADIUS**3 * DENSITY[material], 2),  # kg
            "family": variant.family,
            "features": variant.values,
            "material": material,
            "role": role,
        }
    return found


def render(
    images: Sequence[PlannedImage],
    out: Path,
    *,
    size: int,
    samples: int,
    workers: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> None:
    """Take the images in worker processes; Ctrl-C ends after the parts in work, with whole files only.

    Parameters
    ----------
    size, samples : see ``scene.photograph``.
    on_done : called with the number of images that one more part has brought.
    """
    if not images:
        return
    parts = [list(part) for _, part in groupby(images, key=lambda image: image.group)]
    with pool(min(workers, len(parts))) as processes:
        waiting = [processes.submit(_take_part, part, out, size, samples) for part in parts]
        try:
            for future in as_completed(waiting):
                on_done(future.result())
        except BaseException:
            processes.shutdown(wait=True, cancel_futures=True)
            raise


def _take_part(images: Sequence[PlannedImage], out: Path, size: int, samples: int) -> int:
    """Take the images of one part (its geometry is built once); returns how many."""
    for image in images:
        pixels, mask = scene.photograph(
            image.variant.family, image.variant.values, image.part_seed, image.wear, image.shot, size, samples
        )
        mark = image.fingerprint(size, samples)
        write_png(out / image.path, pixels, mark)
        write_png(out / image.mask, mask, mark)
    return len(images)


def manifest_csv(images: Sequence[PlannedImage], out: Path) -> str:
    """One CSV row per image: where it is, what it shows, and every number it was taken with."""
    rows = []
    for image in images:
        worn, shot = asdict(image.wear), asdict(image.shot)
        rows.append(
            {
                "path": image.path,
                "mask": image.mask,
                "sha256": sha256_file(out / image.path),
                "mask_sha256": sha256_file(out / image.mask),
                "class_name": image.variant.name,
                "role": image.role,
                "split": image.split,
                "group": image.group,
                "camera": image.camera,
                "state": worn.pop("state"),
                "severity": worn.pop("severity"),
                "material": worn.pop("material"),
                "wear_seed": worn.pop("seed"),
                "part_seed": image.part_seed,
                **shot,
                "family": image.variant.family,
                "features": json.dumps(image.variant.values),
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
