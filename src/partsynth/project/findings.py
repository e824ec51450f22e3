"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Findings:
    """What is in order and what is not, as sentences."""

    in_order: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
