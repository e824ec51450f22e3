"""What an audit command found out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """Something missing or unverifiable; ``path`` is relative to the root where it names a file of the project."""

    path: str
    message: str


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
            "faults": [asdict(fault) for fault in self.faults],
        }
