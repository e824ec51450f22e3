"""The whole command line: importing a module registers its commands, in the order that `--help` shows."""

from __future__ import annotations

try:
    from partsynth.cli import audit, benchmark, evaluate, project, review, serving, stages, study
    from partsynth.cli.app import app
except KeyboardInterrupt:  # nothing was begun
    raise SystemExit(130) from None

__all__ = ["app", "audit", "benchmark", "evaluate", "main", "project", "review", "serving", "stages", "study"]


def main() -> None:
    import signal

    from partsynth.cli.app import Commands
    from partsynth.store.process import interruptible, keep_memory

    try:
        Commands.stop = interruptible()
        keep_memory()
        app()
    except KeyboardInterrupt:  # no command was begun
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do is to end
