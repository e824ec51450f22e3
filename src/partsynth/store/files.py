"""Files written whole or not at all, and paths that cannot leave their folder."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from partsynth.errors import UserError
from partsynth.store.drafts import draft_file, draft_folder
from partsynth.store.hashing import plain
from partsynth.store.reading import read_json as read_json


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write through a temporary file beside ``path``: a reader sees the old file or the whole new one."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = draft_file(path)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename, error.filename2 = os.fspath(path), None  # a full disk names none, others the draft
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise


def write_text_atomic(path: Path, text: str) -> None:
    write_bytes_atomic(path, text.encode())


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with its header, lines ended as on Unix: the same content is the same bytes on every system."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    write_text_atomic(path, csv_text(columns, rows))


def write_json(path: Path, value: Any) -> None:
    write_text_atomic(path, json.dumps(value, indent=1, sort_keys=True, default=plain, allow_nan=False) + "\n")


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A path beside ``path`` where a library makes a file, which is linked to ``path`` when the block ends.

    So ``path`` is whole or not there at all. Where it is there by then, another process was first, and its file stays.
    """
    with draft_folder(path) as folder:
        draft = folder / path.name
        yield draft
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)


def prune(folder: Path, wanted: Iterable[Path]) -> list[Path]:
    """Delete the files below ``folder`` that are not ``wanted``, then empty folders; returns what went."""
    keep = {Path(p).absolute() for p in wanted}
    gone = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.absolute() not in keep]
    for path in gone:
        path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return gone


def refuse_foreign(folder: Path, wanted: Iterable[Path], is_ours: Callable[[Path], bool], remedy: str) -> None:
    """What a stage did not make might be somebody's only photographs: a folder that holds such a file is refused.

    To be called before ``prune``.

    Parameters
    ----------
    wanted : files that may be there, whatever they are.
    is_ours : whether the stage made a file that is not wanted any more; asked for those alone.
    remedy : what the user can do, the end of the sentence ("move them, or ...").

    Raises
    ------
    UserError
        naming the first such file and how many there are.
    """
    keep = {Path(p).absolute() for p in wanted}
    others = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.absolute() not in keep)
    if foreign := [path for path in others if not is_ours(path)]:
        raise UserError(
            f"{folder} holds {foreign[0]}{f' and {len(foreign) - 1} more files' if foreign[1:] else ''}, which this "
            f"stage did not make: {remedy}"
        )


def inside(root: Path, name: str) -> Path:
    """``root / name``, refused where the name from a manifest would leave the folder.

    DVC's own links to objects of its cache, wherever that lies, are taken for the files they stand for.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not name:
        raise UserError(f"{name!r} is not a relative path below {root}")
    path = root / pure
    within = root.resolve()
    try:
        leaves = not path.resolve().is_relative_to(within) and not (
            path.parent.resolve().is_relative_to(within) and _is_cache_link(path)
        )
    except RuntimeError:  # as Python before 3.13 says it
        raise UserError(f"{path} is a link that leads back to itself: remove it") from None
    if leaves:
        raise UserError(f"{name!r} leaves the folder {root}")
    return path


def _is_cache_link(path: Path) -> bool:
    """Whether DVC made this link (cache.type symlink): its objects are named by their md5."""
    if not path.is_symlink():
        return False
    target = Path(os.readlink(path))
    found = re.search(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$", target.as_posix())
    return found is not None and ".." not in target.parts
