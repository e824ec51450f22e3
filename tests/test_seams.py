"""One more member of each seam from outside the package: one module, registered, and the pipeline knows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.rows import augmented, real_row, verdict
from PIL import Image

from partsynth.config.training import SelectSetup
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.seams import BACKBONES, METHODS, RULES, SCORES, SOURCES, Registry
from partsynth.selection.rule import Candidate, Rule, by_class
from partsynth.selection.table import chosen, selected


@contextmanager
def registered(seam: Registry, name: str, member: Any) -> Iterator[None]:
    seam.register(name, member)
    try:
        yield
    finally:
        seam.unregister(name)


@pytest.mark.parametrize("seam", [BACKBONES, METHODS, RULES, SCORES, SOURCES], ids=lambda seam: seam.what)
def test_every_member_that_is_named_is_there(seam) -> None:
    assert all(seam[name] is not None for name in seam)


def test_a_name_that_is_taken_or_unknown() -> None:
    with pytest.raises(ValueError, match="there is a source 'folder' already"):
        SOURCES.register("folder", object())
    with pytest.raises(UserError, match="there is no source 'none'; there are rendered, mvip, folder"):
        SOURCES["none"]


# --- sources ----------------------------------------------------------------------------------------------------------

FLAT = '''
from partsynth.seams import SOURCES
from partsynth.sources.base import Found, Photo


class Flat:
    """All photographs in one folder, named <class>-<part>-<number>.png."""

    def read(self, folder, classes, params):
        found = [(path.name, *path.stem.split("-")) for path in sorted(folder.glob("*.png"))]
        photos = [Photo(f, kind, f"{kind}-{part}") for f, kind, part, _ in found if not classes or kind in classes]
        return Found(photos=photos, folders={photo.class_name: "" for photo in photos})


SOURCES.register("flat", Flat())
'''


def test_a_source_from_outside(tmp_path) -> None:
    """Its own file, named by PARTSYNTH_PLUGINS, in a process of its own; params.yaml names it as any other."""
    (tmp_path / "flat_photos.py").write_text(FLAT)
    (tmp_path / "params.yaml").write_text("ingest: {source: flat, path: raw, masks: none, size: 16}\n")
    (tmp_path / "raw").mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(
            tmp_path / "raw" / f"{'gear' if number % 2 else 'disc'}-{number // 4}-{number}.png"
        )
    command = [
        sys.executable,
        "-m",
        "partsynth.cli",
        "ingest",
        "--raw",
        "raw",
        "--real",
        "data/real",
        "--ood",
        "data/ood",
    ]
    known = os.environ | {"PARTSYNTH_PLUGINS": "flat_photos", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = read_manifest(tmp_path / "data/real/manifest.csv", RealRecord)
    assert len(rows) == 40 and {r.class_name for r in rows} == {"gear", "disc"} and len({r.group for r in rows}) == 20
    assert all(Path(tmp_path, r.path).is_file() for r in rows)
    unknown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert unknown.returncode == 1 and "flat" in unknown.stderr and "'folder'" in unknown.stderr


# --- selection rules --------------------------------------------------------------------------------------------------


def test_a_rule_from_outside() -> None:
    """Of each class the farthest accepted image alone."""

    class Farthest(Rule):
        def takes(self, params: SelectSetup, verdict: Any) -> bool:
            return verdict.verdict == "accept"

        def draw(self, params: SelectSetup, taken: Any, setup: str) -> list[Candidate]:
            return [max(members, key=lambda c: c.image.percentile) for members in by_class(taken).values()]

    edits = [augmented(real_row(f"{k}/{i}", "train", f"{k}{i}"), str(i)) for k in ("disc", "gear") for i in range(4)]
    judged = {e.path: verdict(e, i / 8, "drop" if i == 7 else "accept") for i, e in enumerate(edits)}
    with pytest.raises(ValueError, match="rule"):
        SelectSetup(rule="farthest")
    with registered(RULES, "farthest", Farthest()):
        params = SelectSetup(rule="farthest")
        rows = chosen([selected(e, params.role) for e in edits], judged, [], params, "x")
    assert [(r.path, r.rule) for r in rows] == [(edits[3].path, "farthest"), (edits[6].path, "farthest")]
