"""The benchmark's files: predictions, figures, picture and page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from partsynth.benchmark.join import compressed, join
from partsynth.benchmark.plan import Replicate
from partsynth.benchmark.summary import figures, summarise_benchmark
from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.evaluation.results import BenchmarkSummary, read_benchmark
from partsynth.reporting.benchmark import page
from partsynth.reporting.benchmark_figure import picture
from partsynth.store.files import write_bytes_atomic, write_json, write_text_atomic
from partsynth.store.hashing import sha256_file


def report(
    params: Params,
    replicates: Sequence[Replicate],
    work: Path,
    out: Path,
    stem: str,
    command: str,
    planned: int | None = None,
) -> Path:
    """Join the replicates in ``work``, summarise, write ``out``/``stem``.*; returns the page.

    Parameters
    ----------
    planned : replicates that there will be; None = these are all
    """
    predictions = out / f"{stem}-predictions.csv.gz"
    write_bytes_atomic(predictions, compressed(join(params, replicates, work)))
    return _write(summarise_benchmark(params, replicates, work, predictions, command, planned), out, stem)


def report_again(params: Params, out: Path, stem: str) -> Path:
    """Figures, picture and page anew from the predictions of a finished run, after a change of what is computed from
    them; nothing runs. Returns the page.

    Raises
    ------
    UserError
        where there is no such run, or its predictions are not those that its figures name.
    """
    was, predictions = read_benchmark(out / f"{stem}.json"), out / f"{stem}-predictions.csv.gz"
    if was.benchmark is None:
        raise UserError(f"{out / stem}.json is of predictions alone: partsynth benchmark writes it anew")
    if not predictions.is_file() or sha256_file(predictions) != was.predictions_sha256:
        raise UserError(f"{predictions} is missing or not what {stem}.json was computed from: run the benchmark again")
    return _write(figures(params, predictions, was.benchmark), out, stem)


def _write(summary: BenchmarkSummary, out: Path, stem: str) -> Path:
    write_json(out / f"{stem}.json", summary.dump())
    write_bytes_atomic(out / f"{stem}.png", picture(summary))
    write_text_atomic(out / f"{stem}.md", page(summary, stem))
    print(f"benchmark: wrote {out / stem}.md, .json and .png, from {summary.predictions}")
    return out / f"{stem}.md"
