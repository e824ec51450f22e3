"""`partsynth params`: every key with its type, bounds, default and meaning."""

from __future__ import annotations

import ast
import inspect
import io
import json
import textwrap
import tokenize
from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from partsynth.config.params import Params
from partsynth.errors import UserError

NO_BOUND = 2**31  # a limit beyond this (a seed's 2**63) is not worth a word


def show(section: str | None) -> None:
    """Print the sections' keys; raises UserError where there is no such section."""
    fields = Params.model_fields
    if section is not None and section not in fields:
        raise UserError(f"no section {section!r}; there are {', '.join(fields)}")
    console = Console()
    for name in [section] if section else fields:
        kind, prefix = _entries(name, fields[name].annotation)
        console.print(f"\n[bold]{prefix or name}[/bold]: {kind.__doc__.splitlines()[0]}", highlight=False)
        for key, kind_text, default, meaning in rows(kind):
            console.print(
                f"  [bold]{key}[/bold] = {escape(default)}  [dim]({escape(kind_text)})[/dim]", highlight=False
            )
            if meaning:
                console.print(Padding(escape(meaning), (0, 0, 0, 6)), highlight=False)


def _entries(name: str, annotation: Any) -> tuple[type[BaseModel], str]:
    """A section's model; for a mapping section (sets, select) the model of one entry and how entries are written."""
    if get_origin(annotation) is dict:
        return get_args(annotation)[1], f"{name}.<name>"
    return annotation, ""


def rows(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of each field; the meaning is the comment behind the field in params.py."""
    comments = field_comments(kind)
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from rows(field.annotation, f"{prefix}{name}.")
            continue
        entry, written = _entries(f"{prefix}{name}", field.annotation)
        if written and isinstance(entry, type) and issubclass(entry, BaseModel):
            yield from rows(entry, f"{written}.")
            continue
        default = "(required)" if field.is_required() else json.dumps(field.default, default=str)
        yield prefix + name, type_text(field.annotation, field.metadata), default, comments.get(name, "")


def field_comments(kind: type[BaseModel]) -> dict[str, str]:
    """Field -> the comment on the lines of its declaration."""
    source = textwrap.dedent(inspect.getsource(kind))
    by_line = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    body = ast.parse(source).body[0].body
    return {
        node.target.id: " ".join(by_line[n] for n in range(node.lineno, node.end_lineno + 1) if n in by_line)
        for node in body
        if isinstance(node, ast.AnnAssign)
    }


def type_text(annotation: Any, metadata: Any = ()) -> str:
    """``Annotated[int, Ge(1)] | None`` -> "whole number >= 1, or null"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [m for a in arguments[1:] for m in (a.metadata if isinstance(a, FieldInfo) else [a])]
        return type_text(arguments[0], inner)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments)) if len(arguments) > 1 else str(arguments[0])
    if origin is list:
        return f"list of: {type_text(arguments[0])}"
    if origin is dict:
        return f"mapping {type_text(arguments[0])} -> {type_text(arguments[1])}"
    if origin is tuple:
        return "[" + ", ".join(map(type_text, arguments)) + "]"
    if arguments:  # a union
        return ", or ".join(type_text(a) for a in arguments)
    if annotation is NoneType:
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation))) + _bounds(metadata)


def _bounds(metadata: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = {sign: getattr(m, key, None) for m in metadata for key, sign in signs.items() if hasattr(m, key)}
    limits = {sign: value for sign, value in found.items() if value is not None and abs(value) < NO_BOUND}
    if set(limits) == {">=", "<="}:
        return f" {limits['>=']} to {limits['<=']}"
    return "".join(f" {sign} {value}" for sign, value in limits.items())
