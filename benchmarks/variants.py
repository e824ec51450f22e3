"""What a setup changes for each unseen variant: near-OOD AUROC beside that of its base, from stored predictions.

    python benchmarks/variants.py reports/benchmark-predictions.csv.gz --setup real_id_negatives --base real_id

prints a table, in per cent and points: the mean over draws, and the least and the largest gain of a draw. It explores:
nothing that is chosen may look at the benchmark's variants.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def gains(table: pd.DataFrame, setup: str, base: str, score: str) -> pd.DataFrame:
    """One row per unseen variant: both setups' AUROC, the mean over draws of that over initialisations, and the least
    and the largest gain of a draw; the largest gain first."""
    import pandas as pd

    from partsynth.core.evaluation.metrics import auroc

    table = table[table.shots == 0] if "shots" in table else table
    draws = table["draw" if "draw" in table else "seed"]
    found: dict[str, dict[tuple[int, str], list[float]]] = {}
    for (draw, _, name), rows in table[table.setup.isin([setup, base])].groupby([draws, table.seed, table.setup]):
        inside = rows[rows.part == "test"][score]
        for variant, outside in rows[rows.part == "near_test"].groupby("class_name"):
            found.setdefault(str(variant), {}).setdefault((draw, name), []).append(auroc(inside, outside[score]))
    made = []
    for variant, by_draw in found.items():
        means = {key: float(np.mean(values)) for key, values in by_draw.items()}
        both = [draw for draw, name in means if name == setup and (draw, base) in means]
        if not both:
            continue
        each = [means[draw, setup] - means[draw, base] for draw in both]
        was, now = (float(np.mean([means[draw, name] for draw in both])) for name in (base, setup))
        made.append(
            {"variant": variant, base: was, setup: now, "gain": now - was, "least": min(each), "most": max(each)}
        )
    table = pd.DataFrame(made, columns=["variant", base, setup, "gain", "least", "most"])
    return table.sort_values(["gain", "variant"], ascending=[False, True], ignore_index=True)


def page(found: pd.DataFrame, setup: str, base: str) -> str:
    """The table as Markdown, in per cent and points."""
    lines = [f"| variant | `{base}` | `{setup}` | gain (draws) |", "|---|---|---|---|"]
    for row in found.to_dict("records"):
        was, now, gain, least, most = (100 * row[key] for key in (base, setup, "gain", "least", "most"))
        lines.append(f"| {row['variant']} | {was:.1f} | {now:.1f} | {gain:+.1f} ({least:+.1f} to {most:+.1f}) |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    from partsynth.errors import UserError
    from partsynth.evaluation.predictions import read_predictions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="of a benchmark, or of a finished project's evaluate")
    parser.add_argument("--setup", default="real_id_negatives")
    parser.add_argument("--base", default="real_id")
    parser.add_argument("--score", default="knn", help="column of the OOD score")
    args = parser.parse_args(arguments)
    try:
        table = read_predictions(args.predictions)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    if lacking := sorted({args.setup, args.base} - set(table.setup)):
        raise SystemExit(f"error: the predictions have no setup {', '.join(lacking)}")
    if args.score not in table:
        raise SystemExit(f"error: the predictions have no score {args.score}")
    found = gains(table, args.setup, args.base, args.score)
    if found.empty:
        raise SystemExit(f"error: no draw has near-OOD images of both {args.setup} and {args.base}")
    print(page(found, args.setup, args.base))


if __name__ == "__main__":
    main()
