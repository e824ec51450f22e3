"""Sections that show images: drift, augmentations, flagged, real."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.config.training import Report
from partsynth.errors import UserError
from partsynth.records.rows import AugmentedRecord, VerdictRecord
from partsynth.reporting import html
from partsynth.reporting.html import escape
from partsynth.store.files import inside

if TYPE_CHECKING:
    pass
from partsynth.reporting.inputs import Shown
from partsynth.reporting.results import PARTS

MAX_SIDE = 128  # pixels; larger pictures are reduced, so that a page of 512-pixel sets stays portable
SHEET_ROWS = 16  # at most, in the sheet of sources and their augmentations


def drift_section(shown: Shown) -> str:
    from partsynth.reporting import figures as draw

    order = [n for n in shown.sets if n in shown.verdicts] + [n for n in shown.verdicts if n not in shown.sets]
    judged = {n: list(shown.verdicts[n].values()) for n in order if shown.verdicts[n]}
    if not judged:
        return ""
    far = {n: [_too_far(v) for v in rows] for n, rows in judged.items()}
    limits = [v.drift for n, rows in judged.items() for v, flagged in zip(rows, far[n], strict=True) if flagged]
    rows = []
    for name, found in judged.items():
        reasons: dict[str, int] = {}
        for v in found:
            for reason in filter(None, v.reasons.split(";")):
                reasons[reason] = reasons.get(reason, 0) + 1
        told = ", ".join(f"{r} {n}" for r, n in sorted(reasons.items())) or "–"
        accepted = sum(v.verdict == "accept" for v in found)
        nearest = sum(v.class_margin > 0 for v in found)
        rows.append(
            [
                escape(name),
                len(found),
                f"{accepted} ({100 * accepted / len(found):.0f} %)",
                escape(told),
                f"{np.median([v.percentile for v in found]):.2f}",
                f"{nearest} ({100 * nearest / len(found):.0f} %)",
                found[0].calibration_n,
            ]
        )
    heads = ["set", "pictures", "accepted", "reasons", "median percentile", "nearest class is its own", "calibration n"]
    drawn = {n: ([v.drift for v in r], far[n]) for n, r in judged.items()}
    return html.figure(
        draw.drift(drawn, min(limits) if limits else None),
        "Drift of each set; the last bin holds the largest 1 %.",
        "Histograms of drift, summed up in the table below.",
    ) + html.table("Verdicts a set", heads, rows)


def _too_far(verdict: VerdictRecord) -> bool:
    return "drift" in verdict.reasons.split(";")


def augmentations_section(shown: Shown, root: Path, params: Report) -> str:
    if not shown.sets:
        return "<p>There are no augmentation sets.</p>"
    sources = [r for r in shown.real if r.split == "train" and r.role == "target"]
    by_source = {n: _grouped(rows, lambda r: r.source) for n, rows in shown.sets.items()}
    used = [r for r in sources if any(r.path in found for found in by_source.values())]
    by_class = _grouped(used, lambda r: r.class_name)
    rounds = max(1, min(SHEET_ROWS, params.sheet_pictures) // max(len(by_class), 1))
    chosen = [r for rows in by_class.values() for r in _spread(rows, rounds)][: params.sheet_pictures]
    heads = ["<th scope=col>real source</th>"]
    for name, found in by_source.items():
        width = max((len(found.get(r.path, [])) for r in chosen), default=0)
        told = f"{escape(name)}<br><small>{escape(_strengths(shown.sets[name]))}</small>"
        heads += [f"<th scope=colgroup colspan={max(width, 1)}>{told}</th>"]
    body = []
    for record in chosen:
        cells = [f"<th scope=row>{_captioned(root, record.path, record.class_name)}</th>"]
        for name, found in by_source.items():
            width = max((len(found.get(r.path, [])) for r in chosen), default=0)
            rows = sorted(found.get(record.path, []), key=lambda r: r.variant)
            judged = shown.verdicts.get(name, {})
            cells += [f"<td>{_captioned(root, r.path, r.prompt, judged.get(r.path))}</td>" for r in rows]
            cells += ["<td></td>"] * (max(width, 1) - len(rows))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return html.scroll(
        f'<table class="sheet"><thead><tr>{"".join(heads)}</tr></thead><tbody>{"".join(body)}</tbody></table>',
        "Contact sheet: a row a source, its augmentations beside it",
    ) + html.note("Sources are taken evenly from each class. Prompt and verdict stand below each picture.")


def _captioned(root: Path, path: str, caption: str, verdict: VerdictRecord | None = None) -> str:
    return f"{_picture(root, path, caption)}{_tag(verdict)}<span>{escape(caption)}</span>"


def _tag(verdict: VerdictRecord | None) -> str:
    if verdict is None:
        return ""
    if verdict.verdict == "accept":
        return f'<b class="ok">✓ {verdict.percentile:.2f}</b>'
    return (
        f'<b class="no">✗ {escape(verdict.reasons.replace(";", ", ").replace("_", " "))} {verdict.percentile:.2f}</b>'
    )


def _strengths(rows: Sequence[AugmentedRecord]) -> str:
    values = sorted({r.strength for r in rows})
    text = ", ".join(f"{v:g}" for v in values) if len(values) <= 4 else f"{values[0]:g} to {values[-1]:g}"
    return f"strength {text}" if values else "empty"


def flagged_section(shown: Shown, root: Path, params: Report, quality: Path, out: Path) -> str:
    parts = []
    for name, rows in shown.sets.items():
        verdicts = shown.verdicts.get(name, {})
        records = {r.path: r for r in rows if r.path in verdicts}
        flagged = sorted(
            (v for v in verdicts.values() if v.verdict != "accept" and v.path in records),
            key=lambda v: (-v.drift, v.path),
        )
        accepted = sorted(
            (v for v in verdicts.values() if v.verdict == "accept" and v.path in records),
            key=lambda v: (v.drift, v.path),
        )
        if not verdicts:
            continue
        link = quality / name / "data_docs" / "index.html"
        docs = (
            f' <a href="{escape(os.path.relpath(link, out.parent))}">Great Expectations Data Docs</a>'
            if link.exists()
            else ""
        )
        parts.append(f"<h3>{escape(name)}: {len(flagged)} flagged, {len(accepted)} accepted{docs}</h3>")
        for title, some in (
            ("Flagged, farthest first", flagged[: params.sheet_pictures]),
            ("Accepted, from least to most drift", _spread(accepted, params.sheet_pictures)),
        ):
            if some:
                cells = "".join(f"<li>{_captioned(root, v.path, v.class_name, v)}</li>" for v in some)
                parts.append(f'<h4>{title}</h4><ul class="grid">{cells}</ul>')
    return "".join(parts) + (
        html.note("The figure below a picture is its drift's percentile among real validation pictures.")
        if parts
        else ""
    )


def real_section(shown: Shown, root: Path, params: Report) -> str:
    columns = [split for split in ("train", "val", "test", "shifted") if any(r.split == split for r in shown.real)]
    body = []
    for name, records in list(_grouped(shown.real, lambda r: r.class_name).items())[: params.sheet_pictures]:
        cells = [f"<th scope=row>{escape(name)}</th>"]
        for split in columns:
            some = _spread([r for r in records if r.split == split], 2)
            cells.append(
                f"<td>{''.join(_picture(root, r.path, f'{name}, {split}, {r.state}') for r in some) or '–'}</td>"
            )
        body.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f"<th scope=col>{c}</th>" for c in ["class", *columns])
    parts = [
        "<h3>Parts to tell apart</h3>",
        html.scroll(
            f'<table class="sheet"><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table>',
            "Real pictures of each class",
        ),
    ]
    for part, rows in _grouped(shown.ood, lambda r: (r.role != "near_ood", r.split != "val", r.role, r.split)).items():
        by_class = _grouped(rows, lambda r: r.class_name)
        some = _spread([r for found in by_class.values() for r in _spread(found, 2)], params.sheet_pictures)
        cells = "".join(f"<li>{_captioned(root, r.path, r.class_name)}</li>" for r in some)
        title = PARTS[f"{part[2].removesuffix('_ood')}_{part[3]}"]
        parts.append(
            f'<h3>{title} <small>never trained on; {len(by_class)} classes</small></h3><ul class="grid">{cells}</ul>'
        )
    return "".join(parts)


def _grouped(rows: Iterable[Any], key: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))


def _spread(rows: Sequence[Any], count: int) -> list[Any]:
    """``count`` of the rows, evenly spaced."""
    return (
        [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
        if rows
        else []
    )


def _picture(root: Path, path: str, alt: str) -> str:
    from PIL import Image

    file = inside(root, path)
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except OSError:
        raise UserError(f"{file} is in a manifest but missing or no picture: dvc checkout, or dvc repro") from None
    small = max(image.size) <= MAX_SIDE
    if not small:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=small, quality=85 if not small else 60, method=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/webp;base64,{data}" alt="{escape(alt)}" title="{escape(path)}">'
