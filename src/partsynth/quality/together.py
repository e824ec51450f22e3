"""What is measured of images, by all processes of a stage: each takes its range, and in the end all know all of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from partsynth.errors import UserError
from partsynth.quality.cache import Row, read_cache, write_cache
from partsynth.store import workers
from partsynth.store.hashing import fingerprint

T = TypeVar("T")
SEEN = 60.0  # seconds until a file that one machine wrote is seen by another


def measured_together(
    things: Mapping[str, T], cache: Path, columns: Sequence[str], measure: Callable[[Sequence[T]], dict[str, Row]]
) -> dict[str, Row]:
    """Key -> what was measured of that thing.

    What a process has measured lies beside ``cache`` until all are done, so that one that was killed need not measure
    the others' parts again.

    Parameters
    ----------
    things : the same ones in every process
    cache : the file that the caller keeps the result in
    measure : gives each of some of the things, by its key, a value per column

    Raises
    ------
    UserError
        where processes have other things to measure, or do not see each other's files.
    """
    here = workers.here()
    if here.count == 1:
        return measure(list(things.values())) if things else {}
    mark = fingerprint(list(things)).encode()
    if set(here.gather(mark)) != {mark}:
        raise UserError(f"{cache.parent}: the processes see other files there: they need one shared folder")
    if not things:
        return {}
    parts = [cache.with_name(f"{cache.stem}-{rank}-of-{here.count}.part") for rank in range(here.count)]
    own = here.mine(list(things))
    kept = read_cache(parts[here.rank], columns)
    found = {key: kept[key] for key in own if key in kept}
    if todo := [things[key] for key in own if key not in found]:
        found |= measure(todo)
    write_cache(parts[here.rank], columns, found)
    here.barrier()
    for part, rank in zip(parts, range(here.count), strict=True):
        count = len(here.of(rank, len(things)))
        if rank != here.rank and count:
            found |= _seen(part, columns, count)
    here.barrier()
    parts[here.rank].unlink(missing_ok=True)
    return found


def _seen(part: Path, columns: Sequence[str], count: int) -> dict[str, Row]:
    """What another process measured; on another machine its file may take a while to be seen."""
    until = time.monotonic() + SEEN
    while len(found := read_cache(part, columns)) != count:
        if time.monotonic() > until:
            raise UserError(f"{part}, of another process, is not seen here: all machines need one shared folder")
        time.sleep(0.5)
    return found
