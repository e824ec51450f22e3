"""Audit commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from partsynth.cli.app import RESULTS, app

if TYPE_CHECKING:
    from partsynth.audit.result import Result

audits = typer.Typer(
    no_args_is_help=True,
    help="Which data made this model, where does this image come from, what came of this photograph: by hash. "
    "Whatever is missing or cannot be verified is named, and the exit code is 1.",
)
app.add_typer(audits, name="audit", rich_help_panel=RESULTS)

AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def show(result: Result) -> None:
    from partsynth.audit.present import present

    present(result)


def tell(result: Result, as_json: bool) -> NoReturn:
    from partsynth.audit.present import present

    raise typer.Exit(present(result, as_json))


@audits.command("run")
def audit_run(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run id, alias of the registered model, or run name.")],
    out: Annotated[Path, typer.Option(help="New folder for that run's data.")],
    as_json: AsJson = False,
) -> None:
    """Check out exactly one run's data, tokens and parameters by hash, and verify every file."""
    from partsynth.audit.checkout import checkout_run

    tell(checkout_run(Path.cwd(), name, out), as_json)


@audits.command("image")
def audit_image(
    what: Annotated[str, typer.Argument(metavar="IMAGE", help="Path, or sha256 (eight digits or more).")],
    regenerate: Annotated[bool, typer.Option("--regenerate", help="Make the image again and compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """One image's chain: photograph, what it was made from and how, verdict, and who trained on it."""
    from partsynth.audit.image import trace_image

    tell(trace_image(Path.cwd(), what, regenerate), as_json)


@audits.command("source")
def audit_source(
    what: Annotated[str, typer.Argument(metavar="PHOTOGRAPH", help="Path, or sha256 (eight digits or more).")],
    purge: Annotated[bool, typer.Option("--purge", help="List what a takedown removes.")] = False,
    remote: Annotated[str | None, typer.Option(help="DVC remote whose objects --purge removes, too.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove all that --purge lists. There is no way back.")] = False,
    reason: Annotated[str, typer.Option(help="Why: kept in params.yaml beside the photograph's sha256.")] = "",
    as_json: AsJson = False,
) -> None:
    """Everything derived from one photograph, and the runs affected; with --purge, a takedown.

    --purge alone is a dry run (at a terminal it then asks). Done, it remembers the photograph's sha256 in params.yaml
    (ingest.taken_down), tags the runs that learned from it, takes their aliases off, and removes the photograph, the
    images and tokens made from it and DVC's objects of all versions of them. Interrupted, start it again.
    """
    import datetime

    from partsynth.audit import takedown
    from partsynth.audit.source import trace_source
    from partsynth.errors import UserError

    root = Path.cwd()
    if not purge:
        if remote is not None or yes or reason:
            raise UserError("--remote, --yes and --reason belong to --purge")
        tell(trace_source(root, what), as_json)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if not yes:
        result = takedown.purge(root, what, remote=remote)
        if as_json or not sys.stdin.isatty():
            tell(result, as_json)
        show(result)
        sha256 = result.data["photograph"]["source_sha256"]
        asked = f"To remove all of this for good, type the first eight digits of {sha256} (Enter: nothing is removed)"
        if not (answer := typer.prompt(asked, default="", show_default=False)):
            raise typer.Exit(result.exit_code)
        takedown.require_confirmed(answer, sha256)
    tell(takedown.purge(root, what, remote=remote, go=True, date=today, reason=reason), as_json)


@audits.command("diff")
def audit_diff(
    first: Annotated[str, typer.Argument(metavar="RUN_A")],
    second: Annotated[str, typer.Argument(metavar="RUN_B")],
    as_json: AsJson = False,
) -> None:
    """What differs between two runs: data by image, parameters, code."""
    from partsynth.audit.diff import diff_runs

    tell(diff_runs(Path.cwd(), first, second), as_json)


@audits.command("verify")
def audit_verify(as_json: AsJson = False) -> None:
    """The workspace against its hashes, manifests and the leak rules."""
    from partsynth.audit.verify import verify

    tell(verify(Path.cwd()), as_json)


@audits.command("export")
def audit_export(
    out: Annotated[Path, typer.Option(help="New folder, or FILE.zip.")],
    name: Annotated[
        str, typer.Argument(metavar="[RUN]", help="Run id, alias of the registered model, or run name.")
    ] = "champion",
    images: Annotated[
        bool, typer.Option("--images", help="Put the images in; left out, manifests name them by path and sha256.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Sign with this private key (PEM; P-256, P-384, P-521; its password in PARTSYNTH_KEY_PASSWORD). "
            "Left out, the export is not signed, and says so.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evidence on one run that an auditor checks without partsynth: `python verify.py`.

    Manifests, verdicts, training table, predictions, weights and lineage with a sha256 for each file; Croissant files,
    a CycloneDX ML-BOM, a model card, and with --key an OpenSSF signature. The same run gives the same bytes.
    """
    from partsynth.audit.bundle.export import Inputs, export

    tell(export(Inputs(root=Path.cwd(), out=out, run=name, images=images, key=key)), as_json)


@audits.command("push")
def audit_push(
    remote: Annotated[str | None, typer.Option(help="DVC remote; the default one where left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send what every live run refers to to a DVC remote (`dvc push` knows the present state only)."""
    from partsynth.audit.push import push_runs

    tell(push_runs(Path.cwd(), remote), as_json)
