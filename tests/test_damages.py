"""Damaged files, one of each kind where the reader is quick; all two hundred are benchmarks/damages.py's."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import damages
import pytest
from helpers.fresh import fresh

QUICK = ("select", "summary", "recompute")  # read tables and JSON, and start in no time


def test_every_target_and_every_kind_is_drawn() -> None:
    pairs = damages.drawn(200, 0)
    assert len(pairs) == len({(t.path, t.command, kind) for t, kind in pairs}) == 200
    assert {t.path for t, _ in pairs} == {t.path for t in damages.TARGETS}
    assert {kind for _, kind in pairs} == {kind for t in damages.TARGETS for kind in t.kinds.split("|")}
    assert pairs == damages.drawn(200, 0) != damages.drawn(200, 1)


@pytest.mark.parametrize("kind", [kind for kind, change in damages.KINDS.items() if change is not None])
def test_a_damage_changes_the_file_and_is_drawn_by_its_seed(tmp_path: Path, kind: str) -> None:
    name = next(t.path for t in damages.TARGETS if kind in t.kinds.split("|"))
    path = tmp_path / Path(name).name
    _write(path)
    whole = path.read_bytes()
    done = []
    for _ in range(2):
        path.write_bytes(whole)
        damages.damaged(tmp_path, path.name, kind, random.Random(3))
        done.append(path.read_bytes())
    assert done[0] == done[1] != whole


def _write(path: Path) -> None:
    """A small whole file of the kind that its name says."""
    import torch
    from PIL import Image

    from partsynth.store.tensors import write_safetensors

    if path.suffix == ".csv":
        path.write_text(
            "path,sha256,class_name,split,percentile,seed\na.png,01,gear,val,0.5,1\nb.png,23,nut,test,0.6,2\n"
        )
    elif path.suffix == ".png":
        Image.new("RGB", (8, 6), (9, 30, 200)).save(path)
        Image.linear_gradient("L").convert("RGB").resize((8, 6)).save(path)
    elif path.suffix == ".safetensors":
        write_safetensors(path, {"w": torch.ones(2, 2), "b": torch.zeros(2)}, {"fingerprint": "x"})
    elif path.suffix == ".json":
        path.write_text('{"run_id": "a", "size": 3, "tags": {"setup": "real"}, "share": 0.5}')
    elif path.suffix == ".journal":
        path.write_text('{"op_code": 0}\n{"op_code": 4}\n')
    else:
        path.write_text("train:\n  steps: 3\n  name: a\nselect:\n  real: {rule: all}\n")


@pytest.mark.slow
def test_damaged_files_are_refused_or_harmless(tmp_path: Path) -> None:
    pairs = [(t, kind) for t, kind in damages.drawn(10_000, 0) if t.command.split()[0] in QUICK]
    used: Counter[str] = Counter()
    few = []
    for target, kind in pairs:
        used[kind] += 1
        if used[kind] == 1:
            few.append((target, kind))
    outcomes = fresh(damages.run, tmp_path / "work", few, 0, until="evaluate")
    assert len(outcomes) >= 30
    assert not [o for o in outcomes if o.became == "fault"]
    assert {o.became for o in outcomes} == {"refused", "harmless"}
