"""The benchmark command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from partsynth.cli.app import RESULTS, app


@app.command(rich_help_panel=RESULTS)
def benchmark(
    preset: Annotated[str, typer.Option(help="benchmark (renders) or benchmark-photos (see presets/).")] = "benchmark",
    quick: Annotated[bool, typer.Option("--quick", help="Few replicates of the main setups: some 20 minutes.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder of photographs, for a preset that wants them.")] = None,
    work: Annotated[Path, typer.Option(help="Folder of the replicates; delete it to begin anew.")] = Path(
        ".work/benchmark"
    ),
    out: Annotated[Path, typer.Option(help="Folder for <preset>.md, .json, .png and the predictions.")] = Path(
        "reports"
    ),
    base: Annotated[
        Path | None, typer.Option(help="A models/base folder, where partsynth was installed without its repository.")
    ] = None,
) -> None:
    """Repeat the whole pipeline over seeds and compare all setups; started again, it goes on where it was."""
    from partsynth.benchmark import run as benchmark_run

    benchmark_run.run(preset, quick, data, work, out, base)
