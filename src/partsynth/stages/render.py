"""Stage `render`: photographs of parametric used parts, in MVIP's layout, with masks and a manifest.

Every picture is a pure function of its class, split, number and camera (and of `params.seed`, in the test, shifted and
OOD parts `params.test_seed`): adding a class renders that class only, and a stopped run goes on where it was.
"""

import csv
import io
import json
import os
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from rich.progress import Progress

from partsynth.config.data import Render
from partsynth.errors import UserError
from partsynth.rendering import captions, catalog, geometry, scene
from partsynth.rendering.pool import pool
from partsynth.rendering.wear import Wear
from partsynth.store import files, hashing
from partsynth.store.files import write_json, write_text_atomic
from partsynth.store.hashing import seed_from, sha256_file
from partsynth.store.png import png_fingerprint, write_png

SUPER_CLASS = "RenderedPart"
SPLIT_FOLDERS = {"train": "train_data", "val": "valid_data", "test": "test_data", "shifted": "shifted_data"}
RADIUS = 0.1  # metres that a part's bounding radius stands for, in the weight of meta.json
DENSITY = {"steel": 7850, "aluminium": 2700, "cast iron": 7200, "brass": 8500, "blue painted": 7200}  # kg / m3


@dataclass(frozen=True)
class Picture:
    """One picture to take: what, how, and where it goes (paths relative to the raw folder)."""

    path: str
    mask: str
    variant: catalog.Variant
    role: str  # target | near_ood | far_ood
    split: str  # train | val | test | shifted
    group: str  # the physical part: its two cameras share it
    camera: str
    part_seed: int
    wear: Wear
    shot: scene.Shot

    def fingerprint(self, size: int, samples: int) -> str:
        made_of = [self.variant.family, self.variant.values, self.part_seed, asdict(self.wear), asdict(self.shot)]
        return hashing.fingerprint([*made_of, size, samples, scene.VERSION])


def run(params: Render, out: Path, workers: int | None = None) -> None:
    """Renders what is missing below `out`, removes what is no longer wanted, and writes manifest.csv last.

    Raises
    ------
    UserError
        for classes that are no demo targets, or where `out` holds files that this stage did not make.
    """
    pictures = plan(params)
    metas = {out / name / "meta.json": meta for name, meta in _metas(pictures).items()}
    wanted = {out / name for picture in pictures for name in (picture.path, picture.mask)} | metas.keys()
    _refuse_foreign(out, wanted)
    (out / "manifest.csv").unlink(missing_ok=True)
    files.prune(out, wanted)
    for path, meta in metas.items():
        write_json(path, meta)

    missing = [p for p in pictures if not _current(p, out, params)]
    print(f"render: {len(pictures)} pictures, {len(pictures) - len(missing)} of them kept")
    _take(missing, out, params, workers or params.workers or os.cpu_count() or 1)
    write_text_atomic(out / "manifest.csv", _manifest(pictures, out))


def plan(params: Render) -> list[Picture]:
    """All pictures of the data set, sorted by path."""
    targets = {variant.name: variant for variant in catalog.TARGETS}
    unknown = sorted(set(params.classes or []) - targets.keys())
    if unknown:
        raise UserError(f"render.classes: {', '.join(unknown)} unknown; there are: {', '.join(targets)}")
    chosen = [targets[name] for name in (params.classes or targets)]
    counts = params.instances
    batches = [
        (chosen, "target", "train", counts.train, catalog.NARROW),
        (chosen, "target", "val", counts.val, catalog.NARROW),
        (chosen, "target", "test", counts.test, catalog.NARROW),
        (chosen, "target", "shifted", counts.shifted, catalog.SHIFTED),
        (catalog.NEAR_OOD["val"], "near_ood", "val", counts.near_val, catalog.NARROW),
        (catalog.NEAR_OOD["test"], "near_ood", "test", counts.near_test, catalog.NARROW),
        (catalog.FAR_OOD["val"], "far_ood", "val", counts.far_val, catalog.NARROW),
        (catalog.FAR_OOD["test"], "far_ood", "test", counts.far_test, catalog.NARROW),
    ]
    test_seed = params.seed if params.test_seed is None else params.test_seed

    def seed_of(role: str, split: str) -> int:
        return params.seed if role == "target" and split in ("train", "val") else test_seed

    pictures = [
        picture
        for variants, role, split, count, ranges in batches
        for variant in variants
        for number in range(count)
        for picture in _instance(seed_of(role, split), variant, role, split, number, ranges)
    ]
    return sorted(pictures, key=lambda picture: picture.path)


def _instance(
    seed: int, variant: catalog.Variant, role: str, split: str, number: int, ranges: catalog.Ranges
) -> list[Picture]:
    """The pictures of one physical part, one a camera."""
    rng = np.random.default_rng(seed_from("render", seed, variant.name, split, number))
    part_seed = int(rng.integers(2**31))
    worn = catalog.draw_wear(ranges, rng, catalog.DEMO_MATERIAL[variant.family])
    part = f"part{number:02d}"
    pictures = []
    for camera, shot in catalog.draw_shots(ranges, rng).items():
        # MVIP has the orientation's level in the training data only
        orientation = f"yaw{90 * int(shot.yaw // 90):03d}/" if split == "train" else ""
        stem = f"{variant.name}/{SPLIT_FOLDERS[split]}/{part}/{orientation}{camera}/{part}_{camera}_rgb"
        pictures.append(
            Picture(
                f"{stem}.png",
                f"{stem}_mask_gen.png",
                variant,
                role,
                split,
                f"{variant.name}/{split}/{part}",
                camera,
                part_seed,
                worn,
                shot,
            )
        )
    return pictures


def _metas(pictures: list[Picture]) -> dict[str, dict]:
    """The meta.json of every class: MVIP's keys, then ours."""
    metas = {}
    for variant, role in sorted({(p.variant, p.role) for p in pictures}, key=lambda pair: pair[0].name):
        material = catalog.DEMO_MATERIAL[variant.family]
        volume = geometry.build(variant.family, variant.values, np.random.default_rng(0)).volume()
        metas[variant.name] = {
            "super_class": SUPER_CLASS,
            "description": captions.describe(variant.family, variant.values),
            "weight": round(volume * RADIUS**3 * DENSITY[material], 2),  # kg
            "family": variant.family,
            "features": variant.values,
            "material": material,
            "role": role,
        }
    return metas


def _refuse_foreign(out: Path, wanted: set[Path]) -> None:
    """Nothing is deleted that might be somebody's photographs."""
    ours = {"manifest.csv", "meta.json"}
    strangers = [path for path in sorted(out.rglob("*")) if path.is_file() and path not in wanted]
    foreign = [
        path
        for path in strangers
        if path.name not in ours and not path.name.endswith(".tmp") and png_fingerprint(path) is None
    ]
    if foreign:
        raise UserError(
            f"{out} holds {len(foreign)} files that `render` did not make, such as {foreign[0]}: "
            "move them, or set ingest.source and ingest.path to use them"
        )


def _current(picture: Picture, out: Path, params: Render) -> bool:
    mark = picture.fingerprint(params.size, params.samples)
    return all(png_fingerprint(out / name) == mark for name in (picture.path, picture.mask))


def _take(pictures: list[Picture], out: Path, params: Render, workers: int) -> None:
    """Takes the pictures in worker processes; Ctrl-C ends after those in work, whole files only."""
    if not pictures:
        return
    with pool(min(workers, len(pictures))) as processes, Progress(transient=True) as progress:
        bar = progress.add_task("rendering", total=len(pictures))
        parts = [list(pair) for _, pair in groupby(pictures, key=lambda picture: picture.group)]
        waiting = [processes.submit(_photograph, pair, out, params.size, params.samples) for pair in parts]
        try:
            for future in as_completed(waiting):
                progress.advance(bar, future.result())
        except BaseException:
            processes.shutdown(wait=True, cancel_futures=True)
            raise


def _photograph(pictures: list[Picture], out: Path, size: int, samples: int) -> int:
    """Takes the pictures of one part (its geometry is built once); returns how many."""
    for picture in pictures:
        variant = picture.variant
        image, mask = scene.photograph(
            variant.family, variant.values, picture.part_seed, picture.wear, picture.shot, size, samples
        )
        mark = picture.fingerprint(size, samples)
        write_png(out / picture.path, image, mark)
        write_png(out / picture.mask, mask, mark)
    return len(pictures)


def _manifest(pictures: list[Picture], out: Path) -> str:
    """One CSV row a picture: where it is, what it shows, and every number it was taken with."""
    rows = []
    for picture in pictures:
        worn, shot = asdict(picture.wear), asdict(picture.shot)
        rows.append(
            {
                "path": picture.path,
                "mask": picture.mask,
                "sha256": sha256_file(out / picture.path),
                "mask_sha256": sha256_file(out / picture.mask),
                "class_name": picture.variant.name,
                "role": picture.role,
                "split": picture.split,
                "group": picture.group,
                "camera": picture.camera,
                "state": worn.pop("state"),
                "severity": worn.pop("severity"),
                "material": worn.pop("material"),
                "wear_seed": worn.pop("seed"),
                "part_seed": picture.part_seed,
                **shot,
                "family": picture.variant.family,
                "features": json.dumps(picture.variant.values),
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
