"""YAML that people wrote, edited: comments, quotes and the order of keys stay."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

from partsynth.errors import UserError

WIDTH = 2**16  # lines are never broken anew


def parsed(text: str, name: str = "dvc.yaml") -> Any:
    """Mappings and lists that know their comments; give them back to ``written``.

    Raises
    ------
    UserError
        where it is no YAML; ``name`` is how that is told.
    """
    try:
        return _form().load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{name} is not valid YAML: {told}") from None


def written(data: Any) -> str:
    """The text of what ``parsed`` gave; unchanged, it is the same text where sequences are indented by two."""
    buffer = io.StringIO()
    _form().dump(data, buffer)
    return buffer.getvalue()


def quoted(text: str) -> str:
    """A text that is written in double quotes."""
    return DoubleQuotedScalarString(text)


def verbatim(text: str) -> str:
    """A text that is written in single quotes, in which backslashes mean nothing."""
    return SingleQuotedScalarString(text)


def in_one_line(values: Sequence[str]) -> Any:
    """A list that is written as ["a", "b"]."""
    texts = CommentedSeq([quoted(value) for value in values])
    texts.fa.set_flow_style()
    return texts


def drop(mapping: Any, key: str) -> None:
    """Take a key out of a mapping, and the comment above it where it is the first."""
    if next(iter(mapping)) == key and mapping.ca.comment:
        mapping.ca.comment[1].clear()  # the mapping above holds the same list
    del mapping[key]


def _form() -> YAML:
    form = YAML()
    form.preserve_quotes = True
    form.width = WIDTH
    form.indent(mapping=2, sequence=4, offset=2)
    return form
