"""Models evaluated by several processes: what each found of its models goes to the first one as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from partsynth.evaluation.looks import Look
from partsynth.evaluation.plot_data import MapPoint, Points
from partsynth.evaluation.predictions import Prediction
from partsynth.evaluation.results import Choice, EvaluatedRun
from partsynth.evaluation.runs import ModelRun
from partsynth.store import workers
from partsynth.store.files import write_text_atomic
from partsynth.store.reading import read_object


@dataclass(frozen=True)
class OfRun:
    """What one model makes of all parts."""

    run: EvaluatedRun
    choice: Choice
    rows: list[Prediction]
    points: Points | None = None  # of a setup's first seed
    looks: list[Look] = field(default_factory=list)  # of a setup's first seed

    def dump(self) -> dict[str, Any]:
        """For JSON, which keeps every digit of a number."""
        points = self.points and {"rows": self.points.rows, "features": self.points.features.tolist()}
        told = {"run": self.run.dump(), "choice": self.choice.dump(), "points": points, "looks": self.looks}
        return told | {"rows": [asdict(row) for row in self.rows]}

    @classmethod
    def load(cls, told: dict[str, Any]) -> OfRun:
        points = told["points"]
        return cls(
            run=EvaluatedRun.model_validate(told["run"]),
            choice=Choice.model_validate(told["choice"]),
            rows=[Prediction(**row) for row in told["rows"]],
            points=points and Points([MapPoint(*row) for row in points["rows"]], np.array(points["features"])),
            looks=[Look(*look) for look in told["looks"]],
        )


def evaluated_together(runs: Sequence[ModelRun], folder: Path, evaluate: Callable[[ModelRun], OfRun]) -> list[OfRun]:
    """Each model's results, in their order; in other processes than the first those of its own models alone.

    Parameters
    ----------
    folder : for the other processes' results until the first has read them
    """
    here, found = workers.here(), {}
    files = {run: folder / f"{run.setup}-{run.seed}.json" for run in runs}
    with Progress(transient=True) as progress:
        task, tally = progress.add_task("evaluating", total=len(runs)), here.tally()
        for run in here.dealt(runs):
            found[run] = evaluate(run)
            if not here.first:
                write_text_atomic(files[run], json.dumps(found[run].dump()))
            progress.update(task, completed=tally.add())
        here.barrier(lambda: progress.update(task, completed=tally.sum()))
    if here.first:
        for run in runs:
            if run not in found:
                found[run] = OfRun.load(read_object(files[run]))
                files[run].unlink()
    return [found[run] for run in runs if run in found]
