"""render: photographs of parametric used parts, in MVIP's layout, with masks and a manifest.

Adding a class renders that class only, and a stopped run goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from partsynth.config.data import Render
from partsynth.rendering import dataset
from partsynth.store.files import prune, refuse_foreign, write_json, write_text_atomic
from partsynth.store.layout import MANIFEST
from partsynth.store.png import png_fingerprint
from partsynth.store.process import cores

META = "meta.json"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the rendering takes, and where its product goes."""

    params: Render
    out: Path  # raw folder
    workers: int | None = None  # processes; None = as the parameters say


def run(inputs: Inputs) -> None:
    """Render what is missing below ``out``, remove what is no longer wanted, and write manifest.csv last.

    Raises
    ------
    UserError
        for classes that are no demo targets, or where ``out`` holds files that this stage did not make.
    """
    params, out = inputs.params, inputs.out
    images = dataset.plan(params)
    metas = {out / name / META: meta for name, meta in dataset.metas(images).items()}
    wanted = {out / name for image in images for name in (image.path, image.mask)} | metas.keys()
    refuse_foreign(out, wanted, _is_ours, "move them, or set ingest.source and ingest.path to use them")
    (out / MANIFEST).unlink(missing_ok=True)
    prune(out, wanted)
    for path, meta in metas.items():
        write_json(path, meta)

    missing = [image for image in images if not image.is_current(out, params.size, params.samples)]
    print(f"render: {len(images)} images, {len(images) - len(missing)} of them kept")
    workers = inputs.workers or params.workers or cores()
    with Progress(transient=True) as progress:
        bar = progress.add_task("rendering", total=len(missing))
        dataset.render(
            missing,
            out,
            size=params.size,
            samples=params.samples,
            workers=workers,
            on_done=lambda count: progress.advance(bar, count),
        )
    write_text_atomic(out / MANIFEST, dataset.manifest_csv(images, out))


def _is_ours(path: Path) -> bool:
    return path.name in (MANIFEST, META) or path.name.endswith(".tmp") or png_fingerprint(path) is not None
