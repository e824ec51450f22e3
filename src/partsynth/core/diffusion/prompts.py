"""Prompts from templates."""

from __future__ import annotations


def fill(template: str, state: str, token: str) -> str:
    """The template with its {state} (may be empty) and {token} filled in, spaces tidied."""
    return " ".join(template.replace("{state}", state).replace("{token}", token).split())
