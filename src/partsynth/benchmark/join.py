"""All replicates' predictions in one table."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.benchmark.plan import CHOSEN_ON, PARTS, UNSCORED, Replicate, changes
from partsynth.config.evaluation import AUTO
from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.evaluation.metrics import STUDY_PART
from partsynth.evaluation.predictions import read_predictions
from partsynth.seams import SCORES
from partsynth.store.layout import Layout

if TYPE_CHECKING:
    import pandas as pd


def join(params: Params, replicates: Sequence[Replicate], work: Path) -> pd.DataFrame:
    """The replicates' predictions as one table, with more columns, as ``summarise_replicates`` reads it.

    Rows of one image follow one another, which is what compresses well. Left out are scores of images of which the
    confidence alone is told, and OOD validation images, unless the OOD score is chosen on them.

    Raises
    ------
    UserError
        where a replicate was evaluated with other seeds or setups than are planned.
    """
    import pandas as pd

    against: dict[str, list[str]] = {}
    for name, base in changes(params):
        against.setdefault(name, []).append(base)
    order = {name: position for position, name in enumerate(params.benchmark.setups)}
    tables = []
    for replicate in replicates:
        path = Layout(work / replicate.folder).predictions
        table = read_predictions(path)
        if set(table.seed) != set(replicate.seeds) or not set(table.setup) >= set(replicate.setups):
            raise UserError(f"{path} has other seeds or setups than the replicate: start the benchmark again")
        table = table[table.setup.isin(replicate.setups)].reset_index(drop=True)
        table.insert(2, "shots", replicate.shots or 0)
        table.insert(3, "against", [";".join(against.get(name, [])) for name in table.setup])
        if replicate.initialisations > 1:
            table.insert(4, "draw", replicate.seed)
        tables.append(table)
    whole = [t for t, r in zip(tables, replicates, strict=True) if r.shots is None]
    # its figure is a mean over replicates, so all of them must have the set
    chosen = params.evaluate.headline_score == AUTO
    parts = [
        *PARTS,
        *(CHOSEN_ON if chosen else ()),
        *([STUDY_PART] if all((t.part == STUDY_PART).any() for t in whole) else []),
    ]
    rank = {part: position for position, part in enumerate(("test", *(p for p in parts if p != "test")))}
    table = pd.concat([t[t.part.isin(parts) & ((t.shots == 0) | (t.part != STUDY_PART))] for t in tables])
    for score in table.columns.intersection(list(SCORES)):
        table[score] = table[score].mask(table.part.isin([STUDY_PART] if chosen else UNSCORED))
    keys = [table.part.map(rank), table.path, table.shots, table.setup.map(order), table.seed]
    columns = pd.DataFrame({str(i): key.to_numpy() for i, key in enumerate(keys)})
    rows = columns.sort_values([str(i) for i in range(len(keys))], kind="stable").index
    return table.iloc[rows].reset_index(drop=True)


def compressed(table: pd.DataFrame) -> bytes:
    """The table as CSV in gzip: the same bytes for the same table."""
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return gzip.compress(text.encode(), 9, mtime=0)
