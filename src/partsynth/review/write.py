"""A set's page as files: HTML with everything inside it but the images, which lie beside it.

No build step and no request to anywhere: a policy in the page lets it run its own script and show its own images only.
The same set gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.progress import track

from partsynth.records.images import read_image
from partsynth.records.review import ReviewRecord
from partsynth.records.rows import Record
from partsynth.review.collect import Page, Shown
from partsynth.store.files import write_bytes_atomic, write_text_atomic

TEMPLATES = Path(__file__).with_name("templates")
SIDE = 320  # pixels; larger images are reduced
SMALL = 128  # up to here they are kept without loss
IMAGES = "images"


@dataclass(frozen=True)
class Use:
    """One setup that adds the set."""

    setup: str
    role: str
    rule: str
    teaches: bool  # an image is used as one of its class


@dataclass(frozen=True)
class About:
    """What a page says of the project that it belongs to."""

    name: str
    key: str  # the same in every clone
    limit: float  # drift percentile above which the gate flags
    tolerance: float  # class standard deviations that it allows beyond
    uses: list[Use]
    seed: int


def write_page(folder: Path, page: Page, about: About, root: Path) -> Path:
    """Write ``folder``/index.html and its images; returns the page's path. Images of an earlier page go.

    Raises
    ------
    UserError
        where an image is missing or altered.
    """
    real: dict[str, int] = {}  # path -> place among the real images of the page
    records: list[Record] = []

    def placed(row: Record) -> int:
        if row.path not in real:
            real[row.path] = len(records)
            records.append(row)
        return real[row.path]

    images = [_told(one, page, placed) for one in page.shown]
    wanted = {file_of(row): row for row in (*(one.row for one in page.shown), *records)}
    for name, row in track(wanted.items(), f"images of {page.set_name}", transient=True, disable=not wanted):
        write_bytes_atomic(folder / IMAGES / name, webp(root, row))
    for stale in (folder / IMAGES).glob("*.webp"):
        if stale.name not in wanted:
            stale.unlink()
    data = {
        "project": about.name,
        "key": f"partsynth-review:{about.key}:{page.set_name}:{page.version}",
        "set": page.set_name,
        "version": page.version,
        "limit": about.limit,
        "columns": ReviewRecord.columns(),
        "classes": page.classes,
        "real": [{"class_name": row.class_name, "path": row.path, "file": file_of(row)} for row in records],
        "images": images,
    }
    target = folder / "index.html"
    script, style = (TEMPLATES / "page.js").read_text(), (TEMPLATES / "style.css").read_text()
    text = _render(
        "page.html.j2",
        page=page,
        about=about,
        data=_embedded(data),
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
    )
    write_text_atomic(target, text)
    return target


def write_index(folder: Path, pages: Sequence[Page], about: About) -> Path:
    """Write the list of the sets' pages; returns its path."""
    style = (TEMPLATES / "style.css").read_text()
    target = folder / "index.html"
    write_text_atomic(target, _render("index.html.j2", pages=pages, about=about, style=style, style_hash=_hash(style)))
    return target


def _told(one: Shown, page: Page, placed: Any) -> dict[str, Any]:
    row, verdict, earlier = one.row, one.verdict, one.earlier
    return {
        "path": row.path,
        "sha256": row.sha256,
        "class_name": row.class_name,
        "file": file_of(row),
        "caption": row.caption,
        "verdict": verdict.verdict,
        "reasons": [reason for reason in verdict.reasons.split(";") if reason],
        "percentile": verdict.judged,
        "drift": verdict.drift,
        "nearest_class": verdict.nearest_class,
        "source": placed(page.sources[row.origin_path]) if row.origin_path in page.sources else None,
        "own": [placed(near) for near in one.own],
        "others": [placed(near) for near in one.others],
        "earlier": None if earlier is None else earlier.model_dump(include={"decision", "other_class", "reviewer"}),
    }


def file_of(row: Record) -> str:
    """The name of an image's file in a page."""
    return f"{row.sha256[:20]}.webp"


def webp(root: Path, row: Record) -> bytes:
    """The image, its bytes checked, at most SIDE pixels a side; small ones without loss."""
    image = read_image(root, row)
    small = max(image.size) <= SMALL
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=small, quality=60 if small else 88, method=2)
    return buffer.getvalue()


def _embedded(data: Any) -> str:
    """JSON that no HTML parser takes for anything else."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _hash(text: str) -> str:
    """As a content security policy names a script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)
