"""The one reader of params.yaml. A stage loads its own sections only; ``load_all`` checks everything at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from partsynth.config.errors import fault_lines
from partsynth.config.params import Params
from partsynth.errors import UserError, did_you_mean
from partsynth.store.reading import parse_yaml, read_text

PARAMS = Path("params.yaml")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping.

    Raises
    ------
    UserError
        where there is no such file, it is no YAML (``parse_yaml``), or it holds no mapping.
    """
    missing = "run this in a project folder, or make one with `partsynth init`"
    loaded = parse_yaml(read_text(path, "YAML", missing), str(path))
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping of sections")
    return loaded


def load_all(path: Path = PARAMS) -> Params:
    """Every section.

    Raises
    ------
    UserError
        with all faults, each with its key and what is allowed.
    """
    return _validated(Params, read_yaml(path), path)


def load_text(text: str, name: Path) -> Params:
    """Every section of a text that is called ``name`` in faults.

    Raises
    ------
    UserError
        as ``load_all`` does.
    """
    return _validated(Params, parse_yaml(text, str(name)), name)


def load(section: str, path: Path = PARAMS) -> Any:
    """One section (``train``), or one entry of a mapping section (``sets.id``).

    Raises
    ------
    UserError
        with this section's own faults, or where there is no such section or entry.
    """
    head, _, entry = section.partition(".")
    raw = read_yaml(path)
    if head not in Params.model_fields:
        known = Params.model_fields
        raise UserError(f"no section {head!r}{did_you_mean(head, known)}; there are {', '.join(known)}")
    kind, value = Params.model_fields[head].annotation, raw.get(head)
    if kind is str and value is None:
        return Params.model_fields[head].default
    if not entry:
        return _validated(kind, value, path, head)
    entries = value if get_origin(kind) is dict and isinstance(value, dict) else {}
    if entry not in entries:
        raise UserError(f"{path}: {head} has no entry {entry!r}; it has {', '.join(entries) or 'none'}")
    return _validated(get_args(kind)[1], entries[entry], path, section)


WORDS = {"yes": True, "on": True, "no": False, "off": False}


def _worded(value: Any, error: ValidationError) -> bool:
    """Put truth values in the place of words that stand where one belongs; whether there were any."""
    found = False
    for fault in error.errors():
        *above, last = fault["loc"] or ("",)
        word = fault["input"].lower() if isinstance(fault["input"], str) else ""
        if fault["type"] == "bool_type" and word in WORDS:
            held = value
            for part in above:
                held = held.get(part) if isinstance(held, dict) else None
            if isinstance(held, dict) and held.get(last) == fault["input"]:
                held[last], found = WORDS[word], True
    return found


def _validated(kind: Any, value: Any, path: Path, where: str = "") -> Any:
    """Validate strictly, as JSON: no text or truth value is taken for a number, while a list may fill a tuple."""
    value = {} if value is None else value
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        if _worded(value, error):
            return _validated(kind, value, path, where)
        lines = fault_lines(error, kind, value, where)
        raise UserError(f"{path} has {len(lines)} fault(s):\n  " + "\n  ".join(lines)) from None
