"""The exported model in MLflow's form (models from code): this file is copied into the export and run there."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from partsynth_station import Station, Unreadable  # beside it in the export


class PartClassifier(PythonModel):
    """Rows with the column ``image`` (an image file's bytes in base64) or ``path`` (a file's path) to answers."""

    def load_context(self, context: Any) -> None:
        self.station = Station(context.artifacts["onnx"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        return pd.DataFrame([self._answer(row) for row in model_input.to_dict("records")])

    def _answer(self, row: dict[Any, Any]) -> dict[str, Any]:
        image, path = row.get("image"), row.get("path")
        if isinstance(image, str):
            try:
                data = base64.b64decode(image, validate=True)
            except binascii.Error as error:
                raise Unreadable(f"the column image holds no base64: {error}") from None
        elif isinstance(image, bytes):
            data = image
        elif isinstance(path, str):
            data = Path(path).read_bytes()
        else:
            raise Unreadable("a row needs an image (bytes in base64) or a path")
        return self.station.answer(self.station.raw(data))


set_model(PartClassifier())
