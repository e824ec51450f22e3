"""The one reader of params.yaml. A stage loads its own sections only; ``load_all`` checks everything at once."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from partsynth.config.base import Section
from partsynth.config.generation import AugmentationSet
from partsynth.config.params import Params
from partsynth.config.training import SelectSetup
from partsynth.errors import UserError


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run this in a project folder, or make one with `partsynth init`") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping of sections")
    return loaded


def load_all(path: Path = Path("params.yaml")) -> Params:
    """Every section, with all faults named at once."""
    return _validate(Params, read_yaml(path), path, "")


def load(section: str, path: Path = Path("params.yaml")) -> Any:
    """One section (``train``) or one entry of a mapping section (``sets.id``), its own faults alone reported."""
    head, _, entry = section.partition(".")
    raw = read_yaml(path)
    if head not in Params.model_fields:
        raise UserError(f"no section {head!r}; there are {', '.join(Params.model_fields)}")
    value = raw.get(head, {})
    kinds: dict[str, type[Section]] = {"sets": AugmentationSet, "select": SelectSetup}
    if not entry:
        if head in kinds:
            return {name: load(f"{head}.{name}", path) for name in value}
        return _validate(Params.model_fields[head].annotation, value, path, head)
    if not isinstance(value, dict) or entry not in value:
        raise UserError(f"{path}: {head} has no entry {entry!r}; it has {', '.join(value) or 'none'}")
    return _validate(kinds[head], value[entry] or {}, path, section)


def _validate(kind: type[Section], value: Any, path: Path, where: str) -> Any:
    """Validate strictly, as JSON: no text or truth value is taken for a number, while a list may fill a tuple."""
    value = {} if value is None else value
    try:
        return kind.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for fault in error.errors():
            key = ".".join([*([where] if where else []), *_keys(value, fault["loc"])])
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                message = "unknown key" + _did_you_mean(kind, fault["loc"])
            elif fault["type"] == "missing":
                message = "is required"
            elif fault["type"] != "value_error":
                message = f"{_plain_words(message)} (found {_found(fault['input'])})"
            faults.setdefault(key, []).append(message)
        lines = [f"{key}: {', or '.join(messages)}".removeprefix(": ") for key, messages in faults.items()]
        raise UserError(f"{path} has {len(lines)} fault(s):\n  " + "\n  ".join(lines)) from None


def _plain_words(message: str) -> str:
    words = {"Input should": "should", "valid array": "list", "an object": "a mapping", "valid integer": "whole number"}
    for theirs, ours in words.items():
        message = message.replace(theirs, ours)
    return message


def _found(value: Any) -> str:
    text = json.dumps(value, default=str)
    try:
        number = isinstance(value, str) and float(value)
    except ValueError:
        number = False
    return f"the text {text}; numbers go without quotes, and 5e-4 is written 5.0e-4" if number is not False else text


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


def _did_you_mean(kind: Any, location: tuple[Any, ...]) -> str:
    for part in location[:-1]:
        fields = getattr(kind, "model_fields", {})
        if part in fields:
            kind = fields[part].annotation
            kind = (
                next((k for k in get_args(kind) if hasattr(k, "model_fields")), kind)
                if type(kind) is UnionType
                else kind
            )
        elif str(kind).startswith("dict["):
            kind = kind.__args__[1]
    allowed = list(getattr(kind, "model_fields", {}))
    if str(kind).startswith("dict["):
        allowed = list(getattr(kind.__args__[1], "model_fields", {}))
    close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    return (f", did you mean {close[0]}" if close else "") + (f". Allowed: {', '.join(allowed)}" if allowed else "")
