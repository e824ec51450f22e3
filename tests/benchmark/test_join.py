"""The joined predictions: one row per image and run, the same bytes again, small enough to commit."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from helpers.replicates import finished, loaded, small_report

from partsynth.benchmark import plan
from partsynth.benchmark.join import compressed, join
from partsynth.benchmark.plan import Replicate
from partsynth.benchmark.report import report
from partsynth.errors import UserError
from partsynth.seams import SCORES


def test_the_files_are_the_same_bytes_again(tmp_path: Path) -> None:
    out = small_report(tmp_path)
    path = out / "small-predictions.csv.gz"
    settings = loaded(tmp_path)
    replicates = plan.plan(settings, quick=False)
    before = {p: p.read_bytes() for p in out.iterdir()}
    report(settings, replicates, tmp_path / "work", out, "small", "partsynth benchmark")
    assert {p: p.read_bytes() for p in out.iterdir()} == before
    assert path.read_bytes()[4:8] == bytes(4)  # no time in the gzip header
    header, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    columns = header.split(",")
    parts = [row.split(",")[columns.index("part")] for row in rows]
    assert set(parts) == {"val", "test", "shifted", "near_test", "far_test", "set_near_ood"}


def test_a_stale_replicate_is_not_joined(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    replicates = plan.plan(settings, quick=True)
    finished(tmp_path, replicates)
    changed = [Replicate(r.folder, r.seed, r.shots, (*r.setups, "real_neg")) for r in replicates]
    with pytest.raises(UserError, match="other seeds or setups"):
        join(settings, changed, tmp_path)


def test_a_full_benchmarks_predictions_stay_below_five_megabytes() -> None:
    """By the bytes a row of the busiest parts takes: 80 models, 1,250 pictures."""
    import pandas as pd

    rng = np.random.default_rng(0)
    pictures = [(f"data/real/test/gear_t{i % 12}/part{i // 12:02}_cam0.png", f"gear_t{i % 12}") for i in range(60)]
    models = [(f"real_id_setup{m // 5}", m % 5) for m in range(80)]
    rows = [
        (s, n, 0, "real_id", "test", p, c, f"{c}/test/part", c, c, *rng.lognormal(size=8))
        for p, c in pictures
        for s, n in models
    ]
    columns = ["setup", "seed", "shots", "against", "part", "path", "class_name", "group", "predicted", "knn_predicted"]
    table = pd.DataFrame(rows, columns=[*columns, "confidence", *(s for s in SCORES if SCORES[s].always)])
    assert len(compressed(table)) / len(rows) * 80 * 1250 < 5e6
