"""The files that DVC reads, where it breaks on one: a sentence that names it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from partsynth.errors import UserError
from partsynth.store.reading import parse_yaml, read_text

BACK = "git checkout brings them back"


@contextlib.contextmanager
def dvc_files(root: Path) -> Iterator[None]:
    """Inside, DVC reads dvc.yaml and the .dvc files of a project.

    Raises
    ------
    UserError
        for whatever it raises: its own faults in its own words, and of others, which it did not expect, the files that
        are not of the form that it wants.
    """
    from dvc.exceptions import DvcException

    try:
        yield
    except UserError:
        raise
    except DvcException as error:
        raise UserError(f"dvc.yaml: {error}" + (f" ({error.__cause__})" if error.__cause__ else "")) from error
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        named = ", ".join(_damaged(root)) or "dvc.yaml, or a .dvc file,"
        raise UserError(f"{named} is not of the form that DVC wants ({told[:200]}): {BACK}") from error


def _damaged(root: Path) -> list[str]:
    """The .dvc files that are no YAML, or have an output without a path; dvc.yaml where that is no YAML."""
    kept = (path for path in sorted(root.rglob("?*.dvc")) if path.is_file() and not _hidden(path.relative_to(root)))
    found = []
    for path in [root / "dvc.yaml", *kept]:
        try:
            outs = parse_yaml(read_text(path, "YAML"), str(path)).get("outs", [])
            if not all(isinstance(out["path"], str) for out in outs):
                found.append(str(path))
        except (UserError, AttributeError, TypeError, KeyError):
            found.append(str(path))
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
