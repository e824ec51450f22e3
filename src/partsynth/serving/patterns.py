"""What a file's name tells, by a regular expression that a user gives."""

from __future__ import annotations

import re
from collections.abc import Sequence

from partsynth.errors import UserError, listed


def groups_of(names: Sequence[str], pattern: str, option: str, what: str) -> dict[str, list[str]]:
    """Name -> what each of the pattern's groups matched in it, empty where one had no part in the match.

    Parameters
    ----------
    option : as the user gave it, for messages
    what : the groups do, in words: "names the part"

    Raises
    ------
    UserError
        where it is no regular expression, has no group, or does not fit a name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{option} is no regular expression: {error}") from None
    if not compiled.groups:
        raise UserError(f"{option} has no group: put what {what} in parentheses")
    found = {name: compiled.search(name) for name in names}
    if missing := [name for name, match in found.items() if match is None]:
        raise UserError(f"{option} does not fit {len(missing)} files:\n  {listed(missing)}")
    return {name: [part or "" for part in match.groups()] for name, match in found.items() if match}
