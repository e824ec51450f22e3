"""Stage ``generate``: one augmentation set, edits of real training pictures by SDEdit under their class's token.

Every picture is made from its manifest row and nothing else (``regenerate``): the row has its source, prompt, seed and
settings, the hashes of token and base, and the shape of the batch it was computed in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from partsynth.augmentation.sdedit import load_model, mark, paint, plan
from partsynth.augmentation.sources import drawn_sources
from partsynth.augmentation.tokens import learned_tokens
from partsynth.config.generation import AugmentationSet, Diffusion, Generate
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.records.strengths import read_strengths
from partsynth.store.base_model import locate_base
from partsynth.store.files import prune
from partsynth.store.hashing import sha256_file
from partsynth.store.png import png_fingerprint, write_png

if TYPE_CHECKING:
    from partsynth.core.diffusion.model import StableDiffusion


def run(
    params: Generate,
    diffusion: Diffusion,
    augmentation: AugmentationSet,
    set_name: str,
    real: Path,
    tokens: Path,
    strengths: Path,
    out: Path,
    root: Path,
) -> None:
    """Write ``out/<class>/<source>-v<variant>.png`` for every training picture of ``real``, then ``out/manifest.csv``.

    ``strengths`` is what calibrate wrote for the set: a strength, or several, for each class.

    A picture that carries the wanted fingerprint is kept, so a killed run goes on and gives the same set.

    Raises
    ------
    UserError
        where a class has no token, or one learned with another base model, or no strength, or another one than the
        parameters say; where a source differs from its manifest
        or (masked sets) has no mask; where the base model cannot be loaded.
    """
    (out / "manifest.csv").unlink(missing_ok=True)
    location, base = locate_base(diffusion.model, diffusion.revision, root)
    sources = drawn_sources(read_manifest(real / "manifest.csv", RealRecord), params.seed, params.max_sources)
    if not sources:
        raise UserError(f"{real / 'manifest.csv'} has no training pictures to edit")
    classes = sorted({row.class_name for row in sources})
    learned = learned_tokens(tokens, classes, base)
    found = _strengths(strengths, augmentation, set_name, classes)
    folder = out.absolute().relative_to(root.absolute()).as_posix()
    rows = plan(params, diffusion, augmentation, set_name, sources, learned, found, base, folder, root)
    paths = {row.path: root / row.path for row in rows}
    missing = [row for row in rows if png_fingerprint(paths[row.path]) != row.fingerprint]
    print(f"generate {set_name}: {len(rows)} pictures, {len(rows) - len(missing)} of them kept")
    if missing:
        model = load_model(location, diffusion)
        start = time.monotonic()
        with Progress(*_columns(), transient=True) as progress:
            task = progress.add_task(f"generating {set_name}", total=len(missing))
            for row, picture in paint(model, missing, {s.path: s for s in sources}, learned, root):
                write_png(paths[row.path], picture, row.fingerprint)
                progress.advance(task)
        print(f"generate {set_name}: {len(missing) / (time.monotonic() - start):.1f} pictures/s")
    prune(out, paths.values())
    made = [row.model_copy(update={"sha256": sha256_file(paths[row.path])}) for row in rows]
    write_manifest(out / "manifest.csv", made, AugmentedRecord)


def regenerate(
    row: AugmentedRecord,
    diffusion: Diffusion,
    real: Path,
    tokens: Path,
    root: Path,
    model: StableDiffusion | None = None,
) -> Image.Image:
    """Make one picture again from its manifest row: on the same machine ``png_bytes(picture, row.fingerprint)`` is it.

    ``model`` saves loading the base again; it must have been loaded in the row's dtype.

    Raises
    ------
    UserError
        where its source, mask, token or base model is missing or is not the one it was made with.
    """
    location, base = locate_base(diffusion.model, diffusion.revision, root)
    found = {r.path: r for r in read_manifest(real / "manifest.csv", RealRecord)}
    source = found.get(row.source)
    if source is None:
        raise UserError(f"{row.path}: its source {row.source} is not in {real / 'manifest.csv'}")
    token = learned_tokens(tokens, [row.class_name], base)
    wanted = {"base model": row.base_sha256, "token": row.token_sha256, "source": row.source_sha256}
    present = {"base model": base, "token": token[row.class_name].sha256, "source": source.sha256}
    faults = [f"{k} {wanted[k]}, here is {present[k]}" for k in wanted if wanted[k] != present[k]]
    if row.fingerprint != mark(row, source, root):
        faults.append("another fingerprint than its row, mask and this version of partsynth give")
    if faults:
        raise UserError(f"{row.path} was made with " + "; ".join(faults))
    if model is None:
        model = load_model(location, diffusion.model_copy(update={"dtype": row.dtype}))
    return next(paint(model, [row], {source.path: source}, token, root))[1]


def _strengths(
    path: Path, augmentation: AugmentationSet, set_name: str, classes: Sequence[str]
) -> dict[str, float | list[float]]:
    found = {name: one.strength for name, one in read_strengths(path).classes.items()}
    again = f"dvc repro calibrate@{set_name}"
    if lacking := [name for name in classes if name not in found]:
        raise UserError(f"{path} has no strength for {', '.join(lacking)}: {again}")
    if augmentation.strength != "auto" and any(found[name] != augmentation.strength for name in classes):
        raise UserError(f"{path} is of another strength than sets.{set_name}.strength: {again}")
    return found


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} pictures/s" if task.speed else "")


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn()
