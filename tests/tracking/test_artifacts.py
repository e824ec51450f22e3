"""Artifacts by their address."""

from __future__ import annotations

import shutil

from helpers.runs import start

from partsynth.tracking.artifacts import Artifacts
from partsynth.tracking.query import get_run, read_artifact
from partsynth.tracking.store import tracking_uri


def test_two_copies_in_one_process_are_written_each_in_its_own(tmp_path, plain):
    with start(plain, "shared") as run:
        pass
    copy = tmp_path / "a copy"
    shutil.copytree(plain, copy)
    for root, card in ((plain, b"first"), (copy, b"second"), (plain, b"third")):
        Artifacts(get_run(root, run.run_id).artifact_uri, tracking_uri(root)).add_files({"note.txt": card})
    assert read_artifact(plain, run.run_id, "note.txt") == b"third"
    assert read_artifact(copy, run.run_id, "note.txt") == b"second"


def test_files_and_folders_arrive_under_their_names(tmp_path, plain):
    (tmp_path / "made/inner").mkdir(parents=True)
    (tmp_path / "made/inner/a.txt").write_bytes(b"a")
    with start(plain, "files") as run:
        run.log_artifact(tmp_path / "made", "kept")
        run.log_artifact(tmp_path / "made/inner/a.txt")
        run.log_model(tmp_path / "made")
        run.log_file("deep/er/b.txt", b"b")
    for path in ("kept/made/inner/a.txt", "a.txt", "model/inner/a.txt"):
        assert read_artifact(plain, run.run_id, path) == b"a", path
    assert read_artifact(plain, run.run_id, "deep/er/b.txt") == b"b"
    for missing in ("b.txt", "kept"):
        assert read_artifact(plain, run.run_id, missing) is None
    assert read_artifact(plain, "0" * 32, "a.txt") is None
