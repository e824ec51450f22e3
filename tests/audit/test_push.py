"""Data of runs, sent to a remote and fetched from it elsewhere."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import small_project
from helpers.audits import runs_named, tree

from partsynth.audit.checkout import checkout_run
from partsynth.audit.diff import diff_runs
from partsynth.audit.push import push_runs
from partsynth.audit.verify import verify


@pytest.mark.slow
def test_a_fresh_clone_gets_identical_data_from_a_remote(changed, tmp_path):
    root = small_project.copy(changed, tmp_path / "copy")
    small_project.dvc(root, "remote", "add", "-d", "store", str(tmp_path / "remote"))
    first, second = runs_named(root, "real_id-seed0")
    pushed = push_runs(root)
    assert pushed.faults == [] and pushed.data["runs"] == 5
    small_project.dvc(root, "push")
    small_project.command(root, "git", "add", "-A")
    small_project.command(root, "git", "commit", "-qm", "data")
    clone = tmp_path / "clone"
    small_project.command(tmp_path, "git", "clone", "-q", str(root), str(clone))
    small_project.dvc(clone, "pull")
    assert not (clone / "mlflow.db").exists()
    result = checkout_run(clone, second.run_id, tmp_path / "by run.json")  # no MLflow store came with the clone
    assert result.faults == [] and result.data["run"]["stored"] == "models/supcon/real_id/0/run.json"
    assert tree(tmp_path / "by run.json/data/augmented/id") == tree(changed / "data/augmented/id")
    shutil.rmtree(clone / ".dvc/cache")
    shutil.copy(root / "mlflow.db", clone / "mlflow.db")  # or a server: MLFLOW_TRACKING_URI
    result = checkout_run(clone, first.run_id, tmp_path / "old")  # whose lock was never committed
    assert result.faults == []
    assert diff_runs(clone, first.run_id, second.run_id).faults == []
    assert verify(small_project.copy(root, tmp_path / "again")).faults == []


def test_a_remote_that_takes_nothing_is_one_sentence(copied, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    small_project.dvc(copied, "remote", "add", "-d", "store", str(tmp_path / "file/below"))
    (fault,) = push_runs(copied).faults
    assert fault.path == "remote" and "takes nothing" in fault.message and "file" in fault.message
    small_project.dvc(copied, "remote", "add", "-f", "-d", "store", "s3://user:secret@bucket/path")
    monkeypatch.setattr("partsynth.lineage.remotes.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "dvc_s3", None)  # as where it is not installed
    (fault,) = push_runs(copied).faults
    assert 'store (s3://user:***@bucket/path) cannot be used yet: pip install "partsynth[s3]"' in fault.message
    (fault,) = push_runs(copied, "nowhere").faults
    assert fault.message == "DVC has no remote 'nowhere'; it has store: dvc remote add"


@pytest.fixture
def sshd(tmp_path):
    """OpenSSH's server on a free port, for this user and one new key; gives user@host:port and the key's path."""
    program = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
    if program is None:
        pytest.skip("no SSH server here: apt-get install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it wants a folder to lock its lesser half in
    for name in ("key", "host"):
        small_project.command(tmp_path, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/key.pub\n"
        "PidFile none\n"
        "StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    told = tmp_path / "sshd.log"
    server = subprocess.Popen([program, "-D", "-f", str(tmp_path / "config"), "-E", str(told)], start_new_session=True)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert server.poll() is None, told.read_text()
            time.sleep(0.1)
        yield f"{getpass.getuser()}@127.0.0.1:{port}", tmp_path / "key"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.mark.slow
def test_a_lost_cache_is_filled_from_a_remote_by_ssh(copied, tmp_path, sshd):
    address, key = sshd
    (tmp_path / "store").mkdir()
    small_project.dvc(copied, "remote", "add", "-d", "host", f"ssh://{address}{tmp_path}/store")
    small_project.dvc(copied, "remote", "modify", "--local", "host", "keyfile", str(key))
    small_project.dvc(copied, "remote", "modify", "--local", "host", "allow_agent", "false")
    assert push_runs(copied).faults == []
    assert any((tmp_path / "store").rglob("*.dir"))
    shutil.rmtree(copied / ".dvc/cache")
    result = checkout_run(copied, "real_id-seed0", tmp_path / "out")
    assert result.faults == []
    assert tree(tmp_path / "out/data/augmented/id") == tree(copied / "data/augmented/id")
