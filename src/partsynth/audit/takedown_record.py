"""Which photographs were taken down: a mapping in params.yaml, which git versions and ingest obeys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth.config.load import read_yaml
from partsynth.store.files import write_text_atomic
from partsynth.store.layout import Layout
from partsynth.store.yaml_text import parsed, quoted, written

KEY = "taken_down"  # of section ingest


def taken_down(root: Path) -> dict[str, str]:
    """sha256 of each photograph that was taken down -> when and why; none where params.yaml cannot be read."""
    return dict(_ingest(root).get(KEY) or {})


def source_folders(root: Path) -> list[Path]:
    """Where photographs lie, as params.yaml has it (whatever else may be wrong with it)."""
    ingest, params = _ingest(root), _section(root, "ood")
    named = [ingest.get("path", "data/raw"), ingest.get("shifted"), params.get("far")]
    return [root / name for name in named if isinstance(name, str) and name]


def record(root: Path, photograph: str, note: str) -> bool:
    """Add a photograph to params.yaml, whose comments and order stay; False where it is there already."""
    path = Layout(root).params
    if photograph in taken_down(root):
        return False
    data = parsed(path.read_text(encoding="utf-8"))
    if data.get("ingest") is None:
        data["ingest"] = {}
    if data["ingest"].get(KEY) is None:
        data["ingest"][KEY] = {}
    data["ingest"][KEY][quoted(photograph)] = quoted(note)
    write_text_atomic(path, written(data))
    return True


def _ingest(root: Path) -> dict[str, Any]:
    return _section(root, "ingest")


def _section(root: Path, name: str) -> dict[str, Any]:
    path = Layout(root).params
    found = read_yaml(path).get(name) if path.is_file() else None
    return found if isinstance(found, dict) else {}
