"""Stage ``quality``: which pictures of a set drifted from their class, or are no pictures, and why.

Measure, score, judge are three functions: features and looks are measured once and kept (``.work/features``), so that
a changed threshold measures nothing again. This module is the only importer of great_expectations.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from partsynth.config.generation import Quality, Reference
from partsynth.errors import UserError
from partsynth.quality.expectations import validate
from partsynth.quality.features import Encoder, measure, take
from partsynth.quality.judge import judge
from partsynth.quality.page import write_page
from partsynth.quality.real_parts import measure_real, real_parts, source_of
from partsynth.quality.score import score
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, Record, VerdictRecord


def run(
    params: Quality,
    reference: Reference,
    set_name: str,
    pictures: Path,
    real: Path,
    out_csv: Path,
    page: Path,
    root: Path,
) -> None:
    """Judge the pictures of ``pictures/manifest.csv``; write the table ``out_csv`` and the folder ``page``.

    The set ``real`` is the real training pictures themselves, each against the parts of the other groups.

    Raises
    ------
    UserError
        where pictures are missing or altered, where there is no validation picture to calibrate on, and, with
        ``on_flagged: fail``, where a picture was flagged (the table and the page are written first).
    """
    real_rows = real_parts(real)
    train = [r for r in real_rows if r.split == "train"]
    rows: Sequence[RealRecord | AugmentedRecord]
    rows = train if set_name == "real" else read_manifest(pictures / "manifest.csv", AugmentedRecord)
    _check_sources(rows, train, set_name)
    out_csv.unlink(missing_ok=True)
    shutil.rmtree(page / "data_docs", ignore_errors=True)

    embed = Encoder(reference, root)
    real_measured, views = measure_real(real_rows, params.calibration, root, embed)
    if set_name == "real":
        keep = [i for i, r in enumerate(real_rows) if r.split == "train"]
        measured = take(real_measured, keep)
    else:
        measured = measure(rows, root, embed, reference.batch_size, embed.folder / f"{set_name}.safetensors")
    scores, limits = score(rows, measured, real_rows, real_measured, params, views)
    verdicts = judge(rows, measured.looks, scores, limits, params, set_name)

    results = validate(verdicts, params, set_name, sorted({r.class_name for r in train}), page / "data_docs")
    write_page(page, root, rows, verdicts, results, params, {r.path: r for r in train})
    write_manifest(out_csv, verdicts, VerdictRecord)
    _tell(set_name, verdicts, params, out_csv, page)


def _check_sources(rows: Sequence[Record], train: Sequence[RealRecord], set_name: str) -> None:
    known, classes = {r.path for r in train}, {r.class_name for r in train}
    faults = []
    for row in rows:
        if row.class_name not in classes:
            faults.append(f"{row.path}: class {row.class_name!r} has no real training picture")
        elif source_of(row) not in known:
            faults.append(f"{row.path}: its source {source_of(row)} is no training picture")
    if faults:
        more = f"\n  ... and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise UserError(f"set {set_name!r} does not fit data/real:\n  " + "\n  ".join(faults[:10]) + more)


def _tell(set_name: str, verdicts: Sequence[VerdictRecord], params: Quality, out_csv: Path, page: Path) -> None:
    if not verdicts:
        print(f"quality: the set {set_name} has no pictures")
        return
    flagged = [v for v in verdicts if v.reasons]
    reasons = Counter(reason for v in flagged for reason in v.reasons.split(";"))
    told = ", ".join(f"{n} {r}" for r, n in sorted(reasons.items())) or "none"
    print(f"quality: {set_name}: {len(flagged)} of {len(verdicts)} flagged ({told}); n = {verdicts[0].calibration_n}")
    if len(flagged) == len(verdicts) and params.on_flagged != "warn":
        print(f"quality: nothing is left of the set {set_name}: a setup that wants accepted pictures trains without it")
    if flagged and params.on_flagged == "fail":
        raise UserError(
            f"{len(flagged)} of {len(verdicts)} pictures of the set {set_name!r} were flagged "
            f"(quality.on_flagged: fail); see {out_csv} and {page / 'flagged.png'}"
        )
