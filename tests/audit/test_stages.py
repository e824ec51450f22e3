"""What stages ran with, against params.yaml as it is: values that YAML 1.1 and 1.2 read differently are unchanged."""

from __future__ import annotations

from pathlib import Path

from dvc.utils.serialize import dumps_yaml, loads_yaml

from partsynth.audit.stages import check_stages
from partsynth.audit.workspace import Workspace
from partsynth.lineage.graph import read_lock
from partsynth.lineage.objects import PipelineStage

PARAMS = "train:\n  precision: no\n  flips: on\n  steps: 010\n  rate: 1e-3\n  classes: [12:30, NO, 0o17]\n"


def told(root: Path) -> list[str]:
    pipeline = {"train": PipelineStage(cmd="partsynth train", frozen=False, uncached=())}
    return [fault.message for fault in check_stages(Workspace(root), read_lock(root), pipeline, {})]


def test_parameters_as_dvc_records_them_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    stage = {"cmd": "partsynth train", "params": {"params.yaml": loads_yaml(PARAMS)}}
    lock = {"schema": "2.0", "stages": {"train": stage | {"outs": [{"path": "on", "md5": "0" * 32}]}}}
    (tmp_path / "dvc.lock").write_text(dumps_yaml(lock))
    assert told(tmp_path) == []
    (tmp_path / "params.yaml").write_text(PARAMS.replace("no", "bf16").replace("12:30", "12:31"))
    assert told(tmp_path) == [
        "train.classes is not as dvc.lock has it of train: dvc repro",
        "train.precision is not as dvc.lock has it of train: dvc repro",
    ]
