"""The registered model is one that MLflow's own server answers with."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from helpers import exports

from partsynth.evaluation import champion
from partsynth.serving import register as serving_register
from partsynth.serving.predict import open_station
from partsynth.serving.register import register
from partsynth.store.layout import Layout
from partsynth.tracking.query import get_run
from partsynth.tracking.store import client, tracking_uri

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project") / "p"
    run_id = exports.evaluated(root)
    return root, run_id, list(register(root))


def test_the_versions_source_is_the_runs_logged_model_and_is_made_once(project):
    root, run_id, told = project
    assert told[1] == "mlflow models serve --env-manager local -m models:/partsynth@champion"
    store = client(root)
    (version,) = store.search_model_versions("name = 'partsynth'")
    (logged,) = store.get_run(run_id).outputs.model_outputs  # what MLflow's column Models shows
    assert version.run_id == run_id == get_run(root, "champion").run_id
    assert version.source == store.get_logged_model(logged.model_id).artifact_location
    list(register(root))
    assert [v.version for v in store.search_model_versions("name = 'partsynth'")] == [version.version]


def test_mlflow_models_serve_answers_a_request_with_the_champion(project):
    root, _, _ = project
    image = next(iter(sorted(Layout(root).real.glob("test/*/*.png"))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHONPATH"))}
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = kept | {"PATH": path, "MLFLOW_TRACKING_URI": tracking_uri(root), "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        [*command, "models:/partsynth@champion", "-p", str(port)],
        cwd=root.parent,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    body = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(image.read_bytes()).decode()]]}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        answer = _asked(server, request)
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # the server has children
        server.wait(timeout=30)
    folder = root / "alone"
    (location,) = {v.source for v in client(root).search_model_versions("name = 'partsynth'")}
    folder.mkdir()
    onnx = next(root.joinpath(location.removeprefix("file://")).rglob("*.onnx"))
    (folder / "model.onnx").write_bytes(onnx.read_bytes())
    station = open_station(folder)
    wanted = station.answer(station.raw(image.read_bytes()))
    assert answer["class"] == wanted["class"] and answer["unknown"] == wanted["unknown"]
    assert answer["probability"] == pytest.approx(wanted["probability"], abs=1e-4)
    assert [item["path"] for item in answer["nearest"]] == [item["path"] for item in wanted["nearest"]]


def _asked(server: subprocess.Popen, request: urllib.request.Request) -> dict:
    for _ in range(150):
        assert server.poll() is None, "the server ended"
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(request, timeout=30) as r,
        ):
            return json.load(r)["predictions"][0]
        time.sleep(1)
    raise AssertionError("the server did not start")


def test_a_version_of_weights_gives_way_to_a_servable_one(tmp_path, monkeypatch):
    root = tmp_path / "p"
    exports.evaluated(root)

    def without(name):
        raise serving_register.UserError(f"{name} is not installed: install partsynth with its extra serve")

    with monkeypatch.context() as patched:
        patched.setattr("partsynth.serving.export.load_extra", without)
        told = list(register(root))
    assert "holds the trained weights" in told[1] and "extra serve" in told[1]
    store = client(root)
    assert store.get_model_version_by_alias("partsynth", "champion").source.endswith("/artifacts/model")
    list(register(root))
    servable = store.get_model_version_by_alias("partsynth", "champion")
    assert str(servable.version) == "2" and "/models/m-" in servable.source
    champion.register(root)  # without a servable model the newest of the run stays
    assert store.get_model_version_by_alias("partsynth", "champion").source == servable.source
