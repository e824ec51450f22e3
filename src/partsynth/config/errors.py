"""Faults of parameters, in plain words: which key, what is wrong with it, what is allowed."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from partsynth.config.sets import AugmentationSet, set_model
from partsynth.errors import did_you_mean

WORDS = {"Input should": "should", "valid array": "list", "an object": "a mapping", "valid integer": "whole number"}


def fault_lines(error: ValidationError, kind: Any, value: Any, where: str = "") -> list[str]:
    """One line for each faulty key.

    Parameters
    ----------
    error : what pydantic found in ``value``
    kind : the type it was validated as
    where : the key of ``value`` in params.yaml; nothing for the whole file
    """
    faults: dict[str, list[str]] = {}
    for fault in error.errors():
        key = ".".join([*([where] if where else []), *_keys(value, fault["loc"])])
        faults.setdefault(key, []).append(_message(dict(fault), kind, value))
    return [f"{key}: {', or '.join(messages)}".removeprefix(": ") for key, messages in faults.items()]


def _message(fault: dict[str, Any], kind: Any, value: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "unknown key" + _allowed(kind, value, fault["loc"])
    if fault["type"] == "missing":
        return "is required"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return message
    for theirs, ours in WORDS.items():
        message = message.replace(theirs, ours)
    return f"{message} (found {_found(fault['input'])})"


def _found(value: Any) -> str:
    text = json.dumps(value, default=str)
    try:
        number = isinstance(value, str) and float(value)
    except ValueError:
        number = False
    return f"the text {text}; numbers go without quotes: 5e-4, 0.5" if number is not False else text


def _keys(value: Any, location: tuple[Any, ...]) -> list[str]:
    """The parts of a fault's location that are keys in the file; pydantic puts the members of a union between them."""
    keys = []
    for n, part in enumerate(location):
        if isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif isinstance(value, dict) and (part in value or n == len(location) - 1):
            value = value.get(part)
        elif isinstance(value, dict | list) or value is not None:
            continue
        keys.append(str(part))
    return keys


def _allowed(kind: Any, value: Any, location: tuple[Any, ...]) -> str:
    """The key that was meant instead of the last of ``location``, and all that there are beside it."""
    for part in location[:-1]:
        value = value.get(part) if isinstance(value, dict) else None
        model, entries = _model(kind, None), _entries(kind)
        if model is not None and part in model.model_fields:
            kind = model.model_fields[part].annotation
        elif entries is not None:
            kind = entries
    model = _model(kind, value)
    names = list(model.model_fields) if model else []
    return did_you_mean(str(location[-1]), names) + (f". Allowed: {', '.join(names)}" if names else "")


def _model(kind: Any, value: Any) -> type[BaseModel] | None:
    """The model that a type is, or is one of; of an entry of ``sets``, the one of its method."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if not isinstance(kind, type):
        return next(
            (model for k in get_args(kind) if get_origin(kind) is not dict and (model := _model(k, value))), None
        )
    if issubclass(kind, AugmentationSet) and isinstance(value, dict):
        return set_model(value)
    return kind if issubclass(kind, BaseModel) else None


def _entries(kind: Any) -> Any:
    """The type of a mapping's values; None of another type."""
    return get_args(kind)[1] if get_origin(kind) is dict else None
