"""An audit's result for people, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape

from partsynth.audit.result import Result

SHOWN = 20  # entries of a list shown to people


def present(result: Result, as_json: bool = False) -> int:
    """Print a result for people or as JSON; returns the exit code."""
    if as_json:
        print(json.dumps(result.as_json(), indent=1, sort_keys=True))
        return result.exit_code
    console = Console(highlight=False, soft_wrap=True)  # hashes must not be cut at the terminal's edge
    console.print(f"[bold]audit {result.command}[/bold]")
    for line in _lines(result.data, 1):
        console.print(line)
    if result.faults:
        console.print(f"[bold red]{len(result.faults)} fault(s)[/bold red]")
        for fault in result.faults:
            console.print(f"  [red]{escape(fault.path)}[/red]: {escape(fault.message)}")
    else:
        console.print("[green]everything found and verified[/green]")
    return result.exit_code


def _lines(value: dict[str, Any], depth: int) -> Iterator[str]:
    """One line for each entry, indented by depth; what changed as "before -> now", long lists cut."""
    indent = "  " * depth
    for key, inner in value.items():
        label = escape(key if "/" in key or "." in key else key.replace("_", " "))
        if isinstance(inner, dict) and inner.keys() == {"first", "second"}:
            yield f"{indent}{label}: {escape(str(inner['first']))} -> {escape(str(inner['second']))}"
        elif isinstance(inner, dict) and inner:
            yield f"{indent}[bold]{label}[/bold]"
            yield from _lines(inner, depth + 1)
        elif isinstance(inner, list):
            yield f"{indent}[bold]{label}[/bold] ({len(inner)})"
            for item in inner[:SHOWN]:
                is_row = isinstance(item, dict)
                text = ", ".join(f"{k} {v}" for k, v in item.items() if v not in ("", [])) if is_row else str(item)
                yield f"{indent}  {escape(text)}"
            if len(inner) > SHOWN:
                yield f"{indent}  ... and {len(inner) - SHOWN} more (--json lists all)"
        else:
            yield f"{indent}{label}: {escape(str(inner) if inner not in ({}, None) else 'none')}"
