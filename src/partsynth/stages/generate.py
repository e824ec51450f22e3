"""Stage ``generate``: one augmentation set, made by its method from real training images.

Every image is made from its manifest row and nothing else (``augmentation.again``), so a killed run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.records.strengths import Strength, read_strengths
from partsynth.seams import METHODS
from partsynth.store.files import prune
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import MANIFEST, Layout
from partsynth.store.png import is_current, write_png


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

    An image that carries the wanted fingerprint and IPTC's mark of generated images is kept, so a killed run goes on
    and gives the same set.

    Raises
    ------
    UserError
        where there is nothing to edit, where calibrate found no strength for a class, or where something is missing
        that the method makes its images from.
    """
    out, root, name = inputs.out, inputs.root, inputs.set_name
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
    paths = {row.path: root / row.path for row in rows}
    kind = method.source_type
    missing = [row for row in rows if not is_current(paths[row.path], row.fingerprint, kind)]
    print(f"generate {name}: {len(rows)} images, {len(rows) - len(missing)} of them kept")
    if missing:
        start = time.monotonic()
        with Progress(*_columns(), transient=True) as progress:
            task = progress.add_task(f"generating {name}", total=len(missing))
            for row, image in _images(missing, Painted(Layout(root).attempts(name)), method, materials):
                write_png(paths[row.path], image, row.fingerprint, kind)
                progress.advance(task)
        print(f"generate {name}: {len(missing) / (time.monotonic() - start):.1f} images/s")
    prune(out, paths.values())
    made = [row.model_copy(update={"sha256": sha256_file(paths[row.path])}) for row in rows]
    write_manifest(out / MANIFEST, made, method.Row)


def _rows(inputs: Inputs, order: Order, materials: Materials, method: Method) -> list[AugmentedRecord]:
    """Of a set with a quota the attempts that calibrate found it takes, else each source's variants."""
    if inputs.augmentation.quota is None:
        return method.plan(order, materials)
    found = {name: one.attempts for name, one in read_strengths(inputs.strengths).attempts.items()}
    if lacking := sorted({row.class_name for row in order.sources} - set(found)):
        again = f"dvc repro calibrate@{inputs.set_name}"
        raise UserError(f"{inputs.strengths} has no attempts for the quota of {', '.join(lacking)}: {again}")
    return first_attempts(order, materials, method, found)


def _images(
    rows: Sequence[AugmentedRecord], painted: Painted, method: Method, materials: Materials
) -> Iterator[tuple[AugmentedRecord, Image.Image]]:
    """The rows' images, those that calibrate painted as they are."""
    rest = []
    for row in rows:
        if (image := painted.image(row)) is None:
            rest.append(row)
        else:
            yield row, image
    if rest:
        yield from method.paint(rest, materials)


def _strengths(inputs: Inputs, classes: Sequence[str]) -> Mapping[str, Strength]:
    """Each class's strength: as given, or as calibrate found it; none where the method has no strengths."""
    if not isinstance(inputs.augmentation, StrengthSet):
        return {}
    if inputs.augmentation.strength != "auto":
        return dict.fromkeys(classes, inputs.augmentation.strength)
    found = {name: one.strength for name, one in read_strengths(inputs.strengths).classes.items()}
    if lacking := [name for name in classes if name not in found]:
        again = f"dvc repro calibrate@{inputs.set_name}"
        raise UserError(f"{inputs.strengths} has no strength for {', '.join(lacking)}: {again}")
    return found


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} images/s" if task.speed else "")


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn()
