"""An export in an environment of its own, against the evaluation that the project's report was made from.

    partsynth export --out DIR
    python benchmarks/export_alone.py DIR [--environment ENV] [--port 5177]

Run in the project. ENV, made by uv where it is missing, gets what the pyfunc's requirements.txt names and nothing of
partsynth or torch. There the export predicts the images of reports/metrics/predictions.csv; per part of the data the
accuracy and the share of unknown images stand beside those of the table. Then `mlflow models serve` answers a request.
Exit code 1 where a class or a share differs, the false-reject rate on test images leaves its interval, or the server's
answer is another.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PREDICTIONS = Path("reports/metrics/predictions.csv")
INSIDE = """
import importlib.util, sys
assert not [name for name in ("partsynth", "torch", "onnx") if importlib.util.find_spec(name)]
import mlflow, pandas as pd
paths = sys.stdin.read().split("\\n")
mlflow.pyfunc.load_model(sys.argv[1]).predict(pd.DataFrame({"path": paths})).to_json(sys.argv[2], orient="records")
"""


def environment(folder: Path, requirements: Path) -> Path:
    """The Python of a virtual environment that has the requirements alone."""
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run(["uv", "venv", "-q", str(folder)], check=True)
    subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), "-r", str(requirements)], check=True)
    return python


def answers(python: Path, export: Path, paths: list[str]) -> list[dict[str, Any]]:
    result = export.parent / f".{export.name}.answers.json"
    command = [str(python), "-c", INSIDE, str(export / "pyfunc"), str(result)]
    try:
        subprocess.run(command, input="\n".join(paths), text=True, check=True, env=quiet())
        return json.loads(result.read_text())
    finally:
        result.unlink(missing_ok=True)


def quiet() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"MLFLOW_DISABLE_TELEMETRY": "true"}


def compare(about: dict[str, Any], rows: list[dict[str, str]], found: list[dict[str, Any]]) -> list[str]:
    """Prints a line per part; returns what is wrong."""
    score, threshold = about["unknown"]["score"], about["unknown"]["threshold"]
    faults = []
    for part in dict.fromkeys(row["part"] for row in rows):
        both = [(row, answer) for row, answer in zip(rows, found, strict=True) if row["part"] == part]
        count = len(both)
        right = sum(answer["class"] == row["class_name"] for row, answer in both)
        wanted = sum(row["predicted"] == row["class_name"] for row, _ in both)
        unknown = sum(answer["unknown"] for _, answer in both)
        above = sum(float(row[score]) > threshold for row, _ in both)
        ood = part.startswith(("near", "far"))
        accuracy = "" if ood else f"accuracy {right / count:.4f} (report {wanted / count:.4f}), "
        print(f"{part}: {count} images, {accuracy}unknown {unknown / count:.4f} (report {above / count:.4f})")
        if unknown != above or any(answer["class"] != row["predicted"] for row, answer in both):
            faults.append(f"{part}: another class or share of unknown images than in {PREDICTIONS}")
        stated = about["unknown"]["validation_images"]
        if part == "test" and not stated["low"] <= unknown / count <= stated["high"]:
            faults.append(f"test: false-reject rate {unknown / count:.4f}, stated {stated['low']} to {stated['high']}")
    return faults


def serve(python: Path, export: Path, image: Path, port: int) -> dict[str, Any]:
    """The answer of `mlflow models serve` to one image."""
    command = [str(python.parent / "mlflow"), "models", "serve", "--env-manager", "local", "-m", str(export / "pyfunc")]
    path = os.pathsep.join([str(python.parent.absolute()), os.environ["PATH"]])
    body = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(image.read_bytes()).decode()]]}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    server = subprocess.Popen([*command, "-p", str(port)], env=quiet() | {"PATH": path}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return json.load(reply)["predictions"][0]
            except urllib.error.URLError as error:
                if isinstance(error, urllib.error.HTTPError):
                    raise
                time.sleep(1)
        raise SystemExit("the server did not start within four minutes")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("--environment", type=Path, default=Path(".work/export_alone"))
    parser.add_argument("--port", type=int, default=5177)
    chosen = parser.parse_args()
    about = json.loads((chosen.export / "export.json").read_text())
    model = (about["model"]["setup"], str(about["model"]["seed"]))
    with PREDICTIONS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["setup"], row["seed"]) == model]
    rows = [row for row in rows if not row["part"].startswith("set_")]
    python = environment(chosen.environment, chosen.export / "pyfunc/requirements.txt")
    found = answers(python, chosen.export, [row["path"] for row in rows])
    faults = compare(about, rows, found)
    answer = serve(python, chosen.export, Path(rows[0]["path"]), chosen.port)
    print(f"mlflow models serve: {rows[0]['path']} is {answer['class']}, score {answer['ood_score']:.4g}")
    if answer["class"] != found[0]["class"] or answer["unknown"] != found[0]["unknown"]:
        faults.append("the server's answer is another")
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
