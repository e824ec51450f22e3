"""Types of parameters, in words."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from partsynth.config.base import member_of

NO_BOUND = 2**31  # a limit beyond this (a seed's 2**63) is not worth a word
NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "null"}


def type_text(annotation: Any, metadata: Any = ()) -> str:
    """``Annotated[int, Ge(1)] | None`` -> "whole number >= 1, or null"; of a seam's member, the names there are."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [m for a in arguments[1:] for m in (a.metadata if isinstance(a, FieldInfo) else [a])]
        return type_text(arguments[0], inner)
    for constraint in metadata:
        if isinstance(constraint, member_of):
            return _one_of(constraint.names)
    if origin is Literal:
        return _one_of(arguments)
    if origin is list:
        return f"list of: {type_text(arguments[0])}"
    if origin is dict:
        return f"mapping {type_text(arguments[0])} -> {type_text(arguments[1])}"
    if origin is tuple:
        return "[" + ", ".join(map(type_text, arguments)) + "]"
    if arguments:  # a union
        return ", or ".join(type_text(a) for a in arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation))) + _bounds(metadata)


def _one_of(values: tuple[Any, ...]) -> str:
    return "one of " + ", ".join(map(str, values)) if len(values) > 1 else str(values[0])


def _bounds(metadata: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "a multiple of"}
    found = {sign: getattr(m, key, None) for m in metadata for key, sign in signs.items() if hasattr(m, key)}
    limits = {sign: value for sign, value in found.items() if value is not None and abs(value) < NO_BOUND}
    if set(limits) == {">=", "<="}:
        return f" {limits['>=']} to {limits['<=']}"
    return ",".join(f" {sign} {value}" for sign, value in limits.items())
