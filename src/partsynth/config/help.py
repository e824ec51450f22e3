"""`partsynth params`: every key with its type, bounds, default and meaning."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from partsynth.config.params import Params
from partsynth.config.sets import set_models
from partsynth.config.words import type_text
from partsynth.errors import UserError, did_you_mean


class Row(NamedTuple):
    """One key of a section, in words."""

    key: str
    kind: str
    default: str
    meaning: str


def show(section: str | None) -> None:
    """Print the sections' keys.

    Raises
    ------
    UserError
        where there is no such section.
    """
    known = Params.model_fields
    if section is not None and section not in known:
        raise UserError(f"no section {section!r}{did_you_mean(section, known)}; there are {', '.join(known)}")
    console = Console(highlight=False)
    for name in [section] if section else known:
        if known[name].annotation is str:  # a key by itself
            console.print()
            _print(console, next(row for row in rows(Params) if row.key == name), "")
            continue
        for title, model in _models(name):
            first, _, more = inspect.cleandoc(model.__doc__ or "").replace("``", "`").partition("\n")
            console.print(f"\n[bold]{title}[/bold]: {escape(first)}")
            if more:
                console.print(Padding(escape(" ".join(more.split())), (0, 0, 0, 2), expand=False))
            for row in rows(model):
                _print(console, row, "  ")


def _print(console: Console, row: Row, indent: str) -> None:
    console.print(f"{indent}[bold]{row.key}[/bold] = {escape(row.default)}  [dim]({escape(row.kind)})[/dim]")
    if row.meaning:
        console.print(Padding(escape(row.meaning), (0, 0, 0, len(indent) + 4), expand=False))


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[Row]:
    """Each key of a model and of the models in it; its meaning is the docstring below the field."""
    for name, field in model.model_fields.items():
        inner, written = _entry(f"{prefix}{name}", field.annotation)
        within = isinstance(inner, type) and issubclass(inner, BaseModel)
        if within and NoneType not in get_args(field.annotation):
            yield from rows(inner, f"{written}.")
            continue
        default = "(required)" if field.is_required() else json.dumps(field.default, default=str)
        meaning = " ".join((field.description or "").replace("``", "`").split())
        yield Row(f"{prefix}{name}", type_text(field.annotation, field.metadata), default, meaning)
        if within:  # a mapping or null
            yield from rows(inner, f"{written}.")


def _models(section: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """A section's models and how each is written: of ``sets``, one for each method."""
    if section == "sets":
        kinds = set_models()
        for method, kind in kinds.items():
            yield "sets.<name>" + (f", method {method}" if len(kinds) > 1 else ""), kind
    else:
        inner, written = _entry(section, Params.model_fields[section].annotation)
        yield written, inner


def _entry(key: str, annotation: Any) -> tuple[Any, str]:
    """What one entry of a key is and how it is written: of a mapping, the kind of its values and ``key.<name>``."""
    if get_origin(annotation) is dict and isinstance(kind := get_args(annotation)[1], type):
        return kind, f"{key}.<name>" if issubclass(kind, BaseModel) else key
    known = [kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return (known[0] if known and NoneType in get_args(annotation) else annotation), key
