"""A folder of images through an exported model: CSV, JSON lines and a contact sheet, per image and per part."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from partsynth.errors import UserError, listed
from partsynth.serving.drift import DriftMeter, damaged
from partsynth.serving.extras import load_extra
from partsynth.serving.patterns import groups_of
from partsynth.serving.sheet import Tile, contact_sheet, tile
from partsynth.serving.station import Station, Unreadable
from partsynth.store.files import csv_text, write_bytes_atomic, write_text_atomic

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
CSV, LINES, SHEET, PARTS = "predictions.csv", "predictions.jsonl", "sheet.png", "parts.csv"
COLUMNS = ("path", "class", "probability", "ood_score", "unknown", "prediction_set", "nearest", "error")
DRIFT = "drift"  # column after these, where it was asked for: numbers joined by ";"
PART_COLUMNS = ("part", "images", "class", "probability", "ood_score", "unknown")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What to predict with what, and where to."""

    folder: Path
    model: Path  # an export's folder
    out: Path
    group_pattern: str | None = None  # regular expression over a relative path; its groups name the part
    sheet: int = 48  # images on the contact sheet, at most
    drift: bool = False  # measure each image for ``monitor``, too


@dataclass
class Predicted:
    """What was found, in the order of the names."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)  # name -> why
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def lines(self, out: Path) -> Iterator[str]:
        count, unknown = len(self.answers), sum(answer["unknown"] for answer in self.answers.values())
        yield f"{count} images, {unknown} unknown ({unknown / max(count, 1):.1%})"
        if self.parts:
            unknown = sum(part["unknown"] for part in self.parts.values())
            yield f"{len(self.parts)} parts, {unknown} unknown ({unknown / len(self.parts):.1%})"
        if self.unreadable:
            faults = [f"{name}: {why}" for name, why in self.unreadable.items()]
            yield f"{len(faults)} files cannot be read:\n  {listed(faults)}"
        yield f"written: {', '.join(str(out / name) for name in (CSV, LINES, SHEET, *([PARTS] if self.parts else [])))}"


def predict(inputs: Inputs) -> Predicted:
    """Predict every image below the folder and write the tables and the sheet.

    Raises
    ------
    UserError
        where the folder or the model is missing, no image can be read, or the pattern is no regular expression with a
        group or does not fit a name.
    """
    names = images_below(inputs.folder, inputs.out)
    groups = _groups(names, inputs.group_pattern) if inputs.group_pattern is not None else {}
    station = open_station(inputs.model)
    meter = DriftMeter(inputs.model) if inputs.drift else None
    raws: dict[str, dict[str, np.ndarray]] = {}
    tiles: list[Tile] = []
    shown = {names[i] for i in np.unique(np.linspace(0, len(names) - 1, inputs.sheet).astype(int))}

    def keep(name: str, data: bytes, raw: dict[str, np.ndarray], answer: dict[str, Any]) -> None:
        if groups:
            raws[name] = raw
        if name in shown:
            tiles.append(_tile(data, answer, name))

    found = _answers(inputs.folder, names, station, meter, keep)
    views: dict[str, list[dict[str, np.ndarray]]] = {}
    for name, raw in raws.items():
        views.setdefault(groups[name], []).append(raw)
    found.parts.update({part: station.part(views[part]) for part in sorted(views)})
    _write(inputs.out, found, names, tiles)
    return found


def predict_images(folder: Path, model: Path, out: Path, meter: DriftMeter | None) -> Predicted:
    """The answers alone, nothing written. Raises as ``predict`` does."""
    return _answers(folder, images_below(folder, out), open_station(model), meter)


def _answers(
    folder: Path, names: list[str], station: Station, meter: DriftMeter | None, keep: Callable[..., None] | None = None
) -> Predicted:
    from rich.progress import track

    found = Predicted()
    for name in track(names, description="predicting", transient=True):
        try:
            data = (folder / name).read_bytes()
            raw = station.raw(data)
        except (Unreadable, OSError) as error:
            found.unreadable[name] = str(error)
            continue
        answer = found.answers[name] = station.answer(raw)
        if meter is not None:
            answer[DRIFT] = meter.measure(station, data, answer["class"])
        if keep is not None:
            keep(name, data, raw, answer)
    if not found.answers:
        faults = [f"{name}: {why}" for name, why in found.unreadable.items()]
        raise UserError(f"no image below {folder} can be read:\n  {listed(faults)}")
    return found


def open_station(model: Path) -> Station:
    """The station of an export's folder.

    Raises
    ------
    UserError
        where it is no export, or a damaged one, or onnxruntime is not installed.
    """
    load_extra("onnxruntime")
    file = model / "model.onnx"
    if not file.is_file():
        raise UserError(f"{file} is missing: --model names a folder that partsynth export wrote")
    try:
        return Station(file)
    except KeyError:
        raise UserError(f"{file} is an ONNX file, but none that partsynth export wrote") from None
    except Exception as error:  # onnxruntime has a class of its own for each damage
        raise damaged(file, error) from None


def images_below(folder: Path, out: Path) -> list[str]:
    """Relative names of all image files below the folder, in order; not what is hidden, or an earlier sheet."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in ENDINGS]
    sheet = (out / SHEET).absolute()
    names = sorted(
        p.as_posix()
        for p in files
        if not any(part.startswith(".") for part in p.parts) and (folder / p).absolute() != sheet
    )
    if not names:
        raise UserError(f"{folder} holds no image ({', '.join(ENDINGS)})")
    return names


def _groups(names: list[str], pattern: str) -> dict[str, str]:
    """Name of an image -> its part: what the pattern's groups matched, joined by "/"."""
    found = groups_of(names, pattern, f"--group-pattern {pattern!r}", "names the part")
    return {name: "/".join(parts) for name, parts in found.items()}


def _write(out: Path, found: Predicted, names: list[str], tiles: list[Tile]) -> None:
    table, lines = [], []
    measured = int(any(DRIFT in answer for answer in found.answers.values()))
    columns = (*COLUMNS, DRIFT) if measured else COLUMNS
    for name in names:
        if name not in found.answers:
            table.append([name, *[""] * (len(COLUMNS) - 2), found.unreadable[name], *[""] * measured])
            lines.append(json.dumps({"path": name, "error": found.unreadable[name]}))
            continue
        answer = found.answers[name]
        drift = [";".join(f"{value:.6g}" for value in answer[DRIFT])] if DRIFT in answer else []
        sets, near = ";".join(answer["prediction_set"]), ";".join(item["path"] for item in answer["nearest"])
        table.append([name, *_figures(answer), sets, near, "", *drift])
        lines.append(json.dumps({"path": name, **_plain(answer)}))
    out.mkdir(parents=True, exist_ok=True)
    write_text_atomic(out / CSV, csv_text(columns, table))
    write_text_atomic(out / LINES, "".join(f"{line}\n" for line in lines))
    if found.parts:
        rows = [[part, answer["images"], *_figures(answer)] for part, answer in found.parts.items()]
        write_text_atomic(out / PARTS, csv_text(PART_COLUMNS, rows))
    write_bytes_atomic(out / SHEET, contact_sheet(tiles))


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    """Without numbers that JSON has no word for: of a class that cannot be compared nothing is told."""
    if DRIFT not in answer:
        return answer
    return answer | {DRIFT: [None if math.isnan(value) else value for value in answer[DRIFT]]}


def _figures(answer: dict[str, Any]) -> list[str]:
    unknown = str(answer["unknown"]).lower()
    return [answer["class"], f"{answer['probability']:.6g}", f"{answer['ood_score']:.6g}", unknown]


def _tile(data: bytes, answer: dict[str, Any], name: str) -> Tile:
    word = "unknown" if answer["unknown"] else f"{answer['class']} {answer['probability']:.0%}"
    return tile(data, word, f"{name.rpartition('/')[2]} ({answer['ood_score']:.3g})", bool(answer["unknown"]))
