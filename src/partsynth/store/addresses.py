"""Addresses of databases and servers as they may be shown: without their passwords."""

from __future__ import annotations

import re

MASK = "***"
# from the user's colon to the last @: a password that was not escaped may hold / @ : and ?
_USER = re.compile(r"(://[^:/@?#\s]*):[^\s]*@")
_KEY = re.compile(r"(?i)\b((?:[a-z_]*password|passwd|pwd|passphrase|token|secret)=)[^&\s]+")


def masked(text: str) -> str:
    """``text`` with the password of every address in it replaced: ``user:password@`` and ``?password=``."""
    return _KEY.sub(rf"\1{MASK}", _USER.sub(rf"\1:{MASK}@", text))


def awkward(address: str) -> bool:
    """Whether a password holds characters that must be escaped in an address: libraries cut it at another place, and
    their messages then name pieces of it."""
    found = _USER.search(address)
    return found is not None and bool(set(found[0][len(found[1]) + 1 : -1]) & set("/@:?#"))
