"""The application, its faults for people, and what every stage does first. Everything heavy is imported late."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from partsynth.store import workers
from partsynth.store.process import Stop

PIPELINE = "Stages of dvc.yaml in their order (dvc repro runs them all)"
PROJECT = "Your project"
RESULTS = "Results, studies, audits"
STOPPED = "stopped. What was finished is kept where the stage can go on from it: run it again."


class Commands(TyperGroup):
    """Faults that a user can mend end in one sentence on stderr; all others keep their traceback."""

    arguments: ClassVar[list[str]] = []  # of this process's command, as they were given
    stop: ClassVar[Stop] = Stop()

    def list_commands(self, ctx: Any) -> list[str]:
        order = [PIPELINE, PROJECT, RESULTS]
        return sorted(self.commands, key=lambda name: order.index(self.commands[name].rich_help_panel))  # type: ignore

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        Commands.arguments = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            returned = super().invoke(ctx)
            if workers.joined():
                workers.here().leave()
            return returned
        except KeyboardInterrupt:
            raise _stopped() from None
        except Exception as error:
            if Commands.stop.asked:  # a library told of the interrupt as of a fault
                raise _stopped() from None
            sentence = fault_for_people(error)
            if sentence is None:
                if workers.joined() and not isinstance(error, typer.Exit):
                    workers.here().fail(f"a process of this stage broke down: {type(error).__name__}: {error}")
                raise
            _tell(sentence)
            raise typer.Exit(1) from None


def _stopped() -> typer.Exit:
    """How a process ends that was asked to, or that ends because another one of the same stage failed."""
    if workers.joined() and (fault := workers.here().fault):
        _tell(fault)
        return typer.Exit(1)
    if not workers.launched():
        typer.echo(f"\npartsynth: {STOPPED}", err=True)
    return typer.Exit(130)


def _tell(sentence: str) -> None:
    """Of several processes that do a stage together one tells."""
    if not workers.joined() or workers.here().fail(sentence):
        typer.echo(f"partsynth: {sentence}", err=True)


def fault_for_people(error: BaseException) -> str | None:
    """The sentence that tells a user what to mend; None where the fault is ours and its traceback is wanted."""
    import re

    from partsynth.errors import UserError

    if isinstance(error, UserError):
        return str(error)
    number = getattr(error, "errno", None)
    # libraries in C and Rust report a full disk by text alone
    if number in (errno.ENOSPC, errno.EDQUOT) or any(
        text in str(error) for text in ("No space left on device", "database or disk is full", "Disk quota exceeded")
    ):
        name = getattr(error, "filename", None)
        return (
            f"the disk is full{f' ({name})' if name else ''}. Free some space, or let DVC keep its cache on a larger "
            "disk (dvc cache dir --local PATH), and run again: finished work is kept. `dvc gc` deletes what older runs "
            "refer to: send that to a remote first (partsynth audit push)"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return _of_file(error)
    if isinstance(error, RuntimeError) and (loop := re.match(r"Symlink loop from '(.+)'", str(error))):  # of pathlib
        return _of_file(OSError(errno.ELOOP, "", loop.group(1)))
    return None


def _of_file(error: OSError) -> str | None:
    """What is wrong with a file or folder, and what helps; None where that is not the user's doing."""
    import os

    name = error.filename if isinstance(error.filename, str) else str(error.filename)
    if isinstance(error, PermissionError):
        return f"no permission to read or write {name}: give it back (chmod, chown), and run again"
    if error.errno == errno.ENOENT and os.path.islink(name):
        return f"{name} is a link to nothing: dvc checkout restores it, or take it away"
    helps = {
        errno.EROFS: "lies on a disk that is mounted read-only: mount it for writing, or work elsewhere",
        errno.EFBIG: "would be larger than a file may be here (ulimit -f)",
        errno.EMFILE: "cannot be opened, because too many files are (ulimit -n)",
        errno.ELOOP: "is a link that leads back to itself: remove it",
        errno.EISDIR: "is a folder, where a file belongs: move it away",
        errno.ENOTDIR: "goes through a file, where a folder belongs: move that away",
        errno.EEXIST: "is a file, where a folder belongs: move it away",
        errno.ENAMETOOLONG: "is a longer name than this disk holds",
        errno.EIO: "cannot be read or written: the disk reports a fault of its own",
        errno.ESTALE: "is gone from its network disk: mount it again",
    }
    return f"{name} {helps[error.errno]}" if error.errno in helps else None


app = typer.Typer(
    name="partsynth",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    help=(
        "[bold]Train a classifier of used parts on few photographs, and learn whether generated images help.[/bold]"
        "\n\n"
        "Stable Diffusion learns one token per class from the photographs. Edits under these tokens make sets of "
        "images at several distances from the real parts, and each image is measured. Setups (real, real_id, "
        "real_id_negatives) are trained by supervised contrastive learning and compared on accuracy and on "
        "out-of-distribution detection. DVC versions the data, MLflow keeps the runs."
        "\n\n"
        "[bold]partsynth init DIR --data PHOTOS[/bold] makes a project of your own, "
        "[bold]dvc repro[/bold] in it does everything, [bold]partsynth params[/bold] explains every parameter."
    ),
)


def _version(asked: bool) -> None:
    if asked:
        from partsynth import __version__

        typer.echo(f"partsynth {__version__}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


ParamsFile = Annotated[Path, typer.Option("--params", help="File of parameters; a stage reads its own sections alone.")]
PARAMS = Path("params.yaml")
ShiftedFolder = Annotated[
    Path | None, typer.Option(help="Photographs of the same classes at another place: the shifted part of the test.")
]
FarFolder = Annotated[Path | None, typer.Option(help="Photographs of other things, in class folders or not: far-OOD.")]
HeldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--holdout", metavar="CLASS", help="A class kept out of training: near-OOD. May be given several times."
    ),
]
GroupPattern = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX", help="Its (groups) name the part or spot in CLASS/FILE; images of one spot stay in one split."
    ),
]
