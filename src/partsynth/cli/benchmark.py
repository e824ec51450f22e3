"""The benchmark command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from partsynth.cli.app import RESULTS, FarFolder, GroupPattern, HeldOut, ShiftedFolder, app

HELP = (
    "Repeat the whole pipeline over seeds and compare all setups, with intervals.\n\n"
    "Each replicate is a project of its own: its seed redraws training images, tokens, augmentation sets and training, "
    "so that the intervals hold for the method and not for one lucky draw. The preset says which setups there are and "
    "what is aimed for ([bold]partsynth params benchmark[/bold]). Stopped with Ctrl-C and started again, it goes on "
    "where it was; after a change it runs what changed."
)


@app.command(rich_help_panel=RESULTS, help=HELP)
def benchmark(
    preset: Annotated[
        str,
        typer.Option(
            help="A preset with a section benchmark: benchmark (renders), benchmark-photos, benchmark-coins, "
            "benchmark-steel (photographs)."
        ),
    ] = "benchmark",
    quick: Annotated[
        bool, typer.Option("--quick", help="Few replicates of the main setups: some 20 minutes on two cores.")
    ] = False,
    main: Annotated[
        bool,
        typer.Option(
            "--main", help="The main setups alone, which the questions are about; started without it, the rest follows."
        ),
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Folder of photographs, for a preset that needs them.")] = None,
    shifted: ShiftedFolder = None,
    far: FarFolder = None,
    held_out: HeldOut = None,
    group_pattern: GroupPattern = None,
    again: Annotated[
        bool, typer.Option("--again", help="Run nothing: figures and page anew from the predictions of a finished run.")
    ] = False,
    so_far: Annotated[
        bool, typer.Option("--so-far", help="Run nothing: the report of those replicates that are done.")
    ] = False,
    work: Annotated[Path, typer.Option(help="Folder of the replicates' projects; delete it to begin anew.")] = Path(
        ".work/benchmark"
    ),
    out: Annotated[
        Path, typer.Option(help="Folder for the page (PRESET.md), its picture, the figures as JSON, the predictions.")
    ] = Path("reports"),
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Replicates side by side; as many as cores, one on a machine with a GPU, unless told. Figures do not "
            "depend on it: each replicate has one thread (OMP_NUM_THREADS=N: N).",
        ),
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="A models/base folder, where partsynth was installed without its repository.")
    ] = None,
) -> None:
    from partsynth.benchmark import run
    from partsynth.project.given import Photographs

    photographs = Photographs(
        data=data, shifted=shifted, far=far, held_out=tuple(held_out or ()), group_pattern=group_pattern
    )
    asked = run.Asked(preset=preset, quick=quick, main=main, photographs=photographs)
    if again:
        run.again(asked, out=out)
    elif so_far:
        run.so_far(asked, work=work, out=out)
    else:
        run.run(asked, work=work, out=out, workers=workers, base=base)
