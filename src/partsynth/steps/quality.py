"""Stage ``quality``: which pictures of a set drifted from their class, or are no pictures, and why.

Measure, score, judge are three functions: features and looks are measured once and kept (``.work/features``), so that
a changed threshold measures nothing again. This module is the only importer of great_expectations.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from partsynth.kernel import drift, image_quality
from partsynth.kernel.image_quality import Looks
from partsynth.measuring import Encoder, Measured, calibrated, columns, measure, measure_real, real_parts, source_of, take
from partsynth.params import Quality, Reference
from partsynth.records import (
    AugmentedRecord,
    RealRecord,
    Record,
    UserError,
    VerdictRecord,
    png_bytes,
    prune,
    read_manifest,
    read_picture,
    write_bytes_atomic,
    write_json,
    write_manifest,
    write_text_atomic,
)

TAIL = 0.05  # of the real pictures' sharpness at either end
EXTREME = 0.01  # of their brightness and exposure
NEGATIVE = -0.8  # correlation with its own source below which a picture is a negative
INVERSION_MARGIN = 0.05  # luminance: parts on light and on dark ground differ that much by themselves
SHEET = 24  # pictures a contact sheet
DIGITS = 6  # decimals kept of a measure: the rest differs between machines


@dataclass(frozen=True)
class Scores:
    """What N pictures are like beside the real ones."""

    drift: np.ndarray  # (N,) class standard deviations
    percentile: np.ndarray  # (N,) in (0, 1], of drift
    strangeness: np.ndarray  # (N,) in (0, 1], percentile of how much nearer another class is
    calibration_n: int
    nearest: np.ndarray  # (N,) class names
    margin: np.ndarray  # (N,)
    similarity: np.ndarray  # (N,) to the own source; nan where there is none
    sharpness: np.ndarray  # (N,) logarithm, from the median of the class's real pictures
    brightness: np.ndarray  # (N,) from that median
    inversion: np.ndarray  # (N,) > 0 where the negative is more like the class's real pictures


@dataclass(frozen=True)
class Limits:
    """Bounds of what real pictures look like, from training and validation pictures."""

    sharpness: tuple[float, float]
    brightness: tuple[float, float]
    inversion: float


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
    _write_page(page, root, rows, verdicts, results, params, {r.path: r for r in train})
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


# --- score --------------------------------------------------------------------------------------------------------


def score(
    rows: Sequence[Record],
    measured: Measured,
    real_rows: Sequence[RealRecord],
    real_measured: Measured,
    params: Quality,
    views: np.ndarray | None = None,
) -> tuple[Scores, Limits]:
    """Place every picture among the real ones; real validation pictures calibrate the percentiles.

    ``views`` (n, D), where given, are the validation pictures' features through training's views: they calibrate drift,
    so that what a classifier is taught to overlook is no drift. Which class a picture looks like is calibrated on the
    pictures as they are.
    """
    names, classes, _ = columns(real_rows)
    bank, calibration = calibrated(real_rows, real_measured.features, params.neighbours, views)
    real_looks = real_measured.looks
    real_sharpness, real_brightness, real_inversion = _beside_class(real_looks, classes, real_measured, classes)
    limits = Limits(
        _widened(real_sharpness, TAIL, -np.log(max(params.sharpness_ratio, 1e-12))),
        _widened(real_brightness, EXTREME, params.brightness_margin),
        max(0.0, float(np.quantile(real_inversion, 1 - EXTREME))) + INVERSION_MARGIN,
    )
    if not rows:
        nothing = np.zeros(0)
        return Scores(nothing, nothing, nothing, len(calibration.drift), *[nothing] * 6), limits

    sources, own_classes, own_groups = columns(rows)
    distances = drift.class_distances(measured.features, sources, own_groups, bank, params.neighbours)  # (Q, C)
    drifts = drift.drift_scores(distances, own_classes, bank.kinds, calibration)
    strangeness = drift.strangeness_scores(distances, own_classes, bank.kinds, calibration)
    nearest, margin = drift.nearest_and_margin(distances, own_classes, bank.kinds)
    sharpness, brightness, inversion = _beside_class(measured.looks, own_classes, real_measured, classes)
    position = {name: i for i, name in enumerate(names)}
    similarity = image_quality.similarity(
        measured.looks.thumbnails, real_measured.looks.thumbnails[[position[s] for s in sources]]
    )
    augmented = np.array([isinstance(r, AugmentedRecord) for r in rows])
    return (
        Scores(
            drifts,
            drift.conformal_percentiles(drifts, calibration.drift),
            drift.conformal_percentiles(strangeness, calibration.strangeness),
            len(calibration.drift),
            nearest,
            margin,
            np.where(augmented, similarity, np.nan),
            sharpness,
            brightness,
            inversion,
        ),
        limits,
    )


def _beside_class(
    looks: Looks, classes: np.ndarray, real: Measured, real_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sharpness = image_quality.from_median(
        np.log(looks.sharpness + 1e-8), classes, np.log(real.looks.sharpness + 1e-8), real_classes
    )
    brightness = image_quality.from_median(looks.brightness, classes, real.looks.brightness, real_classes)
    kinds, index = np.unique(real_classes, return_inverse=True)
    typical = np.stack([real.looks.exposure[index == c].mean(0) for c in range(len(kinds))])  # (C, QUANTILES)
    inversion = image_quality.inversion(looks.exposure, typical[np.searchsorted(kinds, classes)])
    return sharpness, brightness, inversion


def _widened(values: np.ndarray, tail: float, margin: float) -> tuple[float, float]:
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low - margin), float(high + margin)


# --- judge --------------------------------------------------------------------------------------------------------


def judge(
    rows: Sequence[Record], looks: Looks, scores: Scores, limits: Limits, params: Quality, set_name: str
) -> list[VerdictRecord]:
    """Verdict and reasons of every picture, from thresholds alone."""
    checks = {
        "drift": scores.percentile > params.accept_percentile,
        "other_class": (scores.strangeness > params.accept_percentile) & (scores.margin < 0),
        "blurred": scores.sharpness < limits.sharpness[0],
        "noisy": scores.sharpness > limits.sharpness[1],
        "dark": scores.brightness < limits.brightness[0],
        "bright": scores.brightness > limits.brightness[1],
        "flat": looks.contrast < params.min_contrast,
        "inverted": (scores.inversion > limits.inversion) | (scores.similarity < NEGATIVE),
        "copy": scores.similarity > params.copy_similarity,
    }
    flagged = "warn" if params.on_flagged == "warn" else "drop"
    verdicts = []
    for i, row in enumerate(rows):
        reasons = [name for name, failed in checks.items() if failed[i]]
        verdicts.append(
            VerdictRecord(
                path=row.path,
                sha256=row.sha256,
                class_name=row.class_name,
                set_name=set_name,
                source=row.source if isinstance(row, AugmentedRecord) else "",
                drift=_round(scores.drift[i]),
                percentile=float(scores.percentile[i]),
                calibration_n=scores.calibration_n,
                nearest_class=str(scores.nearest[i]),
                class_margin=_round(scores.margin[i]),
                sharpness=_round(looks.sharpness[i]),
                brightness=_round(looks.brightness[i]),
                contrast=_round(looks.contrast[i]),
                copy_similarity=_round(scores.similarity[i]),
                verdict=flagged if reasons else "accept",
                reasons=";".join(reasons),
            )
        )
    return verdicts


def _round(value: float) -> float:
    return round(float(value), DIGITS)


# --- Great Expectations -------------------------------------------------------------------------------------------


def validate(
    verdicts: Sequence[VerdictRecord], params: Quality, set_name: str, classes: list[str], docs: Path
) -> dict[str, Any]:
    """Run the suite through a checkpoint, write Data Docs into ``docs``, return the results without ids and times."""
    if not verdicts:
        return {"set": set_name, "pictures": 0, "success": None, "note": "an empty set: nothing to validate"}
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd
    from great_expectations.core.run_identifier import RunIdentifier

    table = pd.DataFrame([v.model_dump() for v in verdicts])
    table["flagged"] = (table["reasons"] != "").astype(int)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.add_data_docs_site(
        "page",
        {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())},
        },
    )
    name = f"quality-{set_name}"
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=_suite(params, len(verdicts), classes)))
    asset = context.data_sources.add_pandas("verdicts").add_dataframe_asset(set_name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["page"])],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]},
        )
    )
    run_id = RunIdentifier(run_name="quality", run_time=datetime(2000, 1, 1, tzinfo=UTC))  # the same bytes every time
    outcome = checkpoint.run(batch_parameters={"dataframe": table}, run_id=run_id)
    _steady(docs)
    (result,) = outcome.run_results.values()
    return {
        "set": set_name,
        "pictures": len(verdicts),
        "success": bool(result.success),
        "expectations": [_plain_result(r) for r in result.results],
    }


def _suite(params: Quality, count: int, classes: list[str]) -> list[Any]:
    import great_expectations.expectations as gxe

    shares = ("percentile", "brightness", "contrast")
    return [
        gxe.ExpectTableRowCountToEqual(value=count),
        gxe.ExpectColumnValuesToBeUnique(column="path"),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=c)
            for c in ("sha256", "drift", "percentile", "nearest_class", "sharpness", "verdict")
        ),
        *(gxe.ExpectColumnValuesToBeBetween(column=c, min_value=0, max_value=1) for c in shares),
        gxe.ExpectColumnValuesToBeBetween(column="percentile", min_value=0, strict_min=True),
        gxe.ExpectColumnValuesToBeBetween(column="sharpness", min_value=0),
        gxe.ExpectColumnValuesToBeInSet(column="class_name", value_set=classes),
        gxe.ExpectColumnDistinctValuesToContainSet(column="class_name", value_set=classes),
        gxe.ExpectColumnValuesToBeInSet(column="verdict", value_set=["accept", "warn", "drop"]),
        gxe.ExpectColumnValuesToBeBetween(
            column="percentile", max_value=params.accept_percentile, mostly=1 - params.max_flagged
        ),
        gxe.ExpectColumnMeanToBeBetween(column="flagged", min_value=0, max_value=params.max_flagged),
    ]


def _plain_result(result: Any) -> dict[str, Any]:
    kwargs = {k: v for k, v in result.expectation_config.kwargs.items() if k != "batch_id"}
    told = {k: v for k, v in result.result.items() if k in ("observed_value", "unexpected_count", "unexpected_percent")}
    failed = [row["path"] for row in result.result.get("unexpected_index_list") or []]
    plain = {"expectation": result.expectation_config.type, **kwargs, "success": bool(result.success), **told}
    if failed:
        plain["unexpected_paths"] = sorted(failed)
    return json.loads(json.dumps(plain, default=lambda v: v.item() if hasattr(v, "item") else str(v)))


def _steady(docs: Path) -> None:
    """Take times and random ids out of the pages: the same verdicts give the same bytes, and DVC sees no change."""
    moment = re.compile(r"\d{8}T\d{6}\.\d+Z")
    identity = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
    for path in sorted(docs.rglob("*.html")):
        numbers: dict[str, str] = {}
        text = moment.sub("20000101T000000.000000Z", path.read_text())
        text = identity.sub(lambda m, n=numbers: n.setdefault(m[0], f"id-{len(n)}"), text)
        write_text_atomic(path, text)


# --- page ---------------------------------------------------------------------------------------------------------


def _write_page(
    page: Path,
    root: Path,
    rows: Sequence[Record],
    verdicts: Sequence[VerdictRecord],
    results: dict[str, Any],
    params: Quality,
    sources: dict[str, RealRecord],
) -> None:
    page.mkdir(parents=True, exist_ok=True)
    states = {r.path: r.state for r in rows}
    records = {r.path: r for r in rows}
    wanted = [p for p in page.rglob("*") if "data_docs" in p.parts] if verdicts else []
    for name, failed in (("flagged", True), ("accepted", False)):
        chosen = sorted((v for v in verdicts if bool(v.reasons) == failed), key=lambda v: (v.percentile, v.path))
        chosen = [chosen[i] for i in _spread(len(chosen), SHEET)]
        sheet = contact_sheet(
            [
                (
                    read_picture(root, sources[v.source]) if v.source else None,
                    read_picture(root, records[v.path]),
                    [v.class_name, f"{states[v.path] or '-'}  p {v.percentile:.3f}", v.reasons.replace(";", ", ")],
                )
                for v in chosen
            ],
            f"{results['set']}: no {name} picture",
        )
        write_bytes_atomic(page / f"{name}.png", png_bytes(sheet))
        wanted.append(page / f"{name}.png")
    write_text_atomic(page / "flagged.csv", _flagged_csv(v for v in verdicts if v.reasons))
    write_json(page / "suite.json", results | {"params": params})
    prune(page, [*wanted, page / "flagged.csv", page / "suite.json"])


def _spread(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` of ``count`` positions, first and last among them."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted)).round()}) if count else []


def _flagged_csv(verdicts: Iterable[VerdictRecord]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", "class_name", "reasons", "percentile", "drift", "nearest_class"])
    ordered = sorted(verdicts, key=lambda v: (-v.percentile, -v.drift, v.path))
    writer.writerows([v.path, v.class_name, v.reasons, v.percentile, v.drift, v.nearest_class] for v in ordered)
    return buffer.getvalue()


def contact_sheet(
    cells: Sequence[tuple[Image.Image | None, Image.Image, list[str]]], empty: str, columns: int = 6, side: int = 96
) -> Image.Image:
    """Cells of (source or None, picture, lines of text) in rows; a line of text where there is none."""
    line, gap = 13, 8
    font = ImageFont.load_default(size=11)
    if not cells:
        sheet = Image.new("RGB", (420, 40), "white")
        ImageDraw.Draw(sheet).text((10, 12), empty, fill="black", font=font)
        return sheet
    across = 2 if any(source is not None for source, _, _ in cells) else 1
    lines = max(len(text) for _, _, text in cells)
    width, height = max(across * side, 150) + gap, side + lines * line + gap
    columns = min(columns, len(cells))
    sheet = Image.new("RGB", (columns * width + gap, -(-len(cells) // columns) * height + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (source, picture, text) in enumerate(cells):
        left, top = gap + i % columns * width, gap + i // columns * height
        for place, image in enumerate([picture] if across == 1 else [source, picture]):
            if image is not None:
                sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), (left + place * side, top))
        for n, words in enumerate(text):
            while words and draw.textlength(words, font=font) > width - gap:
                words = words[:-1]
            draw.text((left, top + side + 1 + n * line), words, fill="black", font=font)
    return sheet


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
