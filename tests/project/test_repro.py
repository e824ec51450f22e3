"""`partsynth repro`: what `dvc repro` makes, stages side by side, and nothing left running."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.project import repro
from partsynth.project.dvc_process import Running

# notes when it began and ended, then makes its output
STEP = """
import sys, time, pathlib
name, seconds, out = sys.argv[1], float(sys.argv[2]), pathlib.Path(sys.argv[3])
log = pathlib.Path("log") / name
log.write_text(f"{time.time()} ")
time.sleep(seconds)
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(name)
log.write_text(log.read_text() + str(time.time()))
"""
PARAMS = {
    "matrix": {"setups": ["real", "real_id"], "seeds": [0, 1]},
    "train": {"device": "cpu", "threads": 1},
    "select": {"real": {}, "real_id": {}},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """select@SETUP -> train@SETUP-SEED -> evaluate, of small scripts."""

    def cmd(name: str, seconds: float, out: str) -> str:
        return f"{sys.executable} step.py {name} {seconds} {out}"

    models = [f"models/{setup}/{seed}" for setup in ("real", "real_id") for seed in (0, 1)]
    graph = {
        "select": {
            "foreach": "${select}",
            "do": {"cmd": cmd("select-${key}", 0, "data/${key}"), "outs": ["data/${key}"]},
        },
        "train": {
            "matrix": {"setup": "${matrix.setups}", "seed": "${matrix.seeds}"},
            "cmd": cmd("train-${item.setup}-${item.seed}", 4, "models/${item.setup}/${item.seed}"),
            "deps": ["data/${item.setup}"],
            "outs": ["models/${item.setup}/${item.seed}"],
        },
        "evaluate": {"cmd": cmd("evaluate", 0, "summary"), "deps": models, "outs": ["summary"]},
    }
    (tmp_path / "log").mkdir()
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": graph}, sort_keys=False))
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def times(project: Path) -> dict[str, tuple[float, float]]:
    found = {}
    for log in (project / "log").iterdir():
        began, ended = (float(word) for word in log.read_text().split())
        found[log.name] = (began, ended)
    return found


@pytest.mark.slow
def test_trainings_run_side_by_side_and_dvc_has_nothing_left_to_do(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repro.run(project, workers=2)
    took = times(project)
    trainings = [span for name, span in took.items() if name.startswith("train-")]
    together = sum(a[0] < b[1] and b[0] < a[1] for a in trainings for b in trainings) - len(trainings)
    assert len(trainings) == 4 and together >= 2  # of one pair at least, counted both ways
    assert max(span[1] for name, span in took.items() if name.startswith("select")) <= min(t[0] for t in trainings)
    assert took["evaluate"][0] >= max(t[1] for t in trainings)
    told = capfd.readouterr().out
    assert "train@real-0: Running stage 'train@real-0'" in told
    assert "train@real-0: Updating" not in told and "train@real-1: Use" not in told  # DVC's hints on git
    assert "frozen" not in told
    status = [sys.executable, "-m", "dvc", "status"]
    assert "up to date" in subprocess.run(status, cwd=project, capture_output=True, text=True).stdout
    locked = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    assert len(locked) == 7  # no process wrote over what another one had recorded
    repro.run(project, workers=2)
    assert times(project) == took


@pytest.mark.slow
def test_a_training_that_fails_is_told_and_the_other_ends_too(project: Path) -> None:
    graph = yaml.safe_load((project / "dvc.yaml").read_text())
    graph["stages"]["train"]["cmd"] = f"{sys.executable} wait.py ${{item.setup}}"
    (project / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    one_seed = PARAMS | {"matrix": {"setups": ["real", "real_id"], "seeds": [0]}}
    (project / "params.yaml").write_text(yaml.safe_dump(one_seed))
    (project / "wait.py").write_text(
        "import sys, time, pathlib\n"
        "if sys.argv[1] == 'real': time.sleep(6); sys.exit(3)\n"
        "pathlib.Path('log/waits').write_text('')\n"
        "try: time.sleep(600)\n"
        "except KeyboardInterrupt: pathlib.Path('log/interrupted').write_text(''); raise\n"
    )
    began = time.monotonic()
    with pytest.raises(UserError, match="dvc repro failed"):
        repro.run(project, workers=2)
    assert time.monotonic() - began < 60
    assert (project / "log/waits").exists() and (project / "log/interrupted").exists()


def stage(name: str, *needs: str, changed: bool = True) -> repro.Stage:
    return repro.Stage(name, frozenset(needs), changed)


class Record:
    """What ran when: each stage waits until all that it is to meet have begun."""

    def __init__(self, meets: dict[str, set[str]] | None = None) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.calls: list[list[str]] = []
        self.places: dict[str, Mapping[str, str]] = {}
        self.meets, self.moved = meets or {}, threading.Condition()

    def do(self, names: Sequence[str], place: Mapping[str, str]) -> None:
        self.calls.append(list(names))
        for name in names:
            with self.moved:
                self.began.append(name)
                self.places[name] = place
                self.moved.notify_all()
                assert self.moved.wait_for(lambda name=name: self.meets.get(name, set()) <= set(self.began), 20)
                self.ended.append(name)

    def run(self, stages: list[repro.Stage], places: int = 2, most: int = 9, **shares: int) -> None:
        named = [{"PLACE": str(number)} for number in range(places)]
        repro.side_by_side(stages, named, lambda name: shares.get(name, 1), self.do, min(most, places), Running())


def test_stages_that_need_nothing_of_each_other_meet_in_places_of_their_own() -> None:
    record = Record({"a": {"b"}, "b": {"a"}})
    record.run([stage("first"), stage("a", "first"), stage("b", "first"), stage("last", "a", "b")])
    assert record.began[0] == "first" and record.began[-1] == "last" and len(record.began) == 4
    assert record.places["a"] != record.places["b"]


def test_a_stage_waits_for_all_that_it_needs_and_what_most_wait_for_is_first() -> None:
    chain = [stage("alone"), stage("a"), stage("b", "a"), stage("c", "b")]
    record = Record()
    record.run(chain, places=1)
    assert record.began == record.ended == ["a", "b", "alone", "c"]


def test_what_takes_all_places_runs_alone_and_is_not_kept_waiting() -> None:
    record = Record({"c": {"d"}})
    record.run([stage(name) for name in "dcba"], b=2)
    assert record.began[:2] == record.ended[:2] == ["a", "b"] and sorted(record.began) == list("abcd")
    assert record.places["b"] == {} and record.places["c"] != record.places["d"]


def test_those_that_run_alone_one_after_another_are_one_run_of_dvc() -> None:
    whole = [
        stage("render"),
        stage("ingest", "render"),
        stage("kept", changed=False),
        stage("tokens", "ingest", "kept"),
    ]
    trainings = [stage("train-0", "tokens"), stage("train-1", "tokens")]
    last = [stage("evaluate", "train-0", "train-1"), stage("report", "evaluate")]
    record = Record({"train-0": {"train-1"}, "train-1": {"train-0"}})
    alone = dict.fromkeys(("render", "ingest", "kept", "tokens", "evaluate", "report"), 2)
    record.run([*whole, *trainings, *last], **alone)
    assert record.calls[0] == ["render", "ingest", "tokens"] and record.calls[-1] == ["evaluate", "report"]
    assert sorted(record.calls[1:-1]) == [["train-0"], ["train-1"]]


def test_at_most_as_many_run_as_are_asked_for() -> None:
    running, highest, lock = set[str](), [], threading.Lock()

    def do(names: Sequence[str], place: Mapping[str, str]) -> None:
        with lock:
            running.update(names)
            highest.append(len(running))
        time.sleep(0.02)
        with lock:
            running.difference_update(names)

    repro.side_by_side([stage(str(n)) for n in range(9)], [{}] * 8, lambda _: 1, do, 3, Running())
    assert len(highest) == 9 and max(highest) <= 3


def test_what_did_not_change_is_passed_over_unless_something_ran_that_it_needs() -> None:
    record = Record()
    kept, new = stage("kept", changed=False), stage("new")
    record.run([kept, stage("above_kept", "kept", changed=False), new, stage("above_new", "new", changed=False)])
    assert record.began == ["new", "above_new"]
    Record().run([kept])


def test_where_one_fails_all_are_ended_and_none_begins() -> None:
    running, ended = Running(), threading.Event()
    running.end = ended.set  # type: ignore[method-assign]
    began = []

    def do(names: Sequence[str], place: Mapping[str, str]) -> None:
        began.extend(names)
        if names == ["fails"]:
            raise UserError("no")
        assert ended.wait(20)

    with pytest.raises(UserError, match="no"):
        repro.side_by_side(
            [stage("waits"), stage("fails"), stage("later", "waits")], [{}] * 2, lambda _: 1, do, 2, running
        )
    assert sorted(began) == ["fails", "waits"]


@pytest.mark.parametrize(
    ("cores", "name", "found"),
    [
        (8, "train@real-0", 2),
        (1, "train@real-0", 1),
        (8, "tokens", 3),
        (8, "generate@id", 3),
        (8, "quality@id", 4),
        (8, "select@real", 1),
        (8, "evaluate", 8),
    ],
)
def test_on_cpus_a_stage_takes_as_many_places_as_it_has_threads(
    monkeypatch: pytest.MonkeyPatch, cores: int, name: str, found: int
) -> None:
    monkeypatch.setattr(repro, "cores", lambda: cores)
    monkeypatch.setattr(repro.psutil, "virtual_memory", lambda: type("M", (), {"available": 1 << 40}))
    sections = {"train": {"device": "cpu", "threads": 2}, "diffusion": {"threads": 3}, "reference": {"threads": 4}}
    params = Params.model_validate(PARAMS | sections)
    places = repro._places(params, None)
    assert places == [{}] * cores
    assert repro._share(name, params, len(places)) == found


def test_without_threads_of_its_own_a_stage_takes_all_places() -> None:
    params = Params.model_validate(PARAMS | {"train": {"device": "cpu"}})
    assert [repro._share(name, params, 8) for name in ("train@real-0", "tokens", "quality@id")] == [8, 8, 8]


def test_each_of_several_gpus_has_stages_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    params = Params.model_validate(PARAMS | {"train": {"device": "auto"}})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices = [place["CUDA_VISIBLE_DEVICES"] for place in repro._places(params, None)]
    assert devices == ["0", "1", "2"]
    assert repro._share("train@real-0", params, 3) == repro._share("generate@id", params, 3) == 1
    shared = params.model_copy(update={"launch": "torchrun"})  # by several processes
    assert [repro._share(name, shared, 3) for name in ("generate@id", "train@real-0")] == [3, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in repro._places(params, 3)] == ["5", "7", "5"]


def test_where_no_project_is_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="partsynth init"):
        repro.run(tmp_path)
