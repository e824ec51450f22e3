from __future__ import annotations

import csv
import io
import math

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from partsynth.training.curves import curves_png, history_csv
from partsynth.training.result import Measurement

figures = st.floats(allow_nan=True)


@given(st.lists(st.builds(Measurement, st.integers(1, 10**6), figures, figures, figures, figures), max_size=4))
def test_a_history_loses_no_bit(history: list[Measurement]) -> None:
    rows = list(csv.DictReader(io.StringIO(history_csv(history))))
    assert len(rows) == len(history)
    for row, m in zip(rows, history, strict=True):
        assert int(row.pop("step")) == m.step
        for name, text in row.items():
            value = getattr(m, name)
            assert float(text) == value or (math.isnan(float(text)) and math.isnan(value))


def test_curves_are_an_image_of_the_same_bytes_each_time() -> None:
    history = [Measurement(4, 3.0, 1e-3, 0.5, math.nan), Measurement(8, 2.0, 5e-4, 0.25, 0.5)]
    first, again = curves_png(history, "real, seed 0"), curves_png(history, "real, seed 0")
    assert first == again and Image.open(io.BytesIO(first)).size == (770, 286)
