"""Images with a fingerprint inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partsynth.store.hashing import sha256_file
from partsynth.store.png import png_fingerprint, write_png

RELAXED = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@RELAXED
@given(mark=st.text(st.characters(codec="latin-1", exclude_categories=("C",)), min_size=1, max_size=64))
def test_a_picture_carries_its_fingerprint(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "a.png"
    sha = write_png(path, np.zeros((4, 5, 3), np.uint8), mark)
    assert png_fingerprint(path) == mark
    assert sha256_file(path) == sha


def test_a_torn_picture_has_no_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    write_png(path, rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), "mark")
    path.write_bytes(path.read_bytes()[:-200])
    assert png_fingerprint(path) is None
    assert png_fingerprint(tmp_path / "none.png") is None
    path.write_bytes(b"")
    assert png_fingerprint(path) is None
