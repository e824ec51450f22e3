"""Times of images, and the windows that they fall into."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from partsynth.errors import UserError
from partsynth.serving.windows import divide, parsed, times_of


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-03-04T05:06:07", 5),
        ("2026-03-04 05:06:07+02:00", 3),
        ("2026-03-04T05:06:07Z", 5),
        ("20260304T050607", 5),
        ("20260304_050607", 5),
        ("2026030405", 5),
        ("20260304", 0),
        ("1772600767", 5),
    ],
)
def test_a_time_is_read_in_the_usual_ways(text, hour):
    time = parsed(text)
    assert (time.year, time.month, time.day, time.hour, time.tzinfo) == (2026, 3, 4, hour, UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "20261399", "123", "2026-03-04T99:00"])
def test_what_is_no_time_is_none(text):
    assert parsed(text) is None


def test_times_come_from_names_columns_or_files(tmp_path):
    names = ["cam1/20260304T0506_a.png", "cam1/20260305T0506_b.png"]
    assert [t.day for t in times_of(names, [{}, {}], None, r"name:(\d{8}T\d{4})")] == [4, 5]
    rows = [{"path": n, "taken": f"2026-03-0{i}"} for i, n in enumerate(names, 1)]
    assert [t.day for t in times_of(names, rows, None, "column:taken")] == [1, 2]
    for i, name in enumerate(names):
        (tmp_path / "cam1").mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1772600767 + 86400 * i,) * 2)
    assert [t.day for t in times_of(names, [{}, {}], tmp_path, "mtime")] == [4, 5]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("clock", "allowed are mtime, name:REGEX and column:NAME"),
        ("name:(", "no regular expression"),
        ("name:x", "has no group"),
        (r"name:(\d{9})", "does not fit 1 files"),
        (r"name:(a)", "are no time"),
        ("column:when", "no column 'when'; it has path"),
        ("mtime", "1 files are not in"),
    ],
)
def test_what_cannot_be_told_is_named(tmp_path, how, why):
    with pytest.raises(UserError, match=why):
        times_of(["a.png"], [{"path": "a.png"}], tmp_path, how)
    with pytest.raises(UserError, match="needs the images' folder"):
        times_of(["a.png"], [{}], None, "mtime")


def test_windows_are_days_hours_or_so_many_images_in_the_order_of_time():
    times = [datetime(2026, 3, day, hour, tzinfo=UTC) for day, hour in ((2, 1), (1, 5), (1, 6), (1, 5))]
    names = ["a", "c", "d", "b"]
    assert divide(names, times, "day") == {"2026-03-01": [3, 1, 2], "2026-03-02": [0]}
    assert list(divide(names, times, "hour")) == ["2026-03-01 05:00", "2026-03-01 06:00", "2026-03-02 01:00"]
    assert list(divide(names, times, "3").values()) == [[3, 1, 2], [0]]
    for window in ("week", "0", "-1", "1.5"):
        with pytest.raises(UserError, match="allowed are day, hour, and a number"):
            divide(names, times, window)
