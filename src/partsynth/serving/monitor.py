"""A station over time: how many images are unknown, and whether they still look like the training version's."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from partsynth.core.drift.window import Baseline
from partsynth.errors import UserError, listed
from partsynth.quality.expectations import check_means
from partsynth.serving.drift import DriftMeter
from partsynth.serving.monitor_page import page
from partsynth.serving.predict import CSV, DRIFT, predict_images
from partsynth.serving.thresholds import rate_of
from partsynth.serving.windows import divide, times_of
from partsynth.store.files import read_json, write_json, write_text_atomic

JSON, PAGE = "monitor.json", "monitor.html"
NEEDED = ("path", "class", "unknown")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What to look at, and how closely."""

    what: Path  # folder of images, or table that predict wrote
    export: Path
    out: Path
    window: str = "day"  # or hour, or a number of images
    timestamps: str = "mtime"  # or name:REGEX, column:NAME
    images: Path | None = None  # folder that a table's paths are relative to
    false_alarm: float = 0.01  # share of sound windows that each of the two checks may alarm
    min_images: int = 30
    last: int | None = None  # windows that decide the exit code; None = all


@dataclass(frozen=True)
class Monitored:
    """What was found: monitor.json."""

    told: dict[str, Any]

    @property
    def exit_code(self) -> int:
        return 2 if self.told["alarm"] else 0

    def lines(self, out: Path) -> Iterator[str]:
        for window in self.told["windows"]:
            share = window["unknown"]
            yield (
                f"{window['window']}: {window['images']} images, {share['rate']:.1%} unknown ({share['low']:.1%} to "
                f"{share['high']:.1%}), {window['verdict']}"
            )
        yield f"{self.told['verdict']}; written: {out / JSON}, {out / PAGE}"


@dataclass(frozen=True)
class Seen:
    """Images as the model and the meter saw them, one place each."""

    names: list[str]
    classes: list[str]
    unknown: np.ndarray  # (n,) bool
    drift: np.ndarray | None  # (n, columns), None where it was not measured
    unreadable: dict[str, str]
    rows: list[dict[str, str]]  # of the table; empty mappings for a folder


def monitor(inputs: Inputs) -> Monitored:
    """Judge each window and write monitor.json and monitor.html into ``out``.

    Two checks, each of which alarms at most a share ``false_alarm`` of windows of images like the validation ones:
    the number of unknown images against the upper end of the export's stated false-reject rate (binomial), and the
    mean of each drift column against its limits (``core.drift.window``), by Great Expectations.

    Raises
    ------
    UserError
        where images, table or export cannot be used, times cannot be told, or no window has enough images.
    """
    if not 0 < inputs.false_alarm < 0.5:
        raise UserError(f"--false-alarm is {inputs.false_alarm}; it is a share between 0 and 0.5, such as 0.01")
    about = read_json(inputs.export / "export.json")
    meter = DriftMeter(inputs.export) if "columns" in about.get("drift", {}) else None
    seen = _of_folder(inputs, meter) if inputs.what.is_dir() else _of_table(inputs)
    folder = inputs.what if inputs.what.is_dir() else inputs.images
    times = times_of(seen.names, seen.rows, folder, inputs.timestamps)
    places = divide(seen.names, times, inputs.window)
    judged = {name: some for name, some in places.items() if len(some) >= inputs.min_images}
    if not judged:
        most = max(map(len, places.values()))
        raise UserError(
            f"no window has {inputs.min_images} images (the fullest has {most}): take a longer --window, or fewer "
            "--min-images"
        )
    rate = about["unknown"]
    stated = max(rate["wanted"], rate["validation_images"]["high"])
    known = sorted(set(seen.classes)) if meter is None else _class_names(about)
    baseline = meter.baseline if meter is not None and seen.drift is not None else None
    tables, limits = {}, {}
    for name, some in judged.items():
        tables[name], limits[name] = _expected(seen, some, known, stated, baseline, inputs.false_alarm)
    results = check_means(tables, limits)
    windows = [_window(name, some, seen, results.get(name)) for name, some in places.items()]
    deciding = [w for w in windows if w["verdict"] != "too few images"][-(inputs.last or len(windows)) :]
    alarm = any(window["alarms"] for window in deciding)
    told = {
        "verdict": "alarm" if alarm else "no alarm",
        "alarm": alarm,
        "model": {key: about["model"][key] for key in ("setup", "seed", "run_id")},
        "checks": {
            "unknown": {
                "stated_rate": rate["wanted"],
                "stated_interval": [rate["validation_images"]["low"], rate["validation_images"]["high"]],
                "rule": f"more than the binomial allows at a rate of {stated:.4f}",
            },
            "drift": "not judged: " + _why_not(about, seen) if baseline is None else about["drift"],
            "false_alarm": inputs.false_alarm,
            "min_images": inputs.min_images,
            "windows_that_decide": len(deciding),
        },
        "unreadable": seen.unreadable,
        "windows": windows,
    }
    write_json(inputs.out / JSON, told)
    write_text_atomic(inputs.out / PAGE, page(told))
    return Monitored(told)


def _of_folder(inputs: Inputs, meter: DriftMeter | None) -> Seen:
    found = predict_images(inputs.what, inputs.export, inputs.out, meter)
    answers = list(found.answers.values())
    drift = None if meter is None else np.array([answer[DRIFT] for answer in answers])
    return Seen(
        list(found.answers),
        [answer["class"] for answer in answers],
        np.array([answer["unknown"] for answer in answers]),
        drift,
        found.unreadable,
        [{} for _ in answers],
    )


def _of_table(inputs: Inputs) -> Seen:
    if not inputs.what.is_file():
        raise UserError(f"{inputs.what} is neither a folder of images nor a table that partsynth predict wrote ({CSV})")
    try:
        with open(inputs.what, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError:
        raise UserError(f"{inputs.what} is no table (CSV in UTF-8)") from None
    if not rows or (lacking := [name for name in NEEDED if name not in rows[0]]):
        raise UserError(f"{inputs.what} has no {'rows' if not rows else 'column ' + ', '.join(lacking)}")
    bad = {row["path"]: row["error"] for row in rows if row.get("error")}
    rows = [row for row in rows if not row.get("error")]
    if wrong := [row["path"] for row in rows if row["unknown"].lower() not in ("true", "false")]:
        raise UserError(f"{inputs.what}: column unknown is neither true nor false at:\n  {listed(wrong)}")
    drift = None
    if rows and all(row.get(DRIFT) for row in rows):
        try:
            drift = np.array([[float(value) for value in row[DRIFT].split(";")] for row in rows])
        except ValueError:
            raise UserError(f"{inputs.what}: column {DRIFT} holds other than numbers, as many in each row") from None
    unknown = np.array([row["unknown"].lower() == "true" for row in rows], dtype=bool)
    return Seen([row["path"] for row in rows], [row["class"] for row in rows], unknown, drift, bad, rows)


def _expected(
    seen: Seen, some: Sequence[int], known: list[str], stated: float, baseline: Baseline | None, false_alarm: float
) -> tuple[dict[str, np.ndarray], dict[str, tuple[float | None, float | None]]]:
    """A window's columns, and the limits of their means."""
    from scipy.stats import binom

    unknown = seen.unknown[some].astype(float)
    columns: dict[str, np.ndarray] = {"unknown": unknown}
    most = binom.ppf(1 - false_alarm, len(some), stated) / len(some)
    limits: dict[str, tuple[float | None, float | None]] = {"unknown": (None, float(most))}
    if baseline is not None and seen.drift is not None:
        if seen.drift.shape[1] != len(baseline.columns):
            raise UserError(
                f"{seen.drift.shape[1]} drift columns, the export has {len(baseline.columns)}: predict again"
            )
        drift = seen.drift[some]
        comparable = ~np.isnan(drift).any(axis=1)
        if strangers := {seen.classes[i] for i in some} - set(known):
            raise UserError(
                f"class {sorted(strangers)[0]!r} is none of the export's: these are another model's answers"
            )
        if comparable.any():
            classes = np.array([known.index(seen.classes[i]) for i in some])[comparable]
            for name, column, limit in zip(
                baseline.columns, drift.T, baseline.limits(classes, false_alarm), strict=True
            ):
                columns[name], limits[name] = column, (-float(limit), float(limit))
    return columns, limits


def _window(name: str, some: Sequence[int], seen: Seen, results: list[dict[str, Any]] | None) -> dict[str, Any]:
    rate = rate_of(int(seen.unknown[some].sum()), len(some))
    unknown = {"count": rate.count, "rate": rate.value, "low": rate.low, "high": rate.high}
    mix = Counter(seen.classes[i] for i in some if not seen.unknown[i])
    told: dict[str, Any] = {
        "window": name,
        "images": len(some),
        "unknown": unknown,
        "classes": dict(sorted(mix.items())),
    }
    if results is None:
        return told | {"verdict": "too few images", "alarms": [], "drift": None, "expectations": []}
    drift = [result for result in results if result["column"] != "unknown"]
    share = next(result for result in results if result["column"] == "unknown")
    unknown["limit"] = share["max_value"]
    alarms = []
    if not share["success"]:
        alarms.append(f"unknown rate above {unknown['limit']:.1%}")
    if out := [result["column"] for result in drift if not result["success"]]:
        alarms.append(f"drift in {', '.join(out)}")
    strongest = max((abs(r["observed_value"]) / r["max_value"] for r in drift), default=math.nan)
    return told | {
        "verdict": "; ".join(alarms) or "no alarm",
        "alarms": alarms,
        "drift": None if math.isnan(strongest) else {"strongest_share_of_its_limit": strongest, "out_of_limits": out},
        "expectations": results,
    }


def _why_not(about: Mapping[str, Any], seen: Seen) -> str:
    missing = about.get("drift", {}).get("missing", "the export holds nothing to tell it by: export the model again")
    return missing if "columns" not in about.get("drift", {}) else f"the table has no column {DRIFT} (predict --drift)"


def _class_names(about: Mapping[str, Any]) -> list[str]:
    return list(about["model"]["classes"])
