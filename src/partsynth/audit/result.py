"""What an audit command found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from partsynth.audit.workspace import Fault


@dataclass
class Result:
    """What a command found out: ``data`` is JSON, ``faults`` decide the exit code."""

    command: str
    data: dict[str, Any]
    faults: list[Fault] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return int(bool(self.faults))

    def as_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "ok": not self.faults,
            **self.data,
            "faults": [vars(fault) for fault in self.faults],
        }
