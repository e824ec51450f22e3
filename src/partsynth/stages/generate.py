"""Stage ``generate``: one augmentation set, made by its method from real training images.

Every image is made from its manifest row and nothing else (``augmentation.again``), so a killed run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from partsynth.augmentation.attempts import Painted, first_attempts
from partsynth.augmentation.materials import Materials
from partsynth.augmentation.method import Method, Order
from partsynth.augmentation.sources import drawn_sources
from partsynth.config.generation import Generate
from partsynth.config.models import Diffusion
from partsynth.config.sets import AugmentationSet, StrengthSet
from partsynth.errors import UserError
from partsynth.records.image_set import ImageSet
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.records.strengths import Strength, read_strengths
from partsynth.seams import METHODS
from partsynth.store import workers
from partsynth.store.layout import MANIFEST, Layout
from partsynth.store.png import is_current, write_png
from partsynth.store.workers import Workers


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the stage reads, and where it writes."""

    params: Generate
    diffusion: Diffusion
    augmentation: AugmentationSet
    set_name: str
    real: Path
    """Folder written by ingest."""
    tokens: Path
    """Folder written by tokens."""
    strengths: Path
    """The set's strengths and attempts, written by calibrate; read for ``strength: auto`` and for a quota alone."""
    out: Path
    """Folder for the set."""
    root: Path


def run(inputs: Inputs) -> None:
    """Write ``out/<class>/<source>-v<variant>.png`` for every training image of ``real``, then ``out/manifest.csv``.

    With ``storage: shards`` the images lie in ``out/shard-*.tar``, beside ``out/manifest.parquet`` with the same rows.
    Several processes each make a range of the images, the first of them the manifest when all are done.
    An image that carries the wanted fingerprint and IPTC's mark of generated images is kept, so a killed run goes on
    and gives the same set.

    Raises
    ------
    UserError
        where there is nothing to edit, where calibrate found no strength for a class, or where something is missing
        that the method makes its images from.
    """
    out, root, name, here = inputs.out, inputs.root, inputs.set_name, workers.here()
    (out / MANIFEST).unlink(missing_ok=True)
    method: Method = METHODS[inputs.augmentation.method]
    real = read_manifest(inputs.real / MANIFEST, RealRecord)
    sources = drawn_sources(real, inputs.params.seed, inputs.params.max_sources)
    if not sources:
        raise UserError(f"{inputs.real / MANIFEST} has no training images to edit")
    materials = Materials(real=real, tokens=inputs.tokens, diffusion=inputs.diffusion, root=root)
    order = Order(
        set_name=name,
        parameters=inputs.augmentation,
        shared=inputs.params,
        sources=sources,
        strengths=_strengths(inputs, sorted({row.class_name for row in sources})),
        folder=Layout(root).relative(out),
    )
    rows = _rows(inputs, order, materials, method)
    images = ImageSet(root, out, inputs.params.storage, inputs.params.shard_size)
    if here.first:
        images.recover(rows)
    here.barrier()
    kind = method.source_type
    missing = _missing(rows, lambda row: is_current(images.file(row), row.fingerprint, kind), here)
    print(f"generate {name}: {len(rows)} images, {len(rows) - len(missing)} of them kept")
    if missing:
        start, lacking = time.monotonic(), {row.path for row in missing}
        painted = Painted(Layout(root).attempts(name))
        with Progress(*_columns(), transient=True) as progress:
            task, tally = progress.add_task(f"generating {name}", total=len(missing)), here.tally()
            for row, image in _images(rows, lacking, painted, method, materials, here):
                write_png(images.file(row), image, row.fingerprint, kind)
                progress.update(task, completed=tally.add())
            here.barrier(lambda: progress.update(task, completed=tally.sum()))
        print(f"generate {name}: {len(missing) / (time.monotonic() - start):.1f} images/s")
    if not here.first:
        return
    images.finish(rows, method.Row)


def _rows(inputs: Inputs, order: Order, materials: Materials, method: Method) -> list[AugmentedRecord]:
    """Of a set with a quota the attempts that calibrate found it takes, else each source's variants."""
    if inputs.augmentation.quota is None:
        return method.plan(order, materials)
    found = {name: one.attempts for name, one in read_strengths(inputs.strengths, inputs.set_name).attempts.items()}
    if lacking := sorted({row.class_name for row in order.sources} - set(found)):
        again = f"dvc repro calibrate@{inputs.set_name}"
        raise UserError(f"{inputs.strengths} has no attempts for the quota of {', '.join(lacking)}: {again}")
    return first_attempts(order, materials, method, found)


def _missing(
    rows: Sequence[AugmentedRecord], is_there: Callable[[AugmentedRecord], bool], here: Workers
) -> list[AugmentedRecord]:
    """Those whose image is not there: each process looks for its range, and all are told."""
    found = here.gather(bytes(is_there(row) for row in here.mine(rows)))
    return [row for row, there in zip(rows, b"".join(found), strict=True) if not there]


def _images(
    rows: Sequence[AugmentedRecord],
    lacking: Container[str],
    painted: Painted,
    method: Method,
    materials: Materials,
    here: Workers,
) -> Iterator[tuple[AugmentedRecord, Image.Image]]:
    """This process's share of the ``lacking`` rows' images: those that calibrate painted as they are, the others in the
    groups of the whole set, whichever of a group are there."""
    ready = [row for row in rows if painted.path(row).exists()]
    unready = []
    for row in here.mine([row for row in ready if row.path in lacking]):
        if (image := painted.image(row)) is None:  # cut off
            unready.append(row)
        else:
            yield row, image
    there = {row.path for row in ready}
    groups = method.together([row for row in rows if row.path not in there], materials)
    wanted = here.mine([group for group in groups if any(row.path in lacking for row in group)])
    if rest := [*chain(*wanted), *unready]:
        yield from ((row, image) for row, image in method.paint(rest, materials) if row.path in lacking)


def _strengths(inputs: Inputs, classes: Sequence[str]) -> Mapping[str, Strength]:
    """Each class's strength: as given, or as calibrate found it; none where the method has no strengths."""
    if not isinstance(inputs.augmentation, StrengthSet):
        return {}
    if inputs.augmentation.strength != "auto":
        return dict.fromkeys(classes, inputs.augmentation.strength)
    found = {name: one.strength for name, one in read_strengths(inputs.strengths, inputs.set_name).classes.items()}
    if lacking := [name for name in classes if name not in found]:
        again = f"dvc repro calibrate@{inputs.set_name}"
        raise UserError(f"{inputs.strengths} has no strength for {', '.join(lacking)}: {again}")
    return found


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} images/s" if task.speed else "")


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn()
