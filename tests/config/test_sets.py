"""What a set cannot aim at."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.params import faults
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"sets": {"a": {"strength": "automatic"}}}, "or should be 'auto'"),
        ({"sets": {"a": {"strength": "auto", "target": [0.9, 0.9]}}}, "sets.a.target: the lower end 0.9 is not below"),
        ({"sets": {"a": {"strength": "auto", "cap": 0}}}, "sets.a.cap"),
        ({"sets": {"a": {"strength": 0.5, "restore_sigma": 3.0}}}, "sets.a: restore_sigma is the cut-off of restore"),
        ({"sets": {"a": {"strength": 0.5, "restore": 1.0, "restore_sigma": -1.0}}}, "sets.a.restore_sigma"),
        ({"sets": {"a": {"strength": 0.5, "max_attempts": 4}}}, "sets.a: max_attempts is the limit of quota"),
        ({"sets": {"a": {"strength": 0.5, "quota": 5, "max_attempts": 4}}}, "sets.a: max_attempts is the limit of"),
        ({"sets": {"a": {"strength": 0.5, "edit": "context", "masked": True}}}, "sets.a: masked is edit: part"),
        ({"sets": {"a": {"strength": 0.5, "feather": 2.0}}}, "sets.a: feather is the edge of edit: context"),
        ({"sets": {"a": {"strength": 0.5, "edit": "background"}}}, "sets.a.edit"),
        ({"calibrate": {"min": 0.6, "max": 0.5}}, "calibrate: min 0.6 is not below max 0.5"),
    ],
)
def test_what_a_calibration_cannot_aim_at(tmp_path: Path, content: dict, text: str) -> None:
    assert text in faults(tmp_path, content)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=1 + 1e-9), st.text(), st.booleans()))
def test_bad_strengths_are_refused(tmp_path: Path, value: object) -> None:
    assert "sets.a.strength" in faults(tmp_path, {"sets": {"a": {"strength": value}}})
