"""`partsynth params`: every key is explained."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from partsynth.config import help
from partsynth.config.params import Params
from partsynth.config.sets import set_models
from partsynth.errors import UserError


def models() -> list[type[BaseModel]]:
    """All that params.yaml is made of."""
    found: list[type[BaseModel]] = []

    def visit(kind: Any) -> None:
        if get_origin(kind) is Annotated or get_args(kind):
            for part in get_args(kind):
                visit(part)
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found.append(kind)
            for field in kind.model_fields.values():
                visit(field.annotation)

    for kind in (Params, *set_models().values()):
        visit(kind)
    return found


@pytest.mark.parametrize("model", [m for m in models() if m is not Params], ids=lambda model: model.__name__)
def test_every_key_has_a_docstring(model: type[BaseModel]) -> None:
    assert model.__doc__
    for name, field in model.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            assert field.description, name
            assert field.description[0].isupper() and field.description.endswith("."), name


@pytest.mark.parametrize("section", Params.model_fields)
def test_every_key_of_a_section_is_shown(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    help.show(section)
    text = capsys.readouterr().out
    assert text.strip().startswith(section)
    kind = Params.model_fields[section].annotation
    for name in getattr(kind, "model_fields", {}):
        assert name in text


def test_a_key_is_told_with_default_type_bounds_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    help.show("render")
    text = " ".join(capsys.readouterr().out.split())
    assert "size = 72 (whole number 32 to 512) Pixels per side of the raw image, before the ROI crop." in text
    assert "instances.train = 8 (whole number >= 1) Parts per target class for training." in text


def test_entries_of_a_mapping_are_shown_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    help.show("benchmark")
    text = capsys.readouterr().out
    assert "setups.<name>.adds = (required)" in text
    help.show("select")
    assert "select.<name>: " in capsys.readouterr().out


def test_an_unknown_section_is_a_users_error() -> None:
    with pytest.raises(UserError, match="no section 'trane', did you mean train; there are render, ingest"):
        help.show("trane")
