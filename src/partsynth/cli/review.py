"""Commands of people's review of generated images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from partsynth.cli.app import RESULTS, app

PAGES = "pages"


class PagesByDefault(TyperGroup):
    """`review SET --out DIR` is short for `review pages SET --out DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [PAGES, *args]
        return super().parse_args(ctx, args)


reviews = typer.Typer(
    cls=PagesByDefault,
    no_args_is_help=True,
    subcommand_metavar="[SET ...] --out DIR | apply FILE",
    help="Let a person have the last word on generated images."
    "\n\n"
    "[bold]partsynth review --out DIR[/bold] writes a page per set: what the gate flagged and a sample of what it "
    "accepted, beside source and nearest real images. It works from the folder, without a server; keys A, D, O, U "
    "accept, drop, name another class, pass. [bold]partsynth review apply FILE[/bold] puts the page's decisions into "
    "data/review/SET.csv, which [bold]select[/bold] obeys at the next `dvc repro`.",
)
app.add_typer(reviews, name="review", rich_help_panel=RESULTS)


@reviews.command(PAGES)
def review_pages(
    out: Annotated[Path, typer.Option(help="Folder for the pages: index.html, and SET/ with images.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="SET", help="Sets; left out, all that were made.")
    ] = None,
    accepted: Annotated[
        int, typer.Option(min=0, help="Accepted images per set, drawn at random; flagged ones are all shown.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that draw: another one gives other images.")] = 0,
) -> None:
    """Write the pages; `partsynth review --out DIR` does the same.

    Needs the reference encoder where the quality stage's measurements are not here any more (.work/features).
    """
    from partsynth.review.make import make

    for line in make(Path.cwd(), names or [], out, accepted, seed):
        typer.echo(line)


@reviews.command("apply")
def review_apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV that a page gave, or several joined.")],
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Where other reviewers decided otherwise before, the file counts.")
    ] = False,
) -> None:
    """Merge a page's decisions into data/review/SET.csv, which git keeps and select obeys.

    All are taken or, where one is at fault, none: an image unknown here or made anew since the review, a class that
    there is none of, two reviewers who contradict each other.
    """
    from partsynth.review import apply

    for line in apply.told(Path.cwd(), apply.apply(Path.cwd(), file, overrule)):
        typer.echo(line)
