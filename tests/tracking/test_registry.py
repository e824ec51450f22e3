"""The model registry."""

from __future__ import annotations

import pytest
from helpers.runs import start

from partsynth.errors import UserError
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.query import find_runs, get_run, model_versions, read_artifact
from partsynth.tracking.registry import register_model
from partsynth.tracking.store import client


def test_a_run_s_model_is_registered_once_and_found_by_alias(plain, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    inputs = [DataInput("real", "data/real", "0" * 32 + ".dir")]
    with start(plain, "model", setup="real_id", seed=7, inputs=inputs) as run:
        run.log_model(tmp_path)
    version = register_model(plain, run.run_id, "# Card", alias="champion", metrics={"accuracy_test": 0.7})
    assert register_model(plain, run.run_id, "# Card 2", alias="champion") == version
    for name in (run.run_id, "champion", "partsynth@champion", "real_id-seed7"):
        assert get_run(plain, name).run_id == run.run_id
    stored = client(plain).get_model_version("partsynth", version)
    assert stored.description == "# Card 2"
    assert read_artifact(plain, run.run_id, "model_card.md") == b"# Card 2"
    assert stored.tags["data.data/real"] == "0" * 32 + ".dir" and stored.tags["metric.accuracy_test"] == "0.7"
    (found,) = (model for model in model_versions(plain) if model.run_id == run.run_id)
    assert (found.model, found.version, found.aliases) == ("partsynth", version, ("champion",))
    with pytest.raises(UserError, match="no MLflow run, alias or run name 'nobody'"):
        get_run(plain, "nobody")


def test_what_cannot_be_registered_is_named(plain):
    with start(plain, "without a model") as empty:
        pass
    with pytest.raises(UserError, match="logged no model"):
        register_model(plain, empty.run_id, "")
    with start(plain, "without a model"), pytest.raises(UserError, match="it is RUNNING"):
        register_model(plain, find_runs(plain, fingerprint="without a model")[-1].run_id, "")
    with pytest.raises(UserError, match="it is FINISHED and replaced"):
        register_model(plain, empty.run_id, "")
