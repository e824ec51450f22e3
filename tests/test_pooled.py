"""Differences over the draws of two runs, from predictions with known figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pooled
import pytest


def table(right: dict[str, dict[int, int]]) -> pd.DataFrame:
    """Setup -> draw -> how many of four test images, two of each class, are recognised; the classes in turn."""
    rows = []
    for setup, draws in right.items():
        for draw, count in draws.items():
            for number in range(4):
                name = "ab"[number % 2]
                known = name if number < count else "x"
                rows += [(setup, draw, "test", name, known, 1.0), (setup, draw, "near_test", "n", "a", float(count))]
    made = pd.DataFrame(rows, columns=["setup", "draw", "part", "class_name", "predicted", "knn"])
    return made.assign(
        seed=10 * made.draw,
        shots=0,
        against="",
        path=[f"{n}.png" for n in range(len(made))],
        group=made.class_name,
        knn_predicted="a",
        confidence=0.5,
    )


FIRST = table({"real": {1: 1, 2: 1}, "real_id": {1: 3, 2: 2}})
SECOND = table({"real": {1: 0, 4: 4}, "real_id": {1: 4, 3: 1}})  # draws 3 and 4 have one setup each


def test_draws_of_all_runs_count_alike_where_they_have_both_setups() -> None:
    runs = [pooled.by_draw(one, "knn") for one in (FIRST, SECOND)]
    found = pooled.differences(runs, "real_id", "real")
    assert found.test.tolist() == [0.5, 0.25, 1.0]
    assert found.near_test.tolist() == [0.5, 0.5, 1.0]  # of scores 3, 2 and 4 against 1; of 1 and 0 it is 0.5 and 0


def test_initialisations_of_a_draw_are_averaged_and_few_shots_left_out() -> None:
    again = table({"real_id": {1: 1}}).assign(seed=11)
    few = table({"real_id": {1: 0}}).assign(seed=12, shots=2)
    found = pooled.by_draw(pd.concat([FIRST, again, few]), "knn")
    assert found.loc[("real_id", 1), "test"] == pytest.approx((0.75 + 0.25) / 2)


def test_the_command_prints_the_table_and_names_what_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / name) for name in ("first.csv", "second.csv")]
    for path, one in zip(paths, (FIRST, SECOND), strict=True):
        one.to_csv(path, index=False)
    pooled.main([*paths, "--pairs", "real_id:real", "--score", "knn"])
    assert "| `real_id` minus `real` | 3 | +58.3 (-36.5 to +153.2) |  | +66.7" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"first\.csv has no setup 'real_x'"):
        pooled.main([*paths, "--pairs", "real_x:real", "--score", "knn"])
    with pytest.raises(SystemExit, match=r"first\.csv has no score vim"):
        pooled.main([*paths, "--score", "vim"])
    with pytest.raises(SystemExit, match=r"none\.csv"):
        pooled.main([str(tmp_path / "none.csv")])
