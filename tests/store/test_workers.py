"""Processes that do a stage together."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import launched
from hypothesis import given
from hypothesis import strategies as st

from partsynth.errors import UserError
from partsynth.store.workers import Workers, here


@given(count=st.integers(1, 12), things=st.integers(0, 60))
def test_each_thing_is_one_process_s(count: int, things: int) -> None:
    everyone = [Workers(rank, count) for rank in range(count)]
    whole = list(range(things))
    parts = [list(one.mine(whole)) for one in everyone]
    assert [thing for part in parts for thing in part] == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == [list(everyone[0].of(rank, things)) for rank in range(count)]
    dealt = [list(one.dealt(whole)) for one in everyone]
    assert sorted(thing for part in dealt for thing in part) == whole
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_without_a_launcher_there_is_one_process_and_no_torch() -> None:
    code = (
        "import sys; from partsynth.store.workers import here; one = here(); one.barrier(); tally = one.tally()\n"
        "assert (one.rank, one.count, one.first) == (0, 1, True)\n"
        "assert one.gather(b'a') == [b'a'] and one.total(3) == 3 and tally.add(2) == tally.sum() == 2\n"
        "one.leave(); assert one.fail('told by this one') and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("lacking", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_launcher_that_says_too_little_is_a_fault(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    monkeypatch.delenv(lacking)
    with pytest.raises(UserError, match=f"WORLD_SIZE is 2 but {lacking} not set"):
        here.__wrapped__()


MEET = """
import sys, time
from partsynth.store.workers import here
one = here()
tally = one.tally()
for _ in range(5): tally.add()
assert one.gather(b"%d" % one.rank) == [b"0", b"1", b"2"] and one.total(one.rank) == 3
one.barrier()
deadline = time.monotonic() + 20
while tally.sum() < 15 and time.monotonic() < deadline: time.sleep(0.01)
assert tally.sum() == 15
print("told by", one.rank)
one.barrier(lambda: None)
one.leave()
"""


@pytest.mark.slow
def test_three_processes_meet_and_one_prints(tmp_path: Path) -> None:
    ended = launched.run(tmp_path, 3, ["-c", MEET])
    assert ended.codes == [0, 0, 0], ended.errors
    assert ended.outputs == ["told by 0\n", "", ""]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_none_waits_for_a_process_that_was_killed(tmp_path: Path, killed: int) -> None:
    code = (
        "import time; from pathlib import Path; from partsynth.errors import UserError\n"
        "from partsynth.store.workers import here; one = here(); one.barrier()\n"
        f"Path('met').touch(); time.sleep(600 if one.rank == {killed} else 0)\n"
        "try: one.barrier()\n"
        "except KeyboardInterrupt: told = one.fail(one.fault) and one.fault; exit(told or 1)\n"
        "except UserError as error: told = one.fail(str(error)) and error; exit(told or 1)"
    )
    started = launched.start(tmp_path, 2, ["-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (tmp_path / "met").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    started[killed].kill()
    ended = launched.wait(started, 60)
    assert ended.codes[1 - killed] == 1 and ended.codes[killed] == -9
    assert f"process {killed + 1} of 2" in ended.errors[1 - killed]
    assert "start the stage again" in ended.errors[1 - killed]
