"""Differences between setups over the draws of several benchmarks, from their stored predictions.

    python benchmarks/pooled.py reports/benchmark-61-predictions.csv.gz reports/benchmark-predictions.csv.gz

prints a table, in points: the mean over all draws of all runs and its t interval over draws alone. Runs that differ in
more than their draws (steps, say) are averaged as if they did not, and which parts and variants were photographed is
not in the interval: this explores, after the runs, and is no test of what they were to decide.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PAIRS = ("real_id:real", "real_id_negatives:real_id", "real_id_negatives:real_id_head")
MEASURES = {"test": "accuracy, test", "shifted": "accuracy, shifted", "near_test": "near-OOD AUROC"}


def by_draw(table: pd.DataFrame, score: str) -> pd.DataFrame:
    """Accuracies (balanced over classes) and near-OOD AUROC of each setup and draw, means over its initialisations;
    index (setup, draw), columns ``MEASURES``."""
    import pandas as pd

    from partsynth.core.evaluation.metrics import auroc

    table = table[table.shots == 0] if "shots" in table else table
    found = []
    for (setup, draw, _), rows in table.groupby(["setup", "draw" if "draw" in table else "seed", table.seed]):
        parts = dict(list(rows.groupby("part")))
        made = {"setup": setup, "draw": draw}
        for part in ("test", "shifted"):
            if part in parts:
                right = parts[part].predicted == parts[part].class_name
                made[part] = right.groupby(parts[part].class_name).mean().mean()
        if "near_test" in parts:
            made["near_test"] = auroc(parts["test"][score], parts["near_test"][score])
        found.append(made)
    return pd.DataFrame(found).groupby(["setup", "draw"]).mean()


def differences(runs: Sequence[pd.DataFrame], setup: str, base: str) -> pd.DataFrame:
    """Of each run's draws that have both setups, the differences, one row a draw."""
    import pandas as pd

    return pd.concat([(run.loc[setup] - run.loc[base]).dropna(how="all") for run in runs], ignore_index=True)


def page(found: dict[tuple[str, str], pd.DataFrame]) -> str:
    """The table as Markdown, in points."""
    from partsynth.core.evaluation.intervals import t_interval

    lines = ["| difference | draws | " + " | ".join(MEASURES.values()) + " |", "|---" * (2 + len(MEASURES)) + "|"]
    for (setup, base), table in found.items():
        cells = []
        for part in MEASURES:
            values = table[part].dropna() if part in table else []
            if len(values) < 2:
                cells.append("")
                continue
            one = t_interval([100 * value for value in values])
            cells.append(f"{one.mean:+.1f} ({one.low:+.1f} to {one.high:+.1f})")
        lines.append(f"| `{setup}` minus `{base}` | {len(table)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    from partsynth.errors import UserError
    from partsynth.evaluation.predictions import read_predictions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, nargs="+", help="of benchmarks")
    parser.add_argument("--pairs", nargs="+", default=PAIRS, metavar="SETUP:BASE")
    parser.add_argument("--score", default="mahalanobis", help="column of the OOD score, the same in all runs")
    args = parser.parse_args(arguments)
    runs = []
    for path in args.predictions:
        try:
            table = read_predictions(path)
        except UserError as error:
            raise SystemExit(f"error: {error}") from None
        if args.score not in table:
            raise SystemExit(f"error: {path} has no score {args.score}")
        runs.append(by_draw(table, args.score))
    found = {}
    for pair in args.pairs:
        setup, _, base = pair.partition(":")
        for path, run in zip(args.predictions, runs, strict=True):
            if lacking := sorted({setup, base} - set(run.index.get_level_values("setup"))):
                raise SystemExit(f"error: {path} has no setup {', '.join(map(repr, lacking))}")
        found[setup, base] = differences(runs, setup, base)
    print(page(found))


if __name__ == "__main__":
    main()
