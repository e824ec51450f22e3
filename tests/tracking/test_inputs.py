"""Data sets of runs."""

from __future__ import annotations

import json

from helpers.runs import start

from partsynth.lineage.graph import read_lock
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.query import find_runs, get_run
from partsynth.tracking.store import client


def test_data_inputs_carry_dvc_s_hashes(project):
    (run,) = find_runs(project, name="real_id_negatives-seed0")
    lock = read_lock(project)
    outs = {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}
    got = {item.path: item.digest for item in run.inputs}
    wanted = ("data/real", "data/augmented/id", "data/augmented/near_ood", "models/tokens")
    assert got == {path: outs[path] for path in (*wanted, "data/selected/real_id_negatives.csv")}
    assert all(len(got[path]) == 36 for path in wanted)  # md5 + ".dir", what MLflow has room for
    users = find_runs(project, digest=outs["data/augmented/id"])
    assert [r.name for r in users] == ["real_id-seed0", "real_id_negatives-seed0"]


def test_a_dataset_source_reads_back(project, tmp_path):
    import mlflow

    from partsynth.tracking.dataset_source import DvcDatasetSource

    (run,) = find_runs(project, name="real_id-seed0")
    inputs = client(project).get_run(run.run_id).inputs.dataset_inputs
    item = next(i for i in inputs if json.loads(i.dataset.source)["path"] == "data/augmented/id")
    source = mlflow.data.get_source(item)  # by the entry point, as any MLflow user would
    assert isinstance(source, DvcDatasetSource)
    folder = source.load(str(tmp_path))
    names = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    kept = project / "data/augmented/id"
    assert names == {p.relative_to(kept) for p in kept.rglob("*") if p.is_file()}
    assert all((folder / n).read_bytes() == (kept / n).read_bytes() for n in names)


def test_two_workers_that_first_name_a_data_set_at_one_moment_both_log_it(plain):
    from mlflow.store.tracking.dbmodels.models import SqlDataset
    from sqlalchemy import event

    inputs, others = [DataInput("real", "data/real", "race")], []

    def between(*_):  # MLflow makes the row after it looked for one
        if not others:
            others.append(None)
            with start(plain, "race of the other", inputs=inputs) as run:
                others.append(run.run_id)

    event.listen(SqlDataset, "init", between)
    try:
        with start(plain, "race", inputs=inputs) as run:
            pass
    finally:
        event.remove(SqlDataset, "init", between)
    assert len({run.run_id, *others}) == 3
    for run_id in (run.run_id, others[1]):
        view = get_run(plain, run_id)
        assert view.status == "FINISHED" and [item.digest for item in view.inputs] == ["race"]
