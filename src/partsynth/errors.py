"""Faults that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A fault the user can mend; the command line prints its text alone, without a traceback."""
