"""The harness of kills: that it sees what it is there to see; and a few kills of early stages."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import kill_matrix
import pytest
from helpers import forked
from helpers.fresh import fresh
from kill_matrix import Matrix, Outcome, Target

TARGET = Target(name="select", arguments=["select"], volatile=("exported",))


def matrix(root: Path) -> Matrix:
    found = Matrix(root / "work", 0)
    (found.place / "data").mkdir(parents=True)
    for name in ("data/a.csv", "data/b.csv"):
        (found.place / name).write_text(name)
    found.references["select"] = found.state(TARGET)
    return found


def test_leftovers_missing_files_and_other_bytes_are_seen(tmp_path: Path) -> None:
    found = matrix(tmp_path)
    assert found.differences(TARGET) == []
    (found.place / "data/.a.csv.x1.tmp").write_text("half")
    (found.place / "data/b.csv").unlink()
    (found.place / "data/a.csv").write_text("other")
    assert found.differences(TARGET) == [
        "missing: data/b.csv",
        "left over: data/.a.csv.x1.tmp",
        "other bytes: data/a.csv",
    ]


def test_runs_that_still_run_or_stand_twice_are_seen(tmp_path: Path) -> None:
    found = matrix(tmp_path)
    with sqlite3.connect(found.place / "mlflow.db") as store:
        store.execute("create table runs (run_uuid, name, status, artifact_uri, lifecycle_stage)")
        store.execute("create table tags (key, value, run_uuid)")
        store.execute("create table model_versions (name, version)")
        store.execute("create table registered_model_aliases (name, alias, version)")
        store.execute("insert into runs values ('1', 'real-seed0', 'FINISHED', 'file:///none', 'active')")
    found.references["select"] = found.state(TARGET)
    assert found.differences(TARGET) == []
    with sqlite3.connect(found.place / "mlflow.db") as store:
        store.execute("insert into runs values ('2', 'real-seed0', 'RUNNING', 'file:///none', 'active')")
    assert "'running': 1" in found.differences(TARGET)[0]
    with sqlite3.connect(found.place / "mlflow.db") as store:
        store.execute("update runs set status = 'FINISHED'")
    assert found.differences(TARGET)[0].count("real-seed0") == 3  # twice instead of once
    with sqlite3.connect(found.place / "mlflow.db") as store:
        store.execute("insert into tags values ('superseded_by', '2', '1')")
    assert found.differences(TARGET) == []


def test_who_lives_on_is_seen(tmp_path: Path) -> None:
    running = forked.cold(["-c", "sleep 300 & wait"], tmp_path, tmp_path / "log", ("sh",))
    end = time.monotonic() + 60
    while len(forked.session_of(running.pid)) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert running.wait(0) is None and len(forked.session_of(running.pid)) == 2
    os.kill(running.pid, 9)
    assert running.wait(60) == -9
    (left,) = forked.session_of(running.pid)
    os.kill(left, 9)


def test_the_page_tells_faults() -> None:
    good = Outcome(target="select", trouble="SIGKILL", moment=0, where="0.20 s, imports", fault="")
    bad = Outcome(target="select", trouble="SIGINT", moment=0, where="0.30 s, work", fault="left over: x.tmp")
    full = Outcome(target="select", trouble="disk", moment=0, where="0 of 8 kB left", fault="", said="the disk is full")
    text = kill_matrix.markdown([good, bad, full], "python x", "abc", 3, 9)
    assert "commit abc, seed 3: 3 of 9 cases run, 1 faults" in text
    assert (
        "0.20 s i equal" in text and "0.30 s **fault**" in text and "- select, SIGINT, 0.30 s, work: left over" in text
    )


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that another user comes to, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_few_kills_leave_nothing_behind(open_to_all: Path) -> None:
    wanted = [target for target in kill_matrix.targets() if target.name in ("ingest", "select")]
    outcomes = fresh(kill_matrix.run, open_to_all / "work", wanted, 2, 1)
    # Ctrl-C before the program's first line is answered by Python itself
    started = [o for o in outcomes if (o.said, o.fault) != ("KeyboardInterrupt", "traceback: KeyboardInterrupt")]
    assert len(started) >= 10 and not [o for o in started if o.fault]
    assert fresh(kill_matrix.run, open_to_all / "work", wanted, 2, 1) == outcomes
