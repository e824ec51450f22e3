"""The photographs that a project is begun with, and a preset that names them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partsynth.store.yaml_text import in_one_line, parsed, quoted, verbatim, written


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """What was told of them; nothing where a preset renders its own images."""

    data: Path | None = None  # one folder per class
    shifted: Path | None = None  # the same classes elsewhere
    far: Path | None = None  # other things
    held_out: Sequence[str] = ()  # classes kept out of training, near-OOD
    group_pattern: str | None = None  # regular expression whose groups name the part or spot in <class>/<file>

    @property
    def options(self) -> list[tuple[str, str]]:
        """What the command line was given: option, value."""
        places = (("--data", self.data), ("--shifted", self.shifted), ("--far", self.far))
        given = [(option, os.fspath(place)) for option, place in places if place is not None]
        given += [("--holdout", name) for name in self.held_out]
        return given + ([("--group-pattern", self.group_pattern)] if self.group_pattern is not None else [])


def with_photographs(text: str, photographs: Photographs) -> str:
    """A preset's text that names these photographs, by absolute paths; what was not told stays as it is."""
    preset = parsed(text)
    ingest, ood = preset["ingest"], preset["ood"]
    if photographs.data is not None:
        ingest["path"] = quoted(str(photographs.data.resolve()))
    behind = list(ingest).index("path") + 1
    pattern, shifted = photographs.group_pattern, photographs.shifted
    named = {
        "group_pattern": verbatim(pattern) if pattern is not None else None,
        "shifted": quoted(str(shifted.resolve())) if shifted is not None else None,
    }
    for key, value in named.items():
        if value is not None:
            ingest.pop(key, None)
            ingest.insert(behind, key, value)
    if photographs.held_out:
        ood["holdout_classes"] = in_one_line(photographs.held_out)
    if photographs.far is not None:
        ood["far"] = quoted(str(photographs.far.resolve()))
    return written(preset)
