"""The workspace of a real small project: git, DVC, MLflow; every planted fault is found and named."""

from __future__ import annotations

import os
import re
import shutil

import pytest
import yaml
from helpers import small_project
from helpers.audits import IMAGE, PARENT, faults, flip, rewrite

from partsynth.audit.image import trace_image
from partsynth.audit.present import present
from partsynth.audit.verify import verify
from partsynth.errors import UserError
from partsynth.lineage.git import files_at, git_state, home
from partsynth.lineage.graph import digest_of, read_lock
from partsynth.lineage.objects import Objects
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.hashing import sha256_file

GONE = "data/augmented/id/gear_a/none.png"


def test_a_finished_project_passes(project):
    result = verify(project)
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


def test_a_project_in_a_folder_of_a_larger_repository(project, tmp_path):
    """Whose .git is gone, as docs/trouble.md says, and DVC stays as it is."""
    root = small_project.copy(project, tmp_path / "plant/line 3/copy")
    shutil.rmtree(root / ".git")
    small_project.command(tmp_path, "git", "init", "-q", "plant")
    small_project.command(tmp_path / "plant", "git", "add", "-A")
    small_project.command(tmp_path / "plant", "git", "commit", "-qm", "all")
    assert verify(root).faults == []
    assert home(root) == root
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "\n")
    (tmp_path / "plant/other").touch()
    small_project.command(tmp_path / "plant", "git", "add", "-A")
    state = git_state(root)
    assert state.dirty and b"params.yaml" in state.patch and b"other" not in state.patch
    assert files_at(root, state.commit, "params.yaml") and set(files_at(root, state.commit, "models/base")) > {
        "unet/config.json"
    }
    assert "up to date" in small_project.dvc(root, "status")


def test_a_project_as_a_submodule(project, tmp_path):
    top = tmp_path / "top"
    small_project.command(tmp_path, "git", "init", "-q", "top")
    allowed = ("git", "-c", "protocol.file.allow=always")
    small_project.command(top, *allowed, "submodule", "add", "-q", str(project), "parts")
    root = top / "parts"
    (root / ".git").stat()
    small_project.dvc(root, "config", "--local", "core.site_cache_dir", str(tmp_path / "site"))
    small_project.dvc(root, "config", "--local", "cache.dir", str(project / ".dvc/cache"))
    shutil.copy(project / "dvc.lock", root / "dvc.lock")
    small_project.dvc(root, "checkout", "-q")
    assert home(root) == root and git_state(root).commit == git_state(project).commit
    assert verify(root).faults == []


def test_a_flipped_byte_is_named_once(copied):
    flip(copied / IMAGE)
    found = verify(copied)
    assert {fault.path for fault in found.faults} == {IMAGE}
    assert "altered: md5" in " ".join(fault.message for fault in found.faults)
    assert present(found) == 1


def test_a_missing_cache_file_is_named(copied):
    with Objects(copied) as objects:
        lost = objects.path(digest_of(read_lock(copied), "data/quality/id.csv"))
        folder = digest_of(read_lock(copied), "data/augmented/id")
        inner = objects.path(objects.listing(folder)["gear_a/00-1.png"])
    lost.unlink()
    inner.unlink()
    found = faults(verify(copied))
    assert set(found) == {"data/quality/id.csv", IMAGE}
    assert "missing from the cache" in found[IMAGE] and str(inner) in found[IMAGE]


def test_a_damaged_cache_file_is_named(copied):
    with Objects(copied) as objects:
        folder = digest_of(read_lock(copied), "data/real")
        cached = objects.path(objects.listing(folder)["train/gear_a/00.png"])
    os.chmod(cached, 0o644)
    cached.write_bytes(b"other")
    assert "damaged" in faults(verify(copied))[PARENT]


def test_an_edited_manifest_row_is_named(copied):
    def change(rows):
        next(row for row in rows if row["path"] == IMAGE)["seed"] = "12345"

    rewrite(copied / "data/augmented/id/manifest.csv", change)
    assert set(faults(verify(copied))) == {"data/augmented/id/manifest.csv"}


def test_a_synthetic_image_whose_parent_is_a_test_image_is_named(copied):
    test = next(r for r in read_manifest(copied / "data/real/manifest.csv", RealRecord) if r.split == "test")

    def change(rows):
        row = next(row for row in rows if row["path"] == IMAGE)
        row.update(source=test.path, source_sha256=test.sha256, source_group=test.group)

    rewrite(copied / "data/augmented/id/manifest.csv", change)
    found = [f.message for f in verify(copied).faults if f.path == IMAGE]
    assert any(f"its parent {test.path} is a test image, not a training image" in message for message in found)
    (fault,) = [f for f in trace_image(copied, IMAGE).faults if "test image" in f.message]
    assert fault.path == IMAGE


def test_leaks_are_found_even_where_all_hashes_agree(copied):
    """A pipeline that leaks records its leak faithfully: the rules are checked apart from the hashes."""
    manifest = copied / "data/real/manifest.csv"
    rows = read_manifest(manifest, RealRecord)
    val = next(r for r in rows if r.split == "val")
    train = next(r for r in rows if r.split == "train" and r.class_name == val.class_name)
    manifest.unlink()
    write_manifest(manifest, [r.model_copy(update={"group": train.group}) if r is val else r for r in rows], RealRecord)
    small_project.dvc(copied, "commit", "-f")
    found = faults(verify(copied))
    assert found == {train.path: f"group {train.group!r} is in 2 splits (train: {train.path}, val: {val.path})"}


@pytest.mark.parametrize(
    ("table", "change", "path", "said"),
    [
        ("data/selected/real_id.csv", {"sha256": "0" * 64}, IMAGE, "with another sha256"),
        ("data/selected/real_id.csv", {"path": GONE}, GONE, "is not a"),
        ("data/selected/real_id.csv", {"source": "data/real/val/gear_a/00.png"}, IMAGE, "is not a training image"),
        ("data/selected/real_id.csv", {"percentile": "0.25"}, IMAGE, "its verdict says 0.5"),
        ("data/quality/id.csv", {"path": GONE}, IMAGE, "has no verdict"),
        ("data/quality/id.csv", {"sha256": "0" * 64}, IMAGE, "verdict in data/quality/id.csv is of another image"),
    ],
)
def test_tables_that_do_not_match_are_named(copied, table, change, path, said):
    def edit(rows):
        next(row for row in rows if row["path"] == IMAGE).update(change)

    rewrite(copied / table, edit)
    assert said in " ".join(f.message for f in verify(copied).faults if f.path == path)


def test_strangers_changed_parameters_code_and_commands_are_named(copied):
    shutil.copy(copied / IMAGE, copied / "data/augmented/id/gear_a/stranger.png")
    (copied / "data/augmented/old").mkdir()
    small_project.set_params(copied, "sets.id", strength=0.3)
    (copied / "pipeline.py").write_text((copied / "pipeline.py").read_text() + "\n")
    text = (copied / "dvc.yaml").read_text()
    (copied / "dvc.yaml").write_text(text.replace("pipeline.py tokens", "pipeline.py tokens --again"))
    found = faults(verify(copied))
    assert "not among the outputs" in " ".join(
        f.message for f in verify(copied).faults if f.path.endswith("stranger.png")
    )
    assert found["data/augmented/old"] == "no stage of dvc.yaml made this set"
    assert found["params.yaml"] == "sets.id.strength is not as dvc.lock has it of generate@id: dvc repro"
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
    assert faults(verify(copied)) == {"data/augmented/near_ood": "no stage of dvc.yaml made this set"}
    shutil.rmtree(copied / "data/augmented/near_ood")
    result = verify(copied)
    assert result.faults == []
    assert result.data["checked"]["stages in dvc.lock that dvc.yaml has no longer"] == 5
    assert result.data["checked"]["stages"] == 9


def test_nothing_to_verify_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing has run here yet"):
        verify(tmp_path)


def other_base(token: bytes) -> bytes:
    return re.sub(rb'("base_sha256": ?")[0-9a-f]{8}', rb"\g<1>00000000", token)


def test_a_token_that_says_nothing_or_another_class_or_base_is_named(copied):
    """The hashes are those of the files: only the tokens' own words tell."""
    folder, manifest = copied / "models/tokens", copied / "data/augmented/id/manifest.csv"
    token = folder / "gear_a.safetensors"
    for data, said in (
        ((folder / "gear_b.safetensors").read_bytes(), "it was made with the token of gear_b"),
        (other_base(token.read_bytes()), "its token's 0000"),
        (b"nothing", "does not say what it was learned from"),
    ):
        token.unlink()
        token.write_bytes(data)
        now = {"token_sha256": sha256_file(token)}
        rewrite(manifest, lambda rows, now=now: [row.update(now) for row in rows if row["path"] == IMAGE])
        assert said in " ".join(f.message for f in verify(copied).faults if f.path == IMAGE)
        assert said in " ".join(f.message for f in trace_image(copied, IMAGE).faults if f.path == IMAGE)
