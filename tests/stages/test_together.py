"""Stages that several processes do together: the same bytes as by one."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
import torch
from helpers import launched, tiny_sd
from helpers.evaluated_project import Project

from partsynth.core.drift.reference import ReferenceNet, save
from partsynth.store.hashing import sha256_file

PRODUCTS = ("models/tokens", "data", f"{launched.EVALUATED}/reports")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("together") / "project"
    tiny_sd.build(root / "models/base")
    tiny_sd.write_real(root, ("gear_t12", "gear_t24", "pump_a"), pictures=5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(ReferenceNet((8, 8, 16, 16), 16), root / "encoder", 64)
    Project(root / launched.EVALUATED).make()
    return root


def hashes(root: Path) -> dict[str, str]:
    files = [path for name in PRODUCTS for path in sorted((root / name).rglob("*")) if path.is_file()]
    return {path.relative_to(root).as_posix(): sha256_file(path) for path in files}


@pytest.mark.slow
def test_one_two_and_three_processes_make_the_same(project: Path) -> None:
    """The one is this process."""
    found = {}
    for count in (1, 2, 3):
        root = Path(shutil.copytree(project, project.parent / str(count)))
        if count == 1:
            torch.set_num_threads(1)  # as the others
            with contextlib.chdir(root):
                launched.stages(root)
        else:
            ended = launched.run(root, count, [launched.__file__, "stages"])
            assert ended.codes == [0] * count, ended.errors
            assert "generate id: " in ended.outputs[0] and not any(ended.outputs[1:])
        assert not list(root.rglob("*.part")) and not list((root / ".work/tokens").glob("*"))
        found[count] = hashes(root)
    assert any(name.endswith("predictions.csv") for name in found[1]) and len(found[1]) > 40
    assert found[2] == found[1] and found[3] == found[1]
