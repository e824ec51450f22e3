"""The command line in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from partsynth.cli.main import app


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command; faults that are ours are raised."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr
