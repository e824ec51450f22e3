"""The benchmark's files: predictions, figures, picture and page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from partsynth.benchmark.join import compressed, join
from partsynth.benchmark.plan import Replicate
from partsynth.benchmark.summary import summarise_benchmark
from partsynth.config.params import Params
from partsynth.reporting.benchmark import page
from partsynth.reporting.benchmark_figure import picture
from partsynth.store.files import write_bytes_atomic, write_json, write_text_atomic


def report(params: Params, replicates: Sequence[Replicate], work: Path, out: Path, stem: str, command: str) -> Path:
    """Join the replicates in ``work``, summarise, write ``out``/``stem``.*; returns the page."""
    predictions = out / f"{stem}-predictions.csv.gz"
    write_bytes_atomic(predictions, compressed(join(params, replicates, work)))
    summary = summarise_benchmark(params, replicates, work, predictions, command)
    write_json(out / f"{stem}.json", summary.dump())
    write_bytes_atomic(out / f"{stem}.png", picture(summary))
    write_text_atomic(out / f"{stem}.md", page(summary, stem))
    print(f"benchmark: wrote {out / stem}.md, .json, .png and {predictions}")
    return out / f"{stem}.md"
