"""DVC's objects by hash."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from helpers import small_project

from partsynth.errors import UserError
from partsynth.lineage.digests import folder_files, listing_md5, md5_bytes, path_md5
from partsynth.lineage.graph import digest_of, outputs, read_lock
from partsynth.lineage.objects import Objects


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project.finished(tmp_path_factory.getbasetemp())


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    return small_project.copy(project, tmp_path / "copy")


def test_digests_are_dvc_s(project: Path) -> None:
    for path, md5 in outputs(read_lock(project)).items():
        assert path_md5(project / path) == md5
    assert path_md5(project / "nothing") is None
    assert listing_md5(folder_files(project / "data/real")) == digest_of(read_lock(project), "data/real")


@pytest.mark.parametrize(
    "settings",
    [
        [],
        [("cache.dir", "../elsewhere")],
        [("--local", "cache.dir", "/tmp/of this machine")],
        [("core.remote", "b"), ("remote.a.url", "/tmp/a"), ("remote.b.url", "/tmp/b"), ("remote.c.url", "/tmp/c")],
    ],
    ids=["default", "of the project", "of the machine", "remotes"],
)
def test_cache_and_remotes_are_those_that_dvc_would_use(copied: Path, settings: list[tuple[str, ...]]) -> None:
    for setting in settings:
        small_project.dvc(copied, "config", *setting)
    (copied / "below").mkdir()
    repo = Repo(str(copied))
    for root in (copied, copied / "below"):
        with Objects(root) as objects:
            assert objects.cache == Path(repo.cache.local.path)
            assert sorted(objects.remotes) == sorted(repo.config["remote"])
            assert objects.remotes[:1] == (["b"] if len(settings) > 1 else [])
    repo.close()


def test_a_folder_without_dvc_or_with_a_faulty_configuration_is_named(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match="is no DVC repository"):
        Objects(tmp_path / "plain")
    (copied / ".dvc/config").write_text("[core]\n    nonsense = 1\n")
    with pytest.raises(UserError, match=r"\.dvc/config"):
        Objects(copied)


def test_objects_are_read_and_checked(copied: Path, tmp_path: Path) -> None:
    folder = digest_of(read_lock(copied), "data/real")
    assert folder is not None
    with Objects(copied) as objects:
        listing = objects.listing(folder)
        assert listing == folder_files(copied / "data/real") and objects.missing([folder]) == set()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/stranger").touch()
        assert objects.restore(folder, tmp_path / "out") == listing
        assert path_md5(tmp_path / "out") == folder
        lost, damaged = (listing[name] for name in ("train/gear_a/00.png", "train/gear_a/01.png"))
        objects.path(lost).unlink()
        os.chmod(objects.path(damaged), 0o644)
        objects.path(damaged).write_bytes(b"other")
        assert objects.missing([folder]) == {lost} == objects.fetch([folder])
        with pytest.raises(UserError, match="missing from the cache") as error:
            objects.restore(folder, tmp_path / "out")
        assert "is damaged" in str(error.value)  # all faults at once


def test_lost_objects_come_from_the_first_remote_that_has_them(copied: Path, tmp_path: Path) -> None:
    small_project.dvc(copied, "remote", "add", "-d", "gone", str(tmp_path / "unwritten"))
    small_project.dvc(copied, "remote", "add", "kept", str(tmp_path / "kept"))
    folder = digest_of(read_lock(copied), "data/real")
    assert folder is not None
    with Objects(copied) as objects:
        assert objects.remotes == ["gone", "kept"]
        count = len(objects.listing(folder))
        assert objects.push([folder], "kept") == count + 1 and objects.push([folder], "kept") == 0
        shutil.rmtree(objects.cache)
        with pytest.raises(UserError, match="the cache lacks what should be sent"):
            objects.push([folder])
        assert objects.fetch([folder]) == set()
        assert len(objects.listing(folder)) == count


def test_the_pipeline_is_dvc_yaml_resolved(project: Path, copied: Path) -> None:
    with Objects(project) as objects:
        stages = objects.pipeline()
        assert set(stages) == set(read_lock(project))
        assert not stages["ingest"].frozen and stages["ingest"].uncached == ()
        assert stages["generate@id"].cmd == f"{sys.executable} pipeline.py generate id"
        assert not objects.ignored(str(project / "params.yaml"))
    (copied / "dvc.yaml").write_text("stages: {a: {cmd: '${none}'}}")
    with Objects(copied) as objects, pytest.raises(UserError, match=r"dvc\.yaml: .*none"):
        objects.pipeline()


def test_md5_is_of_the_bytes() -> None:
    assert md5_bytes(b"") == "d41d8cd98f00b204e9800998ecf8427e"
