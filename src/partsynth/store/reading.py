"""Files that somebody may have damaged, read: what is wrong is one sentence that names the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from partsynth.errors import UserError
from partsynth.store.yaml_rule import Loader, ambiguous

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

MOST = 200_000  # values in a YAML file, aliases counted as what they stand for
RUN_STAGE = "run the stage that writes it (dvc repro)"


class MissingKey(UserError, KeyError):
    """A key that lacks in a JSON file."""

    def __str__(self) -> str:
        return str(self.args[0])


class JsonObject(dict[str, Any]):
    """An object of a JSON file: who asks for a key that lacks is told of the file."""

    def __init__(self, pairs: list[tuple[str, Any]], path: Path) -> None:
        super().__init__(pairs)
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise MissingKey(f"{self._path} has no key {key!r}: it is damaged, or of another version; {RUN_STAGE}")

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def read_text(path: Path, what: str = "text", missing: str = RUN_STAGE) -> str:
    """A file's text.

    Parameters
    ----------
    what : the file is, in words ("table (CSV)")
    missing : what helps where it is not there

    Raises
    ------
    UserError
        where it is not there, or no text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {missing}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no {what} in UTF-8 (byte {error.start})") from None
    if "\0" in text:
        raise UserError(f"{path} is no {what}: it holds NUL bytes, as a disk without power leaves them")
    return text


def read_json(path: Path, missing: str = RUN_STAGE) -> Any:
    """What the file holds; of objects see ``JsonObject``.

    Raises
    ------
    UserError
        where it is missing or no JSON, holds a key twice, or a number that is none.
    """
    text = read_text(path, "JSON", missing)

    def pairs(found: list[tuple[str, Any]]) -> JsonObject:
        made = JsonObject(found, path)
        if len(made) < len(found):
            names = [name for name, _ in found]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{path} has the key {twice!r} twice: {RUN_STAGE}")
        return made

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}; {RUN_STAGE}") from None


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def read_object(path: Path) -> JsonObject:
    """A JSON file's object.

    Raises
    ------
    UserError
        as ``read_json``, and where it holds another thing.
    """
    found = read_json(path)
    if not isinstance(found, JsonObject):
        raise UserError(f"{path} must hold an object ({{...}}), found {type(found).__name__}: {RUN_STAGE}")
    return found


def parse_yaml(text: str, name: str) -> Any:
    """What a YAML text holds, by the rule that DVC reads by; ``name`` is how faults call it.

    Raises
    ------
    UserError
        where it is no YAML, holds a key twice, is nested too deeply, an alias stands for itself or for very much, or
        a number is another one by an older rule of YAML.
    """
    if text.startswith("%YAML 1.1"):
        raise UserError(f"{name} begins with %YAML 1.1: take that line out, values are read by YAML 1.2")
    try:
        node = yaml.compose(text, Loader=Loader)
        if node is None:
            return None
        _weigh(node, name, [0], [])
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {error}") from None
    except RecursionError:
        raise UserError(f"{name} is not valid YAML: nested too deeply") from None
    except ValueError as error:  # a date or number that there is none of
        raise UserError(f"{name} is not valid YAML: {error}") from None


def _weigh(node: yaml.Node, name: str, count: list[int], above: list[int]) -> None:
    count[0] += 1
    if count[0] > MOST:
        raise UserError(f"{name} stands for more than {MOST} values (aliases of aliases)")
    if id(node) in above:
        line = node.start_mark.line + 1 if node.start_mark else "?"
        raise UserError(f"{name}, line {line}: an alias (*) that stands for itself")
    _only_one_number(node, name)
    if isinstance(node, yaml.MappingNode):
        seen: set[tuple[str, str]] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                _only_one_number(key, name)
                if (key.tag, key.value) in seen and key.value != "<<":
                    raise UserError(f"{name}, line {key.start_mark.line + 1}: the key {key.value!r} stands there twice")
                seen.add((key.tag, key.value))
            _weigh(value, name, count, [*above, id(node)])
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _weigh(value, name, count, [*above, id(node)])


def _only_one_number(node: yaml.Node, name: str) -> None:
    if older := ambiguous(node):
        text, line = node.value, node.start_mark.line + 1
        raise UserError(
            f"{name}, line {line}: {text} is {int(text.replace('_', ''))} by YAML 1.2 and {older} by YAML 1.1:"
            f' write the number without the 0 in front, or "{text}" in quotes for a text'
        )


def read_table(path: Path, columns: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """A CSV file's table; ``columns`` must be there and hold numbers.

    Raises
    ------
    UserError
        where it is missing, no table, or has no such columns.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, **options)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {RUN_STAGE}") from None
    except ValueError as error:  # pandas' own, and an encoding
        raise UserError(f"{path} is no table (CSV): {' '.join(str(error).split())}; {RUN_STAGE}") from None
    _same_fields(path)
    if absent := [column for column in columns if column not in table]:
        raise UserError(f"{path} has no columns {', '.join(absent)}: {RUN_STAGE}")
    if bad := [column for column in columns if len(table) and not pd.api.types.is_numeric_dtype(table[column])]:
        raise UserError(f"{path} has a text where a number belongs, in column {bad[0]}: {RUN_STAGE}")
    return table


def _same_fields(path: Path) -> None:
    """Refuse a table of rows that lack fields: pandas makes them empty ones."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        count = len(next(reader, []))
        if any(len(row) != count for row in reader if row):
            raise UserError(f"{path}, line {reader.line_num}: another number of fields than the header; {RUN_STAGE}")


def read_tensors(path: Path, finite: bool = True) -> dict[str, Tensor]:
    """A safetensors file's tensors, on the CPU.

    Raises
    ------
    UserError
        where it is missing, torn, or (``finite``) holds numbers that are none.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {RUN_STAGE}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} holds no whole tensors ({error}): dvc checkout restores it") from None
    bad = [n for n, t in sorted(tensors.items()) if finite and t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise UserError(f"{path} holds numbers that are none (NaN) in {bad[0]}: dvc checkout restores it")
    return tensors


def lacking(path: Path, found: Mapping[str, Any], wanted: Mapping[str, type]) -> None:
    """Refuse a JSON object whose values are not of the wanted types.

    Raises
    ------
    UserError
        naming the first key that lacks or is of another type.
    """
    for key, kind in wanted.items():
        if key not in found:
            raise MissingKey(f"{path} has no key {key!r}: it is damaged, or of another version; {RUN_STAGE}")
        if not isinstance(found[key], kind) or (kind is int and isinstance(found[key], bool)):
            raise UserError(f"{path}: {key} should be {WORDS[kind]}, found {json.dumps(found[key], default=str)[:60]}")


WORDS = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}
