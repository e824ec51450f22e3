"""The table of predictions: one row per run and image."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.config.training import Evaluate
from partsynth.core.evaluation import ood as scoring
from partsynth.errors import UserError
from partsynth.evaluation.results import Summary
from partsynth.evaluation.summary import summarise, summarise_replicates
from partsynth.store.hashing import sha256_file

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS = "predictions.csv"


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Six significant digits: below them, machines and thread counts differ."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return buffer.getvalue()


def read_predictions(source: Path | io.StringIO) -> pd.DataFrame:
    """The table of predictions: one row a run and picture, columns as in ``_rows``; a benchmark's has more of them,
    is compressed, and leaves out scores that no figure needs."""
    import pandas as pd

    words = dict.fromkeys(["setup", "part", "path", "class_name", "group", "predicted", "knn_predicted"], str)
    empty = {name: [""] for name in scoring.SCORES}
    try:
        table = pd.read_csv(source, dtype=words | {"against": str}, keep_default_na=False, na_values=empty)
    except FileNotFoundError:
        raise UserError(f"{source} is missing: run the evaluate stage (dvc repro)") from None
    missing = sorted({*words, "seed", "confidence", *scoring.SCORES} - set(table.columns))
    if missing:
        raise UserError(f"{source} has no columns {', '.join(missing)}: it is not a table of predictions")
    return table


def recompute(predictions: Path, params: Evaluate | None = None) -> Summary:
    """The summary from the stored predictions alone, a BenchmarkSummary from a benchmark's.

    It has no runs, choices and data; the verdict names the setups, as the file does not hold what they were trained on.
    """
    table, params = read_predictions(predictions), params or Evaluate()
    found = summarise_replicates(table, params) if "shots" in table else summarise(table, params, None)
    return found.model_copy(update={"predictions_sha256": sha256_file(predictions)})
