from __future__ import annotations

import pytest

from partsynth.sources.base import class_name


@pytest.mark.parametrize(
    ("name", "expected"), [("brake disc (rear)", "brake_disc_rear"), ("Zahnräder", "Zahnräder"), ("a/../b", "a_.._b")]
)
def test_class_names_are_fit_for_files(name, expected):
    assert class_name(name) == expected


def test_long_names_are_cut_by_bytes_and_told_apart():
    """File systems take 255 bytes, and names grow: three bytes for each of these characters."""
    one, two = class_name("二手齿轮箱" * 20), class_name("二手齿轮箱" * 20 + "轴")
    assert one != two and all(len(name.encode()) <= 100 for name in (one, two))
    assert class_name("x" * 100) == "x" * 100
