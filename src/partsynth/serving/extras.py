"""Libraries of the extra ``serve``, which only exports and predictions need."""

from __future__ import annotations

import importlib
from typing import Any

from partsynth.errors import UserError


def load_extra(name: str) -> Any:
    """A library of the extra ``serve``.

    Raises
    ------
    UserError
        where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed: install partsynth with its extra serve (partsynth[serve])") from None
