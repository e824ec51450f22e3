"""`partsynth check`: every fault of a project at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from partsynth.errors import UserError
from partsynth.project import check, init


@pytest.mark.slow
def test_check_names_every_fault(tmp_path: Path, photos: Path, base: Path) -> None:
    own = tmp_path / "own"
    init.init(own, "photographs", photos, base)
    text = (own / "params.yaml").read_text()
    text = text.replace("setup: real_id\n", "setup: reel\n").replace("models/base\n", "models/bass\n")
    (own / "params.yaml").write_text(text.replace("my photos", "my fotos"))
    with pytest.raises(UserError) as caught:
        check.check(own, own / "params.yaml")
    for part in (
        "study.setup: no 'reel', did you mean real; select has real",
        "there is no folder models/bass",
        "my fotos and no stage writes it (ingest)",
    ):
        assert part in str(caught.value)
    (own / "dvc.yaml").write_text((own / "dvc.yaml").read_text().replace("foreach: ${sets}", "foreach: ${setz}"))
    with pytest.raises(UserError, match=r"dvc\.yaml: .*setz"):
        check.check(own, own / "params.yaml")


@pytest.mark.slow
def test_a_clone_without_the_photographs_is_in_order(tmp_path: Path, photos: Path, base: Path) -> None:
    own = tmp_path / "own"
    init.init(own, "photographs", photos, base)
    shutil.rmtree(photos)
    with pytest.raises(UserError, match=r"my photos and no stage writes it \(ingest\)"):
        check.check(own, own / "params.yaml")
    stage = yaml.safe_load((own / "dvc.yaml").read_text())["stages"]["ingest"]
    outs = [name if isinstance(name, str) else next(iter(name)) for name in stage["outs"]]
    for name in outs:
        (own / name).mkdir(parents=True, exist_ok=True)
    recorded = [{"path": name, "hash": "md5", "md5": f"{'0' * 32}.dir"} for name in outs]
    lock = {"schema": "2.0", "stages": {"ingest": {"cmd": stage["cmd"], "outs": recorded}}}
    (own / "dvc.lock").write_text(yaml.safe_dump(lock))
    told = "\n".join(check.check(own, own / "params.yaml"))
    assert "my photos is not here, what ingest made of it is: `dvc repro --allow-missing` runs the rest" in told
