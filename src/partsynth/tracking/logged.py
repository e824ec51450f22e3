"""Exported models in MLflow's form: a pyfunc folder, and its copy as a LoggedModel of the run that trained it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from partsynth.store.files import write_text_atomic
from partsynth.tracking.store import client, import_mlflow

if TYPE_CHECKING:
    import pandas as pd

LIBRARIES = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")  # all that the pyfunc needs
NAME = "partsynth-export"  # of LoggedModels, in MLflow's lists
CONTENT = "onnx_sha256"  # tag of a LoggedModel


def save_pyfunc(folder: Path, onnx: Path, code: Path, modules: Mapping[str, Path], example: pd.DataFrame) -> None:
    """Write an MLflow pyfunc that holds the ONNX file and the code that runs it; nothing is pickled.

    Parameters
    ----------
    folder : new; gets MLmodel and all else.
    code : module that gives its model to ``mlflow.models.set_model``; the ONNX file is its artifact "onnx".
    modules : name -> file of the plain modules that ``code`` imports.
    example : one row of input, kept with the model.
    """
    from importlib.metadata import version

    mlflow = import_mlflow()
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    text = DataType.string
    nearest = Object([Property(name, text) for name in ("path", "sha256", "class")])
    nearest.properties.append(Property("distance", DataType.double))
    signature = ModelSignature(
        Schema([ColSpec(text, "image", required=False), ColSpec(text, "path", required=False)]),
        Schema(
            [
                ColSpec(text, "class"),
                ColSpec(DataType.double, "probability"),
                ColSpec(DataType.double, "ood_score"),
                ColSpec(DataType.boolean, "unknown"),
                ColSpec(Array(text), "prediction_set"),
                ColSpec(Array(nearest), "nearest"),
            ]
        ),
    )
    with tempfile.TemporaryDirectory() as place:
        copies = []
        for name, path in modules.items():
            copies.append(str(Path(place, f"{name}.py")))
            Path(copies[-1]).write_bytes(path.read_bytes())
        sys.path.insert(0, place)  # MLflow runs the code while it saves it
        try:
            mlflow.pyfunc.save_model(
                str(folder),
                python_model=str(code),
                code_paths=copies,
                artifacts={"onnx": str(onnx)},
                signature=signature,
                input_example=example,
                pip_requirements=[f"{name}=={version(name)}" for name in LIBRARIES],
            )
        finally:
            sys.path.remove(place)
            for name in modules:
                sys.modules.pop(name, None)
    _forget_places(folder / "MLmodel", code.name)


def _forget_places(described: Path, code: str) -> None:
    """Take this machine's paths out of an MLmodel file: what is named lies beside it."""
    content = yaml.safe_load(described.read_text())
    flavor = content["flavors"]["python_function"]
    flavor["model_code_path"] = code
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    write_text_atomic(described, yaml.safe_dump(content))


def log_model(root: Path, run_id: str, folder: Path, content: str, params: Mapping[str, object]) -> str:
    """Keep a pyfunc folder as a LoggedModel of a run, which MLflow's column Models then shows; returns its id.

    The same content of the same run is kept once.

    Parameters
    ----------
    content : sha256 of its ONNX file.
    params : what it was made with; shown as the model's parameters.
    """
    from mlflow.entities import LoggedModelOutput

    store = client(root)
    experiment = store.get_run(run_id).info.experiment_id
    wanted = f"source_run_id = '{run_id}' AND tags.{CONTENT} = '{content}'"
    for known in store.search_logged_models([experiment], filter_string=wanted):
        if known.status == "READY":
            return known.model_id
    model = store.create_logged_model(
        experiment,
        name=NAME,
        source_run_id=run_id,
        tags={CONTENT: content},
        params={key: str(value) for key, value in params.items()},
        model_type="pyfunc",
    )
    store.log_model_artifacts(model.model_id, str(folder))
    store.finalize_logged_model(model.model_id, "READY")
    store.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model.model_id
