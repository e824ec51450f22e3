"""The export in MLflow's form, and as a LoggedModel of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth.tracking.logged import log_model, save_pyfunc
from partsynth.tracking.query import RunView

HERE = Path(__file__).parent


def write(root: Path, folder: Path, onnx: Path, example: str, run: RunView | None, about: dict[str, Any]) -> str | None:
    """Write the pyfunc and log it; returns the LoggedModel's id, None where the store does not know the run.

    Parameters
    ----------
    folder : new.
    example : an image file in base64.
    about : export.json.
    """
    import pandas as pd

    row = pd.DataFrame({"image": [example]})
    save_pyfunc(folder, onnx, HERE / "mlflow_model.py", {"partsynth_station": HERE / "station.py"}, row)
    if run is None:
        return None
    shown = {
        "score": about["unknown"]["score"],
        "threshold": about["unknown"]["threshold"],
        "false_reject_rate": about["unknown"]["wanted"],
        "coverage": about["prediction_set"]["coverage"],
        "temperature": about["calibration"]["temperature"],
    }
    return log_model(root, run.run_id, folder, about["sha256"][onnx.name], shown)
