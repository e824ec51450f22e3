"""Stage ``quality``: which images of a set drifted from their class, or are no images, and why.

Measure, score, judge are three functions: images are measured once and kept (``.work/features``), so that a changed
threshold measures nothing again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partsynth.config.models import Reference
from partsynth.config.quality import Quality
from partsynth.core import devices
from partsynth.errors import UserError, listed
from partsynth.quality.expectations import validate
from partsynth.quality.features import Encoder
from partsynth.quality.judge import judge
from partsynth.quality.measure import measure
from partsynth.quality.page import write_page
from partsynth.quality.real_parts import measure_real, real_parts
from partsynth.quality.score import score
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import write_manifest
from partsynth.records.rows import AugmentedRecord, ImageRecord, RealRecord, VerdictRecord
from partsynth.store import workers
from partsynth.store.layout import MANIFEST

REAL = "real"  # the set of the real training images themselves


@dataclass(frozen=True, kw_only=True)
class Inputs:
    params: Quality
    reference: Reference
    set_name: str
    images: Path  # folder of the set
    real: Path  # folder written by ingest
    out: Path  # the table of verdicts, is written
    page: Path  # folder for people, is written
    root: Path  # of the project


def run(inputs: Inputs) -> None:
    """Judge the images of ``images/manifest.csv``; write the table ``out`` and the folder ``page``.

    Several processes measure the images together; the first one judges.

    The set ``real`` is the real training images themselves, each against the parts of the other groups.

    Raises
    ------
    UserError
        where images are missing or altered, where there is no validation image to calibrate on, and, with
        ``on_flagged: fail``, where an image was flagged (the table and the page are written first).
    """
    params, set_name, root = inputs.params, inputs.set_name, inputs.root
    real_rows = real_parts(inputs.real)
    train = [r for r in real_rows if r.split == "train"]
    rows: Sequence[RealRecord | AugmentedRecord]
    rows = train if set_name == REAL else read_augmented(inputs.images / MANIFEST)
    _check_sources(rows, train, set_name)
    inputs.out.unlink(missing_ok=True)
    shutil.rmtree(inputs.page / "data_docs", ignore_errors=True)

    devices.use_threads(inputs.reference.threads)
    embed = Encoder(inputs.reference, root)
    real_measured, views = measure_real(real_rows, params, root, embed)
    if set_name == REAL:
        measured = real_measured.take([i for i, r in enumerate(real_rows) if r.split == "train"])
    else:
        kept = embed.folder / f"{set_name}.safetensors"
        measured = measure(rows, root, embed, inputs.reference.batch_size, kept, train)
    if not workers.here().first:
        return
    scores, limits = score(rows, measured, real_rows, real_measured, params, views)
    verdicts = judge(rows, measured.stats, scores, limits, params, set_name)

    results = validate(verdicts, params, set_name, sorted({r.class_name for r in train}), inputs.page / "data_docs")
    write_page(inputs.page, root, rows, verdicts, results, params, {r.path: r for r in train})
    write_manifest(inputs.out, verdicts, VerdictRecord)
    _tell(set_name, verdicts, params)
    flagged = sum(bool(v.reasons) for v in verdicts)
    if flagged and params.on_flagged == "fail":
        raise UserError(
            f"{flagged} of {len(verdicts)} images of the set {set_name!r} were flagged "
            f"(quality.on_flagged: fail); see {inputs.out} and {inputs.page / 'flagged.png'}"
        )


def _check_sources(rows: Sequence[ImageRecord], train: Sequence[RealRecord], set_name: str) -> None:
    known, classes = {r.path for r in train}, {r.class_name for r in train}
    faults = []
    for row in rows:
        if row.class_name not in classes:
            faults.append(f"{row.path}: class {row.class_name!r} has no real training image")
        elif row.origin_path not in known:
            faults.append(f"{row.path}: its source {row.origin_path} is no training image")
        elif row.further_path and row.further_path not in known:
            faults.append(f"{row.path}: its donor {row.further_path} is no training image")
    if faults:
        raise UserError(f"set {set_name!r} does not fit data/real:\n  {listed(faults)}")


def _tell(set_name: str, verdicts: Sequence[VerdictRecord], params: Quality) -> None:
    if not verdicts:
        print(f"quality: the set {set_name} has no images")
        return
    flagged = [v for v in verdicts if v.reasons]
    reasons = Counter(reason for v in flagged for reason in v.reasons.split(";"))
    told = ", ".join(f"{n} {r}" for r, n in sorted(reasons.items())) or "none"
    print(f"quality: {set_name}: {len(flagged)} of {len(verdicts)} flagged ({told}); n = {verdicts[0].calibration_n}")
    if len(flagged) == len(verdicts) and params.on_flagged != "warn":
        print(f"quality: nothing is left of the set {set_name}: a setup that wants accepted images trains without it")
