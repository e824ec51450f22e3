"""One rule for YAML: what DVC records of a file is what the package reads of it, and of dvc.lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, loads_yaml
from hypothesis import example, given
from hypothesis import strategies as st

from partsynth.errors import UserError
from partsynth.store.reading import parse_yaml
from partsynth.store.yaml_rule import FastLoader, dump_yaml, load_yaml

ROOT = Path(__file__).parents[2]
DIFFER = [
    *("no", "yes", "on", "off", "NO", "Off", "1e-3", "1E5", "1.5e3", "12e03", "010", "-010", "0755", "09"),
    *("0o10", "+0o7", "12:30", "1:30:00", "12:30.5", "-.5"),
]
SAME = [
    *("3", "-7", "+1", "0", "00", "0.5", "1.", ".5", "5.0e-4", "-.inf", ".nan", "0x1F", "0b11", "1_000", "true"),
    *("False", "null", "~", "y", "N", "gear", "2024-01-01", "1e", "_", ".5e3"),
]


def ours(text: str) -> Any:
    try:
        return repr(load_yaml(text))
    except (ValueError, yaml.YAMLError):
        return "none"


def theirs(text: str) -> Any:
    from ruamel.yaml import YAMLError

    try:
        return repr(loads_yaml(text))
    except (ValueError, YAMLError):
        return "none"


@pytest.mark.parametrize("value", [*DIFFER, *SAME])
def test_plain_values_are_those_of_dvc_also_in_its_lock(value: str) -> None:
    text = f"a: {value}\n{value}: b\n"
    assert ours(text) == theirs(text)
    recorded = dumps_yaml(loads_yaml(text))
    assert repr(load_yaml(recorded)) == repr(yaml.load(recorded, Loader=FastLoader)) == theirs(text)
    assert (repr(yaml.safe_load(text)) != ours(text)) == (value in DIFFER)


@given(st.text("+-._:0123456789abeExXoOnNyYsftrulT", min_size=1, max_size=6))
@example("0o_")
def test_drawn_values_are_those_of_dvc(value: str) -> None:
    assert ours(f"a: {value}") == theirs(f"a: {value}")


@given(st.dictionaries(st.text(max_size=5), st.text("+-._:0123456789eExonyfs", max_size=6) | st.floats(-9, 9)))
def test_what_is_written_is_read_alike_by_every_rule(content: dict[str, Any]) -> None:
    text = dump_yaml(content)
    assert load_yaml(text) == yaml.safe_load(text) == loads_yaml(text) == content


@pytest.mark.parametrize(("value", "older"), [("010", "8"), ("-0755", "-493"), ("09", "a text"), ("0_12", "10")])
def test_a_number_that_is_two_is_refused(value: str, older: str) -> None:
    with pytest.raises(UserError, match=rf"params.yaml, line 2: {value} is -?\d+ by YAML 1.2 and {older} by YAML 1.1"):
        parse_yaml(f"train:\n  seed: {value}\n", "params.yaml")
    with pytest.raises(UserError, match="line 1"):
        parse_yaml(f"{value}: gear\n", "params.yaml")
    assert parse_yaml(f"a: '{value}'\nb: [00, 0, 0.10, 0x10]\n", "x") == {"a": value, "b": [0, 0, 0.1, 16]}


def test_a_file_that_asks_for_the_older_rule_is_refused() -> None:
    with pytest.raises(UserError, match="take that line out"):
        parse_yaml("%YAML 1.1\n---\na: no\n", "params.yaml")


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted(ROOT.glob("presets/*.yaml"))], ids=lambda p: p.stem)
def test_shipped_parameters_are_the_same_by_both_rules(path: Path) -> None:
    text = path.read_text()
    assert load_yaml(text) == yaml.safe_load(text) == loads_yaml(text)
