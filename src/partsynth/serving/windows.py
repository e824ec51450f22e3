"""When images were taken, and the time windows that they fall into."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from partsynth.errors import UserError, listed
from partsynth.serving.patterns import groups_of

MTIME = "mtime"
FORMS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by the number of digits
WINDOWS = {"day": "%Y-%m-%d", "hour": "%Y-%m-%d %H:00"}


def times_of(names: Sequence[str], rows: Sequence[Mapping[str, str]], folder: Path | None, how: str) -> list[datetime]:
    """When each image was taken, in UTC.

    Parameters
    ----------
    names : paths relative to ``folder``.
    rows : the table's rows, where there is one; else empty mappings.
    how : "mtime" (of the file), "name:REGEX" over the name (its groups, joined, are the time), or "column:NAME".

    Raises
    ------
    UserError
        where it is none of these, or an image's time cannot be told.
    """
    kind, _, what = how.partition(":")
    if how == MTIME:
        if folder is None:
            raise UserError("--timestamps mtime needs the images' folder (--images), or take name:REGEX or column:NAME")
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise UserError(f"--timestamps mtime: {len(missing)} files are not in {folder}:\n  {listed(missing)}")
        return [datetime.fromtimestamp((folder / name).stat().st_mtime, UTC) for name in names]
    if kind == "name" and what:
        texts = ["".join(parts) for parts in groups_of(names, what, f"--timestamps {how}", "tells the time").values()]
    elif kind == "column" and what:
        if rows and what not in rows[0]:
            raise UserError(f"--timestamps {how}: the table has no column {what!r}; it has {', '.join(rows[0])}")
        if not rows or not rows[0]:
            raise UserError(f"--timestamps {how} needs a table of predictions, not a folder")
        texts = [row[what] for row in rows]
    else:
        raise UserError(f"--timestamps is {how!r}; allowed are mtime, name:REGEX and column:NAME")
    found = [parsed(text) for text in texts]
    if wrong := [f"{name}: {text!r}" for name, text, time in zip(names, texts, found, strict=True) if time is None]:
        raise UserError(
            f"--timestamps {how}: {len(wrong)} are no time (ISO 8601, or digits as 20260131, 2026013114 and "
            f"20260131140503, or seconds since 1970):\n  {listed(wrong)}"
        )
    return [time for time in found if time is not None]


def parsed(text: str) -> datetime | None:
    """A time in UTC; one that names no zone is taken as UTC. None where it is no time."""
    digits = re.sub(r"[^0-9]", "", text)
    try:
        if re.fullmatch(r"1\d{9}(\.\d+)?", text.strip()):  # seconds since 1970: 2001 to 2033
            return datetime.fromtimestamp(float(text), UTC)
        try:
            time = datetime.fromisoformat(text.strip())
        except ValueError:
            if re.search(r"[A-Za-z+]", text.replace("T", "").replace("Z", "")) or len(digits) not in FORMS:
                return None
            time = datetime.strptime(digits, FORMS[len(digits)])
    except (ValueError, OverflowError):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def divide(names: Sequence[str], times: Sequence[datetime], window: str) -> dict[str, list[int]]:
    """Name of a window -> places of its images, in the order of time (and of the name, at one time).

    Parameters
    ----------
    window : "day", "hour", or a number of images; the last window of a number may have fewer.

    Raises
    ------
    UserError
        where it is none of these.
    """
    order = sorted(range(len(names)), key=lambda i: (times[i], names[i]))
    found: dict[str, list[int]] = {}
    if window in WINDOWS:
        for place in order:
            found.setdefault(times[place].strftime(WINDOWS[window]), []).append(place)
        return found
    if not window.isdecimal() or int(window) < 1:
        raise UserError(f"--window is {window!r}; allowed are day, hour, and a number of images")
    size = int(window)
    for start in range(0, len(order), size):
        some = order[start : start + size]
        first, last = (times[some[i]].strftime("%Y-%m-%d %H:%M:%S") for i in (0, -1))
        found[f"{start + 1}-{start + len(some)} ({first} to {last})"] = some
    return found
