from __future__ import annotations

import numpy as np
import pytest

from partsynth.quality.cache import read_cache, write_cache

COLUMNS = ("features", "sharpness")
ROWS = {"b": (np.arange(3, dtype=np.float32), 0.5), "a": (np.ones(3, np.float32), 0.25)}


def test_what_was_written_is_read_in_its_order(tmp_path):
    path = tmp_path / "new/cache.safetensors"
    write_cache(path, COLUMNS, ROWS)
    found = read_cache(path, COLUMNS)
    assert list(found) == ["b", "a"]
    for key, (features, sharpness) in ROWS.items():
        np.testing.assert_array_equal(found[key][0], features)
        assert found[key][1] == sharpness
    assert [row for (row,) in read_cache(path, ("sharpness",)).values()] == [0.5, 0.25]


def test_the_same_rows_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_cache(tmp_path / name, COLUMNS, ROWS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("damage", ["missing", "torn", "empty", "of other columns", "no cache"])
def test_a_cache_that_is_none_is_empty(tmp_path, damage):
    path = tmp_path / "cache"
    write_cache(path, ("other",) if damage == "of other columns" else ("features",), {"a": (np.ones(3),)})
    if damage == "missing":
        path.unlink()
    elif damage != "of other columns":
        path.write_bytes({"torn": path.read_bytes()[:40], "empty": b"", "no cache": b"x" * 200}[damage])
    assert read_cache(path, ("features",)) == {}


def test_no_rows_leave_no_file(tmp_path):
    write_cache(tmp_path / "cache", COLUMNS, ROWS)
    write_cache(tmp_path / "cache", COLUMNS, {})
    assert list(tmp_path.iterdir()) == []
