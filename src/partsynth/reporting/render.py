"""Templates into text: HTML with every value escaped, Markdown as it stands. The same bytes for the same values."""

from __future__ import annotations

import base64
import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from partsynth.evaluation import format as figures

TEMPLATES = Path(__file__).with_name("templates")


@functools.cache
def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        name: getattr(figures, name) for name in ("percent", "points", "exact", "level", "between", "estimate")
    }
    made.filters |= {"breakable": breakable, "base64": lambda data: base64.b64encode(data).decode()}
    made.globals["points"] = figures.points
    return made


def render(template: str, **values: Any) -> str:
    """The template of this name with these values; in an HTML template the result is marked as safe."""
    text = environment().get_template(template).render(**values)
    return Markup(text) if template.endswith(".html.j2") else text


def breakable(text: Any) -> Markup:
    """A name, free to break after its underscores."""
    return escape(text).replace("_", Markup("_<wbr>"))
