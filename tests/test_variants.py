"""The gain of each unseen variant, from predictions with known figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import variants


def table(draws: tuple[int, ...] = (1, 2)) -> pd.DataFrame:
    """Of ``gear`` the base tells half from the known images, the setup all in the last draw; of ``pump`` both all."""
    rows = []
    for draw in draws:
        for setup in ("real_id", "real_id_negatives"):
            better = setup != "real_id" and draw == draws[-1]
            for number, (part, name, score) in enumerate(
                [("test", "a", 1.0), ("test", "a", 3.0), ("near_test", "gear", 2.0), ("near_test", "gear", 2.0)]
                + [("near_test", "pump", 4.0)]
            ):
                rows.append(
                    {
                        "setup": setup,
                        "seed": 10 * draw,
                        "draw": draw,
                        "shots": 0,
                        "against": "",
                        "part": part,
                        "path": f"{number}.png",
                        "class_name": name,
                        "group": name,
                        "predicted": "a",
                        "knn_predicted": "a",
                        "confidence": 0.5,
                        "knn": 4.0 if better and name == "gear" else score,
                    }
                )
    return pd.DataFrame(rows)


def test_gains_are_means_over_draws_the_largest_first() -> None:
    found = variants.gains(table(), "real_id_negatives", "real_id", "knn")
    assert found.variant.tolist() == ["gear", "pump"]
    gear, pump = found.to_dict("records")
    assert (gear["real_id"], gear["real_id_negatives"]) == (0.5, 0.75)
    assert (gear["gain"], gear["least"], gear["most"]) == (0.25, 0.0, 0.5)
    assert (pump["real_id"], pump["gain"]) == (1.0, 0.0)


def test_few_shots_and_draws_without_both_setups_are_left_out() -> None:
    whole = table()
    few = table((3,)).assign(shots=2)
    alone = table((4,)).query("setup == 'real_id'")
    found = variants.gains(pd.concat([whole, few, alone]), "real_id_negatives", "real_id", "knn")
    pd.testing.assert_frame_equal(found, variants.gains(whole, "real_id_negatives", "real_id", "knn"))


def test_the_command_prints_the_table_and_names_what_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "predictions.csv"
    table().to_csv(path, index=False)
    variants.main([str(path)])
    assert "| gear | 50.0 | 75.0 | +25.0 (+0.0 to +50.0) |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no setup real_x"):
        variants.main([str(path), "--setup", "real_x"])
    apart = table().query("(setup == 'real_id') == (draw == 1)")
    apart.to_csv(tmp_path / "apart.csv", index=False)
    with pytest.raises(SystemExit, match="no draw has near-OOD images of both"):
        variants.main([str(tmp_path / "apart.csv")])
    with pytest.raises(SystemExit, match="no score energy"):
        variants.main([str(path), "--score", "energy"])
    with pytest.raises(SystemExit, match=r"none\.csv"):
        variants.main([str(tmp_path / "none.csv")])
