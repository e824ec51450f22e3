"""Which models and images an evaluation looks at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from partsynth.config.training import Matrix
from partsynth.errors import UserError
from partsynth.evaluation.results import Data, PartSize
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import ImageRecord, RealRecord, SelectedRecord
from partsynth.records.training import used
from partsynth.store.hashing import fingerprint, sha256_file
from partsynth.store.layout import SELECTED
from partsynth.store.reading import read_object
from partsynth.store.tensors import safetensors_metadata

if TYPE_CHECKING:
    from partsynth.core.contrastive.encoder import Classifier

WHOLE = ("config.json", "encoder.safetensors", "classifier.safetensors")
ORDER = ("train", "val", "test", "shifted", "near_val", "near_test", "far_val", "far_test")
NEEDED = ("train", "val", "test")


class ModelRun(NamedTuple):
    """A trained model."""

    setup: str
    seed: int
    folder: Path


def model_runs(models: Path, matrix: Matrix) -> list[ModelRun]:
    """The models of the matrix, in its order.

    Raises
    ------
    UserError
        naming all models that are not there, or saying that the matrix has none.
    """
    runs = [ModelRun(setup, seed, models / setup / str(seed)) for setup in matrix.setups for seed in matrix.seeds]
    missing = [run.folder / name for run in runs for name in WHOLE if not (run.folder / name).exists()]
    if missing:
        told = ", ".join(dict.fromkeys(str(path.parent) for path in missing))
        raise UserError(f"no whole trained model ({missing[0]} is missing) in {told}: run the train stages (dvc repro)")
    if not runs:
        raise UserError("matrix names no setup or no seed, so there is nothing to evaluate")
    return runs


def refuse_damaged(folder: Path, model: Classifier, fingerprint: str) -> None:
    """Refuse weights that fit their model and yet are not what its training wrote.

    Parameters
    ----------
    fingerprint : of the training, as config.json has it; each file of weights carries it, too

    Raises
    ------
    UserError
        where a file is of another training, or holds numbers that are none.
    """
    import torch

    for name, module in zip(WHOLE[1:], (model.encoder, model.classifier), strict=True):
        path = folder / name
        if (safetensors_metadata(path) or {}).get("fingerprint") != fingerprint:
            raise UserError(f"{path} is of another training than {WHOLE[0]} beside it: dvc checkout, or dvc repro")
        bad = [n for n, t in module.state_dict().items() if t.is_floating_point() and not torch.isfinite(t).all()]
        if bad:
            raise UserError(
                f"{path} holds numbers that are none (NaN) in {bad[0]}: dvc checkout restores it; if its training "
                "diverged, lower train.learning_rate or raise train.temperature"
            )


def read_parts(real: Path, ood: Path, augmented: Path) -> dict[str, Sequence[ImageRecord]]:
    """Images by part: train, val, test, shifted, near_val, near_test, far_val, far_test, set_<name>; none empty.

    Raises
    ------
    UserError
        where there are no training, validation or test images.
    """
    parts: dict[str, list[ImageRecord]] = {}
    for row in read_manifest(real / "manifest.csv", RealRecord):
        parts.setdefault(row.split, []).append(row)
    if os.path.lexists(ood / "manifest.csv"):
        for row in read_manifest(ood / "manifest.csv", RealRecord):
            parts.setdefault(f"{row.role.removesuffix('_ood')}_{row.split}", []).append(row)
    for folder in set_folders(augmented):
        parts[f"set_{folder.name}"] = list(read_augmented(folder / "manifest.csv"))
    missing = [part for part in NEEDED if not parts.get(part)]
    if missing:
        raise UserError(f"{real / 'manifest.csv'} has no image in {', '.join(missing)}")
    return {part: parts[part] for part in [*ORDER, *sorted(set(parts) - set(ORDER))] if parts.get(part)}


def read_selected(folder: Path, setups: Sequence[str]) -> dict[str, list[SelectedRecord]]:
    """Setup -> its training table, of those that have one."""
    paths = {setup: folder / f"{setup}.csv" for setup in setups}
    return {setup: read_manifest(path, SelectedRecord) for setup, path in paths.items() if os.path.lexists(path)}


def refuse_other_tables(runs: Sequence[ModelRun], selected: Mapping[str, Sequence[SelectedRecord]]) -> None:
    """Refuse training tables that are not what their models were trained on, as the models say; older ones do not.

    Raises
    ------
    UserError
        naming the first such table.
    """
    marks = {setup: fingerprint(used(rows)) for setup, rows in selected.items()}
    for setup, seed, folder in runs:
        told = read_object(folder / WHOLE[0]).get("trained_on")
        if told is not None and told != marks.get(setup, told):
            raise UserError(
                f"{SELECTED}/{setup}.csv is not what {folder} was trained on: dvc repro train@{setup}-{seed}"
            )


def set_folders(augmented: Path) -> list[Path]:
    """Of the augmentation sets, by name."""
    return sorted(path.parent for path in augmented.glob("*/manifest.csv"))


def describe(
    parts: dict[str, Sequence[ImageRecord]], selected: dict[str, list[SelectedRecord]], tables: Sequence[Path]
) -> Data:
    """On which data: sizes of the parts, what each setup trained on, hashes of the ``tables`` that there are."""
    return Data(
        parts={part: _size(rows) for part, rows in parts.items()},
        manifests={path.as_posix(): sha256_file(path) for path in tables if path.exists()},
        training={setup: _training(rows) for setup, rows in selected.items()},
    )


def _size(rows: Sequence[ImageRecord]) -> PartSize:
    classes, groups = {row.class_name for row in rows}, {row.origin_group for row in rows}
    return PartSize(pictures=len(rows), classes=len(classes), groups=len(groups))


def _training(rows: Sequence[SelectedRecord]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[f"{row.origin} {row.role}"] = found.get(f"{row.origin} {row.role}", 0) + 1
    return found
