"""Audits of a real small project: git, DVC, MLflow; every planted fault is found and named."""

from __future__ import annotations

import contextlib
import csv
import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import small_project
from PIL import Image

from partsynth.audit import checkout, present, push, workspace_check
from partsynth.audit import diff as audit_diff
from partsynth.audit import image as audit_image
from partsynth.audit import source as audit_source
from partsynth.audit.diff import _diff_tables
from partsynth.audit.result import Result
from partsynth.errors import UserError
from partsynth.lineage.graph import digest_of, read_lock
from partsynth.lineage.objects import Objects
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.store.png import png_fingerprint, write_png
from partsynth.tracking import store
from partsynth.tracking.query import find_runs, get_run
from partsynth.tracking.registry import register_model

PICTURE = "data/augmented/id/gear_a/00-1.png"
PARENT = "data/real/train/gear_a/00.png"
SETUPS = ["real", "real_id", "real_id_negatives"]


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return small_project.finished(tmp_path_factory.getbasetemp())


@pytest.fixture
def copied(project, tmp_path):
    return small_project.copy(project, tmp_path / "copy")


def faults(result: Result) -> dict[str, str]:
    return {fault.path: fault.message for fault in result.faults}


def rewrite(path: Path, change) -> None:
    """Edit a manifest's rows as a text editor would; a file that is read-only in the cache stays so."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        names, rows = reader.fieldnames, list(reader)
    change(rows)
    path.unlink()
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def flip(path: Path) -> None:
    """One byte, size and time of change kept: what DVC's own status does not see."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_finished_project_passes(project):
    result = workspace_check.verify(project)
    assert result.faults == [] and result.exit_code == 0
    assert result.data["checked"] == {
        "stages": 14,
        "files": 79,
        "real": 20,
        "ood": 4,
        "tokens": 2,
        "augmented": 32,
        "verdicts": 32,
        "selected tables": 3,
    }


def test_a_flipped_byte_is_named_once(copied):
    flip(copied / PICTURE)
    found = workspace_check.verify(copied)
    assert {fault.path for fault in found.faults} == {PICTURE}
    assert "altered: md5" in " ".join(fault.message for fault in found.faults)
    assert present.present(found) == 1


def test_a_missing_cache_file_is_named(copied):
    with Objects(copied) as objects:
        lost = objects.path(digest_of(read_lock(copied), "data/quality/id.csv"))
        folder = digest_of(read_lock(copied), "data/augmented/id")
        inner = objects.path(objects.listing(folder)["gear_a/00-1.png"])
    lost.unlink()
    inner.unlink()
    found = faults(workspace_check.verify(copied))
    assert set(found) == {"data/quality/id.csv", PICTURE}
    assert "missing from the cache" in found[PICTURE] and str(inner) in found[PICTURE]


def test_a_damaged_cache_file_is_named(copied):
    with Objects(copied) as objects:
        folder = digest_of(read_lock(copied), "data/real")
        cached = objects.path(objects.listing(folder)["train/gear_a/00.png"])
    os.chmod(cached, 0o644)
    cached.write_bytes(b"other")
    assert "damaged" in faults(workspace_check.verify(copied))[PARENT]


def test_an_edited_manifest_row_is_named(copied):
    def change(rows):
        next(row for row in rows if row["path"] == PICTURE)["seed"] = "12345"

    rewrite(copied / "data/augmented/id/manifest.csv", change)
    assert set(faults(workspace_check.verify(copied))) == {"data/augmented/id/manifest.csv"}


def test_a_synthetic_image_whose_parent_is_a_test_image_is_named(copied):
    test = next(r for r in read_manifest(copied / "data/real/manifest.csv", RealRecord) if r.split == "test")

    def change(rows):
        row = next(row for row in rows if row["path"] == PICTURE)
        row.update(source=test.path, source_sha256=test.sha256, source_group=test.group)

    rewrite(copied / "data/augmented/id/manifest.csv", change)
    found = [f.message for f in workspace_check.verify(copied).faults if f.path == PICTURE]
    assert any(f"its parent {test.path} is a test image, not a training image" in message for message in found)
    (fault,) = [f for f in audit_image.image(copied, PICTURE).faults if "test image" in f.message]
    assert fault.path == PICTURE


def test_leaks_are_found_even_where_all_hashes_agree(copied):
    """A pipeline that leaks records its leak faithfully: the rules are checked apart from the hashes."""
    manifest = copied / "data/real/manifest.csv"
    rows = read_manifest(manifest, RealRecord)
    val = next(r for r in rows if r.split == "val")
    train = next(r for r in rows if r.split == "train" and r.class_name == val.class_name)
    manifest.unlink()
    write_manifest(manifest, [r.model_copy(update={"group": train.group}) if r is val else r for r in rows], RealRecord)
    small_project.dvc(copied, "commit", "-f")
    found = faults(workspace_check.verify(copied))
    assert found == {train.path: f"group {train.group!r} is in 2 splits (train: {train.path}, val: {val.path})"}


@pytest.mark.parametrize(
    ("table", "change", "path", "said"),
    [
        ("data/selected/real_id.csv", {"sha256": "0" * 64}, PICTURE, "with another sha256"),
        ("data/selected/real_id.csv", {"path": "data/augmented/id/none.png"}, "data/augmented/id/none.png", "is not a"),
        ("data/selected/real_id.csv", {"source": "data/real/val/gear_a/00.png"}, PICTURE, "is not a training image"),
        ("data/selected/real_id.csv", {"percentile": "0.25"}, PICTURE, "its verdict says 0.5"),
        ("data/quality/id.csv", {"path": "data/augmented/id/x.png"}, PICTURE, "has no verdict"),
        ("data/quality/id.csv", {"sha256": "0" * 64}, PICTURE, "verdict in data/quality/id.csv is of another picture"),
    ],
)
def test_tables_that_do_not_match_are_named(copied, table, change, path, said):
    def edit(rows):
        next(row for row in rows if row["path"] == PICTURE).update(change)

    rewrite(copied / table, edit)
    assert said in " ".join(f.message for f in workspace_check.verify(copied).faults if f.path == path)


def test_strangers_changed_parameters_code_and_commands_are_named(copied):
    shutil.copy(copied / PICTURE, copied / "data/augmented/id/gear_a/stranger.png")
    (copied / "data/augmented/old").mkdir()
    small_project.set_params(copied, "sets.id", strength=0.3)
    (copied / "pipeline.py").write_text((copied / "pipeline.py").read_text() + "\n")
    text = (copied / "dvc.yaml").read_text()
    (copied / "dvc.yaml").write_text(text.replace("pipeline.py tokens", "pipeline.py tokens --again"))
    found = faults(workspace_check.verify(copied))
    assert "not among the outputs" in " ".join(
        f.message for f in workspace_check.verify(copied).faults if f.path.endswith("stranger.png")
    )
    assert found["data/augmented/old"] == "no stage of dvc.yaml made this set"
    assert found["params.yaml"] == "sets.id.strength changed since generate@id ran (dvc repro)"
    assert "the command of tokens changed" in found["dvc.yaml"]
    assert "ran on another version" in found["pipeline.py"]


def test_a_stage_that_dvc_yaml_has_no_longer_is_counted_and_is_no_fault(copied):
    """DVC never takes an entry out of dvc.lock; the set that the stage made must go, though."""
    loaded = yaml.safe_load((copied / "dvc.yaml").read_text())
    del loaded["stages"]["select"]["foreach"]["real_id_negatives"]
    (copied / "dvc.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False))
    params = yaml.safe_load((copied / "params.yaml").read_text())
    del params["sets"]["near_ood"]
    params["matrix"]["setups"].remove("real_id_negatives")
    (copied / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert faults(workspace_check.verify(copied)) == {"data/augmented/near_ood": "no stage of dvc.yaml made this set"}
    shutil.rmtree(copied / "data/augmented/near_ood")
    result = workspace_check.verify(copied)
    assert result.faults == []
    assert result.data["checked"]["stages in dvc.lock that dvc.yaml has no longer"] == 5
    assert result.data["checked"]["stages"] == 9


def test_nothing_to_verify_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing has run here yet"):
        workspace_check.verify(tmp_path)


# --- image and source -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["path", "absolute", "sha256", "beginning", "a copy elsewhere"])
def test_a_picture_s_chain(project, by, tmp_path):
    sha = sha256_file(project / PICTURE)
    shutil.copy(project / PICTURE, tmp_path / "received.png")
    what = {
        "path": PICTURE,
        "absolute": str(project / PICTURE),
        "sha256": sha,
        "beginning": sha[:10],
        "a copy elsewhere": str(tmp_path / "received.png"),
    }[by]
    result = audit_image.image(project, what)
    assert result.faults == []
    data = result.data
    row = next(
        r for r in read_manifest(project / "data/augmented/id/manifest.csv", AugmentedRecord) if r.path == PICTURE
    )
    assert data["picture"] == row.model_dump(mode="json") and data["found_in"] == "workspace"
    assert data["photograph"]["framed"] == PARENT and data["photograph"]["split"] == "train"
    assert data["token"]["sha256"] == row.token_sha256 and PARENT in data["token"]["learned_from"]
    assert data["base"]["sha256"] == row.base_sha256
    assert data["verdict"]["verdict"] == "accept"
    assert [run["name"] for run in data["runs"]] == ["real_id-seed0", "real_id_negatives-seed0"]
    assert {run["role"] for run in data["runs"]} == {"positive"}
    json.dumps(result.as_json())


def test_a_validation_photograph_names_the_runs_that_watched_it(project):
    result = audit_image.image(project, "data/real/val/gear_a/00.png")
    assert [(run["name"], run["role"]) for run in result.data["runs"]] == [(f"{s}-seed0", "validation") for s in SETUPS]


def test_a_picture_nobody_knows_is_an_error(project, tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    for what in ("data/augmented/id/none.png", "0" * 64, str(tmp_path / "x.png")):
        with pytest.raises(UserError, match="in no manifest"):
            audit_image.image(project, what)


def test_a_broken_chain_is_a_fault(copied):
    token = copied / "models/tokens/gear_a.safetensors"
    token.unlink()
    assert "the token it was made with" in faults(audit_image.image(copied, PICTURE))[PICTURE]
    flip(copied / PICTURE)
    assert any("altered" in fault.message for fault in audit_image.image(copied, PICTURE).faults)
    (copied / "models/base/unet/config.json").write_text('{"other": 1}')
    assert any("its base model" in fault.message for fault in audit_image.image(copied, PICTURE).faults)


def test_what_came_of_a_photograph(project):
    row = next(r for r in read_manifest(project / "data/real/manifest.csv", RealRecord) if r.path == PARENT)
    for what in (PARENT, row.source, row.sha256, row.source_sha256[:12]):
        result = audit_source.source(project, what)
        assert result.faults == []
        data = result.data
        assert data["photograph"]["source"] == row.source
        assert [item["path"] for item in data["framed"]] == [PARENT]
        names = [f"data/augmented/{s}/gear_a/00-{v}.png" for s in ("id", "near_ood") for v in (0, 1)]
        assert [item["path"] for item in data["synthetic"]] == names
        assert [item["path"] for item in data["tokens"]] == ["models/tokens/gear_a.safetensors"]
        counts = {
            run["name"]: (
                run["trained_on_it"],
                run["trained_on_pictures_made_from_it"],
                run["trained_on_pictures_of_a_token_it_taught"],
            )
            for run in data["runs"]
        }
        assert counts == {"real-seed0": (1, 0, 0), "real_id-seed0": (1, 2, 8), "real_id_negatives-seed0": (1, 4, 16)}
    with pytest.raises(UserError, match="no photograph"):
        audit_source.source(project, "nobody.png")


# --- earlier versions -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def changed(project, tmp_path_factory):
    """The project after one more `dvc repro` with a changed parameter; nothing was committed in between."""
    root = small_project.copy(project, tmp_path_factory.mktemp("changed") / "copy")
    small_project.set_params(root, "sets.id", strength=0.3)
    small_project.dvc(root, "repro")
    return root


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_first_run_s_data_comes_back_byte_for_byte(project, changed, tmp_path):
    first, second = (r for r in find_runs(changed) if r.name == "real_id-seed0")
    result = checkout.run(changed, first.run_id, tmp_path / "out")
    assert result.faults == []
    restored = tree(tmp_path / "out")
    for part in ("data/real", "data/ood", "data/augmented/id", "models/tokens"):
        assert tree(tmp_path / "out" / part) == tree(project / part)
    assert restored["data/selected/real_id.csv"] == (project / "data/selected/real_id.csv").read_bytes()
    assert restored["params.yaml"] == (project / "params.yaml").read_bytes()
    assert "data/augmented/near_ood" not in {str(Path(name).parent) for name in restored}  # the run never saw it
    assert tree(tmp_path / "out/data/augmented/id") != tree(changed / "data/augmented/id")
    assert {d["path"]: d["workspace"] for d in result.data["not_checked_out"]} == {
        "models/base": "the same",
        "pipeline.py": "the same",
    }
    again = checkout.run(changed, second.run_id, tmp_path / "second")
    assert again.faults == [] and tree(tmp_path / "second/data/augmented/id") == tree(changed / "data/augmented/id")
    with pytest.raises(UserError, match="is not empty"):
        checkout.run(changed, first.run_id, tmp_path / "out")


def test_a_picture_of_an_earlier_version_is_traced(project, changed):
    sha = sha256_file(project / PICTURE)
    result = audit_image.image(changed, sha)
    assert result.faults == []
    assert result.data["found_in"].startswith("run ") and result.data["picture"]["strength"] == 0.2
    first = [r.run_id for r in find_runs(project) if r.name != "real-seed0"]
    assert [run["run_id"] for run in result.data["runs"]] == first
    now = audit_image.image(changed, PICTURE).data
    assert now["found_in"] == "workspace" and now["picture"]["strength"] == 0.3
    derived = audit_source.source(changed, PARENT).data
    assert len(derived["synthetic"]) == 6 and sum(item["in_workspace"] for item in derived["synthetic"]) == 4
    assert len(derived["runs"]) == 5  # real-seed0 did not run again


def test_a_photograph_that_is_a_negative_too_differs_by_its_role(monkeypatch):
    positive = {"path": "a.png", "role": "positive", "sha256": "1"}
    tables = {"plain": (positive,), "control": (positive, positive | {"role": "negative"})}
    monkeypatch.setattr(audit_diff, "training_table", lambda objects, run, faults: tables[run])
    found = _diff_tables(None, "plain", "control", [])
    assert (found["first"], found["second"], found["other_role"], found["changed"]) == (1, 2, ["a.png"], [])
    assert not _diff_tables(None, "control", "control", [])["other_role"]


def test_what_differs_between_two_runs(changed):
    first, second = (r for r in find_runs(changed) if r.name == "real_id-seed0")
    data = audit_diff.diff(changed, first.run_id, second.run_id).data
    assert data["parameters"] == {"sets.id.strength": {"first": 0.2, "second": 0.3}}
    assert len(data["training_pictures"]["changed"]) == 16
    assert not data["training_pictures"]["only_in_first"] and not data["training_pictures"]["only_in_second"]
    assert len(data["files"]["data/augmented/id"]["changed"]) == 17  # and the manifest
    assert sorted(data["files"]) == [
        "data/augmented/id",
        "data/quality/id.csv",
        "data/selected/real_id.csv",
        "data/strengths/id.json",
    ]
    assert data["code"]["git_dirty"] == {"first": "false", "second": "true"}
    assert data["code"]["dependencies changed"] == []


def test_a_checkout_that_cannot_be_whole_leaves_nothing(changed, tmp_path):
    root = small_project.copy(changed, tmp_path / "copy")
    first = next(r for r in find_runs(root) if r.name == "real_id-seed0")
    digest = next(item.digest for item in first.inputs if item.path == "data/augmented/id")
    with Objects(root) as objects:
        lost = objects.path(objects.listing(digest)["gear_a/00-1.png"])
    lost.unlink()
    result = checkout.run(root, first.run_id, tmp_path / "out")
    assert any("00-1.png" in fault.message and lost.name in fault.message for fault in result.faults)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    assert present.present(result, as_json=True) == 1


def test_an_altered_stage_graph_is_refused(changed, tmp_path):
    root = small_project.copy(changed, tmp_path / "copy")
    run = next(r for r in find_runs(root) if r.name == "real-seed0")
    store.client(root).set_tag(run.run_id, "lineage_sha256", "0" * 64)
    with pytest.raises(UserError, match="stage graph was altered"):
        checkout.run(root, run.run_id, tmp_path / "out")
    with pytest.raises(UserError, match="no run, alias or run name 'nobody'"):
        checkout.run(root, "nobody", tmp_path / "out")


@pytest.mark.slow
def test_a_fresh_clone_gets_identical_data_from_a_remote(changed, tmp_path):
    root = small_project.copy(changed, tmp_path / "copy")
    small_project.dvc(root, "remote", "add", "-d", "store", str(tmp_path / "remote"))
    first, second = (r for r in find_runs(root) if r.name == "real_id-seed0")
    pushed = push.push(root)
    assert pushed.faults == [] and pushed.data["runs"] == 5
    small_project.dvc(root, "push")
    small_project.command(root, "git", "add", "-A")
    small_project.command(root, "git", "commit", "-qm", "data")
    clone = tmp_path / "clone"
    small_project.command(tmp_path, "git", "clone", "-q", str(root), str(clone))
    small_project.dvc(clone, "pull")
    assert not (clone / "mlflow.db").exists()
    result = checkout.run(clone, second.run_id, tmp_path / "by run.json")  # no MLflow store came with the clone
    assert result.faults == [] and result.data["run"]["stored"] == "models/supcon/real_id/0/run.json"
    assert tree(tmp_path / "by run.json/data/augmented/id") == tree(changed / "data/augmented/id")
    shutil.rmtree(clone / ".dvc/cache")
    shutil.copy(root / "mlflow.db", clone / "mlflow.db")  # or a server: MLFLOW_TRACKING_URI
    result = checkout.run(clone, first.run_id, tmp_path / "old")  # whose lock was never committed
    assert result.faults == []
    assert audit_diff.diff(clone, first.run_id, second.run_id).faults == []
    assert workspace_check.verify(small_project.copy(root, tmp_path / "again")).faults == []


@pytest.fixture
def sshd(tmp_path):
    """OpenSSH's server on a free port of this host, for this user and one new key; user@host:port and the key's path."""
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
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/key.pub\nPidFile none\n"
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
    assert push.push(copied).faults == []
    assert any((tmp_path / "store").rglob("*.dir"))
    shutil.rmtree(copied / ".dvc/cache")
    result = checkout.run(copied, "real_id-seed0", tmp_path / "out")
    assert result.faults == []
    assert tree(tmp_path / "out/data/augmented/id") == tree(copied / "data/augmented/id")


def test_a_run_is_found_by_alias(copied, tmp_path):
    run = get_run(copied, "real_id-seed0")
    register_model(copied, run.run_id, "# Card", alias="champion")
    result = checkout.run(copied, "champion", tmp_path / "out")
    assert result.faults == [] and result.data["run"]["run_id"] == run.run_id
    (affected,) = [r for r in audit_source.source(copied, PARENT).data["runs"] if r["run_id"] == run.run_id]
    assert affected["registered"] == ["partsynth v1 @champion"]


@pytest.mark.slow
def test_a_picture_is_made_again(tmp_path):
    """With a real (tiny, random) Stable Diffusion; now, and after its set was made anew with another strength."""
    root = small_project.make(tmp_path / "project", tiny_base=True)
    small_project.dvc(root, "repro", "train@real_id-0")
    picture = next(iter(read_manifest(root / "data/augmented/id/manifest.csv", AugmentedRecord)))
    result = audit_image.image(root, picture.path, regenerate=True)
    assert result.faults == []
    assert result.data["regenerated"] == {"made": True, "same_bytes": True, "mean_difference_of_255": 0, "allowed": 2}
    small_project.set_params(root, "sets.id", strength=0.6)
    small_project.dvc(root, "repro", "train@real_id-0")
    assert sha256_file(root / picture.path) != picture.sha256
    earlier = audit_image.image(root, picture.sha256, regenerate=True)
    assert earlier.faults == [] and earlier.data["regenerated"]["same_bytes"]

    path = root / picture.path  # somebody's work on the picture, signed with its fingerprint
    pixels = np.asarray(Image.open(path).convert("RGB"))
    mark = png_fingerprint(path)
    path.unlink()
    sha = write_png(path, 255 - pixels, mark)
    rewrite(
        root / "data/augmented/id/manifest.csv",
        lambda rows: [row.update(sha256=sha) for row in rows if row["path"] == picture.path],
    )
    assert any("made again it differs by" in f.message for f in audit_image.image(root, picture.path, True).faults)
    photograph = next(r for r in read_manifest(root / "data/real/manifest.csv", RealRecord) if r.split == "train")
    with pytest.raises(UserError, match="only synthetic pictures"):
        audit_image.image(root, photograph.path, regenerate=True)


# --- speed --------------------------------------------------------------------------------------------------------


def test_a_lookup_in_ten_thousand_rows_takes_less_than_a_second(copied):
    manifest = copied / "data/augmented/id/manifest.csv"
    rows = read_manifest(manifest, AugmentedRecord)
    more = [
        rows[0].model_copy(update={"path": f"data/augmented/id/gear_a/x{i:05d}.png", "sha256": sha256_bytes(b"%d" % i)})
        for i in range(10_000)
    ]
    manifest.unlink()
    write_manifest(manifest, [*rows, *more], AugmentedRecord)
    audit_image.image(copied, PARENT)  # start-up: imports, the MLflow store opened
    for lookup in (lambda: audit_image.image(copied, PICTURE), lambda: audit_image.image(copied, more[5000].sha256)):
        wall, cpu = time.perf_counter(), time.process_time()
        lookup()
        assert min(time.perf_counter() - wall, time.process_time() - cpu) < 1
