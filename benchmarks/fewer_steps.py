"""Whether fewer training steps would do: setups of finished projects, trained again with fewer.

Each project is a replicate; its own models are what they are compared with, on its own test images. Two starts with
other projects may run side by side, and a second start goes on.

    python benchmarks/fewer_steps.py --projects .work/benchmark/benchmark/all-seed7* --steps 300

prints the differences in points and writes them to reports/fewer-steps.md. The demo's number of steps is decided by it,
on the benchmark's draws 71 to 76, by a rule that is older than the run: 300 in the place of 400 where in the mean over
draws `real_id` loses at most one point of test and one of shifted accuracy by them, and at most one of its gain of
shifted accuracy over `real`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pooled
import repository
import upper_bound

WORK = ".work/fewer_steps"  # of a project: what is made in it


def replicate(root: Path, setups: Sequence[str], steps: int) -> Any:
    """Predictions of the project's models of these setups, and of those trained again, as SETUP_STEPS."""
    from partsynth.config.load import load_all
    from partsynth.evaluation.runs import ModelRun
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import SelectedRecord
    from partsynth.store.layout import CLASSIFIERS, SELECTED

    params = load_all(root / "params.yaml")
    runs = []
    for setup in setups:
        rows = read_manifest(root / SELECTED / f"{setup}.csv", SelectedRecord)
        wanted = params.select[setup].training(params.train).model_copy(update={"steps": steps, "eval_every": steps})
        fewer, name = params.model_copy(update={"train": wanted}), f"{setup}_{steps}"
        for seed in params.matrix.seeds:
            print(f"{root.name}: {setup}, seed {seed}, {steps} steps", flush=True)
            runs.append(ModelRun(setup, seed, root / CLASSIFIERS / setup / str(seed)))
            runs.append(ModelRun(name, seed, upper_bound.train(root, fewer, rows, name, seed, WORK)))
    runs.sort(key=lambda run: (run.setup, run.seed))
    table = upper_bound.predictions(root, params, runs)
    table["draw"] = root.name
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    import pandas as pd

    from partsynth.store.files import write_text_atomic

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=Path, nargs="+", required=True, help="finished projects")
    parser.add_argument("--setups", nargs="+", default=["real", "real_id"])
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--score", default="mahalanobis", help="the OOD score")
    parser.add_argument("--out", type=Path, default=Path("reports/fewer-steps.md"))
    args = parser.parse_args(arguments)

    table = pd.concat([replicate(root.resolve(), args.setups, args.steps) for root in args.projects])
    figures = pooled.by_draw(table, args.score)
    pairs = [(f"{setup}_{args.steps}", setup) for setup in args.setups]
    for above, below in zip(args.setups[1:], args.setups[:-1], strict=True):
        pairs += [(above, below), (f"{above}_{args.steps}", f"{below}_{args.steps}")]
    found = {pair: pooled.differences([figures], *pair) for pair in pairs}
    command = shlex.join(["python", os.path.relpath(__file__), *(arguments or sys.argv[1:])])
    about = f"Commit {repository.commit(repository.WHOLE)}; points, t intervals over draws."
    text = f"# {args.steps} training steps\n\n    {command}\n\n{about}\n\n{pooled.page(found)}\n"
    write_text_atomic(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
