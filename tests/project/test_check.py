"""`partsynth check`: every fault of a project at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from partsynth.errors import UserError
from partsynth.project import check, init


@pytest.mark.slow
def test_check_names_every_fault(tmp_path: Path, photos: Path, base: Path, dvc_here: None) -> None:
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
def test_a_clone_without_the_photographs_is_in_order(tmp_path: Path, photos: Path, base: Path, dvc_here: None) -> None:
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


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("params.yaml", b"a: &a [*a]\n", "an alias (*) that stands for itself"),
        (
            "params.yaml",
            b"".join(b"l%d: &l%d [%s]\n" % (n, n, b",".join([b"*l%d" % (n - 1) if n else b"x"] * 9)) for n in range(9)),
            "aliases of aliases",
        ),
        ("dvc.yaml", b"# \xe4\n", "is no YAML in UTF-8"),
        ("dvc.yaml", b"stages: 7\n", "stages must be a mapping"),
        ("dvc.lock", b"stages: " + b"[" * 3000 + b"]" * 3000, "is no lock file of DVC"),
    ],
)
def test_what_dvc_would_break_on_is_one_sentence(tmp_path: Path, name: str, text: bytes, told: str) -> None:
    for file, whole in {"params.yaml": b"{}\n", "dvc.yaml": b"stages: {}\n", name: text}.items():
        (tmp_path / file).write_bytes(whole)
    with pytest.raises(UserError) as error:
        check.check(tmp_path, tmp_path / "params.yaml")
    assert told in str(error.value) and str(tmp_path / name) in str(error.value)
