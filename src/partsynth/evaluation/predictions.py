"""The table of predictions: one row per trained model and image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.config.evaluation import Evaluate
from partsynth.errors import UserError
from partsynth.evaluation.results import Summary
from partsynth.evaluation.summary import summarise, summarise_replicates
from partsynth.seams import SCORES
from partsynth.store.files import csv_text
from partsynth.store.hashing import sha256_file

if TYPE_CHECKING:
    import pandas as pd

WORDS = ("setup", "part", "path", "class_name", "group", "predicted", "knn_predicted")
NUMBERS = ("seed", "confidence")


@dataclass(frozen=True)
class Prediction:
    """What one model makes of one image."""

    setup: str
    seed: int
    part: str  # a split, near_val, near_test, far_val, far_test, or set_<name>
    path: str
    class_name: str
    group: str  # physical part or spot of the real image it is, or was made from
    predicted: str  # class of the linear probe
    knn_predicted: str  # class of the nearest training images
    confidence: float  # the largest softmax probability
    scores: dict[str, float]  # OOD scores, a column each


def to_csv(rows: Sequence[Prediction]) -> str:
    """Six significant digits: below them, machines and thread counts differ."""
    columns = [name for name in Prediction.__dataclass_fields__ if name != "scores"]
    values = ([*(getattr(row, name) for name in columns), *row.scores.values()] for row in rows)
    text = ([f"{value:.6g}" if isinstance(value, float) else value for value in line] for line in values)
    return csv_text([*columns, *rows[0].scores], text)


def read_predictions(source: Path | io.StringIO) -> pd.DataFrame:
    """The table of predictions, columns as in ``Prediction`` with each OOD score as one.

    A benchmark's has more columns (shots, against), is compressed, and leaves out scores that no figure needs. A score
    may have no column: predictions may be older than it.

    Raises
    ------
    UserError
        where the file is missing or no such table.
    """
    import pandas as pd

    empty = {name: [""] for name in SCORES}
    try:
        table = pd.read_csv(
            source, dtype=dict.fromkeys([*WORDS, "against"], str), keep_default_na=False, na_values=empty
        )
    except FileNotFoundError:
        raise UserError(f"{source} is missing: run the evaluate stage (dvc repro)") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{source} cannot be read as a table of predictions: {error}") from None
    missing = sorted({*WORDS, *NUMBERS} - set(table.columns))
    if missing:
        raise UserError(f"{source} has no columns {', '.join(missing)}: it is not a table of predictions")
    for name in [*NUMBERS, *(score for score in SCORES if score in table)]:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(f"{source} has a text where a number belongs, in column {name}: dvc repro evaluate")
    for name in ("seed", *(["shots"] if "shots" in table else [])):
        if not pd.api.types.is_integer_dtype(table[name]):
            raise UserError(f"{source} has other than whole numbers in column {name}: dvc repro evaluate")
    of_model = [name for name in ("setup", "shots", "seed") if name in table]
    every, tested = (
        {*rows[of_model].itertuples(index=False, name=None)} for rows in (table, table[table.part == "test"])
    )
    if lacking := sorted(every - tested):
        setup = lacking[0][0][:40]
        raise UserError(f"{source} has no prediction of the part test by setup {setup!r}: dvc repro evaluate")
    return table


def recompute(predictions: Path, params: Evaluate | None = None) -> Summary:
    """The summary from the stored predictions alone, a BenchmarkSummary from a benchmark's.

    It has no runs, choices and data; the verdict names the setups, as the file does not hold what they were trained on.
    """
    table, params = read_predictions(predictions), params or Evaluate()
    found = summarise_replicates(table, params) if "shots" in table else summarise(table, params, None)
    return found.model_copy(update={"predictions_sha256": sha256_file(predictions)})
