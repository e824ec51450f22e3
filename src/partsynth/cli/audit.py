"""Audit commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from partsynth.cli.app import RESULTS, app

audits = typer.Typer(
    no_args_is_help=True,
    help="Which data made this model, where does this picture come from, what came of this photograph: by hash. "
    "Whatever is missing or cannot be verified is named, and the exit code is 1.",
)


app.add_typer(audits, name="audit", rich_help_panel=RESULTS)


AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def tell(result: Any, as_json: bool) -> None:
    from partsynth.audit import present

    raise typer.Exit(present.present(result, as_json))


@audits.command("run")
def audit_run(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run id, alias of the registered model, or run name.")],
    out: Annotated[Path, typer.Option(help="New folder for that run's data.")],
    as_json: AsJson = False,
) -> None:
    """Check out exactly one run's data, tokens and parameters by hash, and verify every file."""
    from partsynth.audit import checkout

    tell(checkout.run(Path.cwd(), name, out), as_json)


@audits.command("image")
def audit_image(
    what: Annotated[str, typer.Argument(metavar="PICTURE", help="Path, or sha256 (eight digits or more).")],
    regenerate: Annotated[bool, typer.Option("--regenerate", help="Make the picture again and compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """One picture's chain: photograph, set, prompt, token, seed, strength, base, verdict, and who trained on it."""
    from partsynth.audit import image as audit_image

    tell(audit_image.image(Path.cwd(), what, regenerate), as_json)


@audits.command("source")
def audit_source(
    what: Annotated[str, typer.Argument(metavar="PHOTOGRAPH", help="Path, or sha256 (eight digits or more).")],
    as_json: AsJson = False,
) -> None:
    """Everything derived from one photograph, and the runs affected: for a takedown."""
    from partsynth.audit import source as audit_source

    tell(audit_source.source(Path.cwd(), what), as_json)


@audits.command("diff")
def audit_diff(
    first: Annotated[str, typer.Argument(metavar="RUN_A")],
    second: Annotated[str, typer.Argument(metavar="RUN_B")],
    as_json: AsJson = False,
) -> None:
    """What differs between two runs: data by picture, parameters, code."""
    from partsynth.audit import diff as audit_diff

    tell(audit_diff.diff(Path.cwd(), first, second), as_json)


@audits.command("verify")
def audit_verify(as_json: AsJson = False) -> None:
    """The workspace against its hashes, manifests and the leak rules."""
    from partsynth.audit import workspace_check

    tell(workspace_check.verify(Path.cwd()), as_json)


@audits.command("push")
def audit_push(
    remote: Annotated[str | None, typer.Option(help="DVC remote; the default one where left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send what every live run refers to to a DVC remote (`dvc push` knows the present state only)."""
    from partsynth.audit import push

    tell(push.push(Path.cwd(), remote), as_json)
