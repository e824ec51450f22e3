"""Studies with real training, real MLflow and real storage; workers that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers import small_project

from partsynth.audit import checkout
from partsynth.audit import image as audit_image
from partsynth.config import load as config_load
from partsynth.config.study import StudySpace
from partsynth.config.training import SelectSetup, Train, TrainChanges
from partsynth.errors import UserError
from partsynth.store.files import read_json
from partsynth.study import results
from partsynth.study import space as search
from partsynth.study import workers as study_workers
from partsynth.study.results import _print
from partsynth.study.storage import load_study
from partsynth.tracking.query import find_runs, get_run, read_artifact
from partsynth.tracking.store import STUDIES

CARD = "data/selected/real_id_negatives.csv"


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return small_project.finished(tmp_path_factory.getbasetemp())


@pytest.fixture
def project(finished, tmp_path):
    return small_project.copy(finished, tmp_path / "project")


def start(root: Path, workers: int, **options) -> subprocess.Popen:
    """A study in a process group of its own, as from a terminal."""
    arguments = [sys.executable, "pipeline.py", "study", json.dumps(options), str(workers)]
    return subprocess.Popen(
        arguments,
        cwd=root,
        env=small_project.environment() | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trial_of_a_worker(process: subprocess.Popen, root: Path, options: dict, number: int | None = None):
    """(pid, trial) of a worker in the middle of a trial."""
    params = small_project.study_params(**options)
    opened = None
    while process.poll() is None:
        if opened is None:
            with contextlib.suppress(UserError):
                opened = load_study(params.study, root)
        for trial in opened.get_trials(deepcopy=False) if opened else []:
            attributes = trial.user_attrs
            busy = trial.state.name == "RUNNING" and {"worker", "mlflow_run_id"} <= attributes.keys()
            if busy and number in (None, trial.number):
                return int(attributes["worker"].split(":")[1]), trial
        time.sleep(0.1)
    raise AssertionError(f"the study ended before a worker could be caught: {process.communicate()[0]}")


def check_agreement(root: Path, options: dict, target: int) -> dict:
    """Every trial complete, none lost or doubled, and MLflow tells the same as Optuna."""
    data = results.results(small_project.study_params(**options), root)
    assert data["counts"].get("complete") == target
    assert not {"running", "waiting"} & data["counts"].keys()
    complete = [t for t in data["trials"] if t["state"] == "COMPLETE"]
    live = find_runs(root, parent_run_id=data["mlflow_run_id"])
    assert {r.run_id for r in live} == {t["mlflow_run_id"] for t in complete} and len(live) == target
    runs = {r.run_id: r for r in live}
    for trial in complete:
        run = runs[trial["mlflow_run_id"]]
        assert run.status == "FINISHED" and run.tags["trial"] == str(trial["number"])
        assert run.metrics["val_accuracy"] == trial["val_accuracy"]
        assert float(run.params["train.temperature"]) == trial["params"]["temperature"]
    everything = find_runs(root, parent_run_id=data["mlflow_run_id"], live=False)
    assert not [(r.status, r.tags.get("why")) for r in everything if r.status not in ("FINISHED", "KILLED")]
    assert get_run(root, data["mlflow_run_id"]).status == "FINISHED"
    params = small_project.study_params(**options)
    for point in search.baselines(params, search.read_data(params, root)):
        assert [t["params"] == point for t in complete].count(True) == 1  # neither lost nor doubled
    return data


@pytest.mark.parametrize("columns", ["80", "200"])
def test_a_table_wider_than_the_terminal_loses_nothing(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    drawn = {
        "temperature": 0.0338,
        "learning_rate": 0.00321,
        "negatives_per_anchor": 0.5,
        "band_low": 0.123,
        "band_high": 0.987,
    }
    trial = {"state": "COMPLETE", "feasible": True, "val_accuracy": 0.0, "near_ood_auroc": 0.0417, "drift": 1.23e-05}
    _print(
        {
            "study": "wide",
            "setup": "real_id_negatives",
            "mode": "constrained",
            "counts": {"complete": 2},
            "best": 0,
            "pareto": [],
            "importance": {},
            "history": [],
            "trials": [trial | {"number": n, "params": drawn} for n in (0, 1)],
        }
    )
    told = capsys.readouterr().out
    for word in (
        "temperature",
        "learning",
        "negatives",
        "anchor",
        "1.23e-05",
        "0.0338",
        "0.00321",
        "accuracy",
        "best: trial 0",
    ):
        assert word in told, word


def test_a_study_runs_is_shown_applied_and_gone_on_with(project, capsys):
    params = small_project.study_params(trials=4)
    study_workers.run(params, project)
    data = check_agreement(project, {}, 4)
    assert [t["number"] for t in data["trials"]] == [0, 1, 2, 3]
    shares = [t["params"]["synthetic_share"] for t in data["trials"][:3]]
    negatives = [t["params"]["negatives_per_anchor"] for t in data["trials"][:3]]
    assert shares == [0, 0.5, 0.5] and negatives == [0, 0, 0.5]  # the three setups' mixes come first
    run = get_run(project, data["trials"][3]["mlflow_run_id"])
    digests = {item.path: item.digest for item in run.inputs}
    assert {"data/real", "data/ood", "data/augmented/id", "data/augmented/near_ood", "models/tokens", CARD} <= set(
        digests
    )
    assert all(digests.values()) and run.experiment == STUDIES

    more = small_project.study_params(trials=5)
    study_workers.run(more, project)
    assert len(check_agreement(project, {}, 5)["trials"]) == 5
    drawn = {t["params"]["temperature"] for t in results.results(more, project)["trials"][3:]}
    assert len(drawn) == 2  # a second start draws other points
    study_workers.run(more, project)  # nothing left to do
    assert len(results.results(more, project)["trials"]) == 5

    capsys.readouterr()
    results.show(more, project)
    told = capsys.readouterr().out
    assert "5 complete" in told and "best: trial" in told and "temperature" in told
    written = read_json(project / "reports/studies/partsynth.json")
    assert written["best"] is not None and len(written["history"]) == 5

    before = (project / "params.yaml").read_bytes()
    with pytest.raises(UserError, match="never writes params.yaml"):
        results.apply(more, project, Path("params.yaml"))
    preset = results.apply(more, project, Path("presets/tuned.yaml"), trial=3)
    assert (project / "params.yaml").read_bytes() == before
    tuned = yaml.safe_load(preset.read_text())
    third = written["trials"][3]["params"]
    assert tuned["train"]["temperature"] == third["temperature"]
    assert tuned["train"]["negatives"] == round(third["negatives_per_anchor"] * 8)
    assert {k: v for k, v in tuned.items() if k != "train"} == {
        k: v for k, v in yaml.safe_load(before).items() if k != "train"
    }
    with pytest.raises(UserError, match="exists"):
        results.apply(more, project, Path("presets/tuned.yaml"))
    with pytest.raises(UserError, match="trial 77 is not complete"):
        results.apply(more, project, Path("presets/other.yaml"), trial=77)

    for change in ({"mode": "pareto"}, {"min_ood_auroc": 0.9}, {"setup": "real_id"}):
        with pytest.raises((UserError, ValueError), match="begun with other values|other than"):
            study_workers.run(small_project.study_params(trials=6, **change), project)


def presets():
    return sorted((Path(__file__).parents[2] / "presets").glob("*.yaml"))


@pytest.mark.parametrize("path", [None, *presets()], ids=lambda path: path.stem if path else "defaults")
def test_the_ranges_hold_the_values_that_the_baselines_have(path):
    found = None if path is None else config_load.load_all(path)
    space, train = (found.study.space, found.train) if found else (StudySpace(), Train())
    values = {
        "temperature": train.temperature,
        "learning_rate": train.learning_rate,
        "synthetic_share": train.synthetic_share,
        "negatives_per_anchor": train.negatives / train.anchors,
        "negative_weight": train.negative_weight,
    }
    for name, value in values.items():
        low, high = getattr(space, name)
        assert low <= value <= high, name


def test_a_study_starts_from_its_setups_own_training(project):
    own = {"synthetic_share": 0.4, "temperature": 0.2}
    small_project.set_params(project, "select.real_id_negatives", train=own)
    params = small_project.study_params(trials=1)
    setup = SelectSetup(role="negative", train=TrainChanges(**own))
    params = params.model_copy(update={"select": params.select | {"real_id_negatives": setup}})
    first = search.baselines(params, search.read_data(params, project))
    assert [p["synthetic_share"] for p in first] == [0, 0.4, 0.4] and {p["temperature"] for p in first} == {0.2}
    assert search.settings(params, {})[0] == params.train.model_copy(update=own)
    study_workers.run(params, project)
    preset = yaml.safe_load(results.apply(params, project, Path("tuned.yaml"), trial=0).read_text())
    assert preset["select"]["real_id_negatives"]["train"] == {"synthetic_share": 0.0, "temperature": 0.2}
    assert preset["train"]["negatives"] == 0 and "synthetic_share" not in preset["train"]


def test_the_test_parts_are_never_opened(project):
    for part in ("data/real/test", "data/real/shifted", "data/ood/near/test"):
        shutil.rmtree(project / part)
    study_workers.run(small_project.study_params(trials=1), project)
    assert results.results(small_project.study_params(), project)["counts"] == {"complete": 1, "waiting": 2}


def test_limits_decide_which_trial_is_best(project):
    limits = {"trials": 3, "min_ood_auroc": 1.0, "max_drift": 0.2}
    study_workers.run(small_project.study_params(**limits), project)
    data = results.results(small_project.study_params(**limits), project)
    assert [t["drift"] for t in data["trials"]] == [0, 0.25, 0.25]  # share 0.5 of pictures at percentile 0.5
    assert [t["feasible"] for t in data["trials"]][1:] == [False, False]
    assert data["best"] in (0, None)


def test_pareto_mode_gives_a_front(project):
    options = {"trials": 3, "mode": "pareto", "setup": "real_id"}
    study_workers.run(small_project.study_params(**options), project)
    data = results.results(small_project.study_params(**options), project)
    assert data["pareto"] and data["best"] in data["pareto"] and data["counts"] == {"complete": 3}
    assert "negatives_per_anchor" not in data["trials"][0]["params"]


def test_a_trial_with_its_own_band_keeps_its_table(project, tmp_path):
    options = {"rule": "band", "trials": 4}
    study_workers.run(small_project.study_params(**options), project)
    data = results.results(small_project.study_params(**options), project)
    assert all(t["band"][0] < t["band"][1] <= 1 for t in data["trials"])
    trial = data["trials"][3]
    run = get_run(project, trial["mlflow_run_id"])
    table = next(item for item in run.inputs if item.name.startswith("selected"))
    assert table.path == "lineage/selected.csv" and read_artifact(project, run.run_id, table.path)
    result = checkout.run(project, run.run_id, tmp_path / "out")
    assert result.faults == [] and (tmp_path / "out/lineage/selected.csv").is_file()
    assert audit_image.image(project, "data/real/train/gear_a/00.png").faults == []
    preset = results.apply(small_project.study_params(**options), project, Path("tuned.yaml"), trial=3)
    assert yaml.safe_load(preset.read_text())["select"]["real_id_negatives"]["band"] == trial["band"]


def test_unfinished_or_changed_data_is_refused(project):
    table = project / CARD
    text = table.read_text()
    table.unlink()
    with pytest.raises(UserError, match=f"{CARD} is missing"):
        study_workers.run(small_project.study_params(), project)
    table.write_text(text + "\n")
    with pytest.raises(UserError, match=f"{CARD} is not what dvc.lock records"):
        study_workers.run(small_project.study_params(), project)
    table.write_text(text)
    (project / "data/ood/manifest.csv").unlink()
    shutil.copy(project / "data/real/manifest.csv", project / "data/ood/manifest.csv")
    with pytest.raises(UserError, match="data/ood/manifest.csv is not what dvc.lock records"):
        study_workers.run(small_project.study_params(), project)


def test_faults_of_a_user_are_sentences(project, monkeypatch):
    with pytest.raises(UserError, match="no study yet"):
        results.show(small_project.study_params(), project)
    with pytest.raises(UserError, match="study.setup is 'nobody'; select has real"):
        study_workers.run(small_project.study_params(setup="nobody"), project)
    closed = "postgresql://someone:secret@127.0.0.1:1/none"
    with pytest.raises(UserError, match="cannot open study.storage") as error:
        study_workers.run(small_project.study_params(storage=closed), project)
    assert "secret" not in str(error.value) and "someone:***" in str(error.value)
    with monkeypatch.context() as patched:
        patched.setattr("partsynth.training.fit.fit", lambda *a: 1 / 0)
        with pytest.raises(UserError, match="3 trials failed one after another, the last with ZeroDivisionError"):
            study_workers.run(small_project.study_params(), project)
    study_workers.run(small_project.study_params(), project)  # their parameters were put back
    check_agreement(project, {}, 4)


# --- killed and interrupted ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_s_trial_is_done_by_another_on_a_journal(project):
    options = {"trials": 6, "steps": 40}
    process = start(project, 2, **options)
    pid, trial = trial_of_a_worker(process, project, options)
    os.kill(pid, signal.SIGKILL)
    told, _ = process.communicate(timeout=900)
    assert process.returncode == 0, told
    data = check_agreement(project, options, 6)
    again = [t for t in data["trials"] if t["retry_of"] == trial.number]
    assert len(again) == 1 and again[0]["params"] == trial.params and again[0]["state"] == "COMPLETE"
    dead = get_run(project, trial.user_attrs["mlflow_run_id"])
    assert dead.status == "KILLED" and dead.tags["superseded_by"] == again[0]["mlflow_run_id"]


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was_on_a_journal(project):
    options = {"trials": 4, "steps": 40}
    process = start(project, 1, **options)
    _, trial = trial_of_a_worker(process, project, options, number=1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    study_workers.run(small_project.study_params(**options), project)
    data = check_agreement(project, options, 4)
    assert [t["params"] for t in data["trials"] if t["retry_of"] == 1] == [trial.params]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_loses_nothing(project, workers):
    options = {"trials": 4, "steps": 40}
    process = start(project, workers, **options)
    _, trial = trial_of_a_worker(process, project, options, number=1)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    told, _ = process.communicate(timeout=900)
    assert process.returncode != 0, told
    states = [t["state"] for t in results.results(small_project.study_params(**options), project)["trials"]]
    assert "RUNNING" not in states and "WAITING" in states
    study_workers.run(small_project.study_params(**options), project)
    data = check_agreement(project, options, 4)
    assert [t["params"] for t in data["trials"] if t["retry_of"] == 1] == [trial.params]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture
def postgres(tmp_path):
    """A PostgreSQL server of this test's own; its address."""
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    binaries = next((f for f in folders if (f / "initdb").is_file() and (f / "postgres").is_file()), None)
    if binaries is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    home = Path("/tmp") / f"partsynth-postgres-{os.getpid()}-{time.time_ns()}"  # its socket's path must be short
    home.mkdir(mode=0o755)
    prefix: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(home, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = home / "data"
    small_project.command(Path("/"), *prefix, str(binaries / "initdb"), "-D", str(data), "-U", "study", "-A", "trust")
    server = subprocess.Popen(
        [*prefix, str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", str(home), "-h", "127.0.0.1"],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    import psycopg2

    address = f"postgresql://study@127.0.0.1:{port}/postgres"
    for _ in range(200):
        try:
            psycopg2.connect(address).close()
            break
        except psycopg2.OperationalError:
            time.sleep(0.1)
    yield address
    os.killpg(server.pid, signal.SIGINT)
    server.wait(timeout=30)
    shutil.rmtree(home)


@pytest.mark.slow
def test_three_workers_on_postgresql_one_of_them_killed(project, postgres):
    options = {"trials": 8, "steps": 40, "storage": postgres}
    process = start(project, 3, **options)
    pid, trial = trial_of_a_worker(process, project, options)
    os.kill(pid, signal.SIGKILL)
    told, _ = process.communicate(timeout=900)
    assert process.returncode == 0, told
    assert "was killed by signal 9" in told
    data = check_agreement(project, options, 8)
    again = [t for t in data["trials"] if t["retry_of"] == trial.number]
    assert [t["params"] for t in again] == [trial.params]
    assert get_run(project, trial.user_attrs["mlflow_run_id"]).status == "KILLED"


@pytest.mark.slow
def test_a_silent_worker_s_trial_is_given_to_another_by_heartbeat(project, postgres, monkeypatch):
    """As of another machine: its process cannot be looked at, only its heartbeat stops."""
    options = {"trials": 2, "steps": 40, "storage": postgres}
    process = start(project, 1, **options)
    _, trial = trial_of_a_worker(process, project, options)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    monkeypatch.setattr("partsynth.study.storage._is_dead", lambda worker: False)
    study_workers.run(small_project.study_params(**options), project)
    data = results.results(small_project.study_params(**options), project)
    assert data["counts"]["complete"] == 2
    assert [t["params"] for t in data["trials"] if t["retry_of"] == trial.number] == [trial.params]
