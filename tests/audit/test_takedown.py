"""A photograph taken down: listed first, then gone from the workspace, from DVC's cache and from a remote."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from helpers import cli, small_project
from helpers.audits import PARENT, SETUPS, tree

from partsynth.audit import takedown_search
from partsynth.audit.push import push_runs
from partsynth.audit.source import trace_source
from partsynth.audit.takedown import purge, require_confirmed
from partsynth.audit.verify import verify
from partsynth.errors import UserError
from partsynth.evaluation.champion import register
from partsynth.lineage import stores
from partsynth.serving.choose import choose_model
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.tracking.query import find_runs, get_run, model_versions
from partsynth.tracking.takedown import TAKEDOWN

SOURCE = "gear_a/train/00_rgb.png"
MASK, OTHER_MASK = "gear_a/train/00_rgb_mask_gt.png", "gear_a/train/01_rgb_mask_gt.png"
PHOTOGRAPH = sha256_bytes(SOURCE.encode())  # the small project's photographs hold their own names


def with_photographs(root: Path, store: Path) -> Path:
    """The project with a source folder and a remote that has all of it: two masks alike, one photograph twice, a
    report that shows a derived image, a registered model."""
    for name in (SOURCE, "gear_a/train/01_rgb.png", "gear_b/train/00_rgb.png"):
        path = root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    for name in (MASK, OTHER_MASK):
        (root / "photos" / name).write_bytes(b"all of it")
    (root / "photos/gear_a/copy of it.png").write_bytes(SOURCE.encode())
    small_project.set_params(root, "ingest", path="photos")
    small_project.dvc(root, "add", "-q", "photos")
    small_project.dvc(root, "remote", "add", "-d", "store", str(store))
    assert push_runs(root).faults == []
    small_project.dvc(root, "push")
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports/index.html").write_text('<img title="data/augmented/id/gear_a/00-1.png">')
    register(root)
    return root


@pytest.fixture
def taken(changed, tmp_path):
    return with_photographs(small_project.copy(changed, tmp_path / "copy"), tmp_path / "store")


def images_of_it(root: Path) -> set[str]:
    """sha256 of the photograph, of its framed image and of everything made from it, now or once."""
    found = trace_source(root, PARENT).data
    return {PHOTOGRAPH} | {item["sha256"] for kind in ("framed", "synthetic", "tokens") for item in found[kind]}


def holders(folder: Path, wanted: set[str]) -> list[str]:
    return sorted(str(p) for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and sha256_file(p) in wanted)


def test_a_dry_run_lists_all_of_it_and_touches_nothing(taken, tmp_path):
    before, remote = tree(taken / ".dvc/cache"), tree(tmp_path / "store")
    files = {p: p.read_bytes() for folder in ("data", "models", "photos") for p in (taken / folder).rglob("*.png")}
    for what in (PARENT, SOURCE, PHOTOGRAPH[:12]):
        data = purge(taken, what, remote="store").data
        assert not data["done"] and data["photograph"]["source_sha256"] == PHOTOGRAPH
        here = {(item["kind"], item["path"]) for item in data["files"]}
        assert {
            ("photograph", f"photos/{SOURCE}"),
            ("photograph", "photos/gear_a/copy of it.png"),
            ("mask", f"photos/{MASK}"),
            ("framed", PARENT),
            ("token", "models/tokens/gear_a.safetensors"),
            ("page", "reports/index.html"),
            *(("synthetic", f"data/augmented/{s}/gear_a/00-{v}.png") for s in ("id", "near_ood") for v in (0, 1)),
        } == here
        for store in ("cache", "store"):
            kinds = [item["kind"] for item in data["objects"][store]]
            # two versions of set id; the photograph under both of its names is one object
            assert {kind: kinds.count(kind) for kind in kinds} == {
                "framed": 1,
                "photograph": 1,
                "synthetic": 6,
                "token": 1,
            }
        assert [item["shared_with"] for item in data["kept_because_others_share_the_bytes"]] == [[OTHER_MASK]]
        assert len(data["runs_to_tag"]) == 5 and data["runs_that_watched_it"] == []
        assert data["aliases_taken_off"] == ["partsynth v1 @champion"]
        assert data["tables_that_name_it"] == [f"data/selected/{name}.csv" for name in SETUPS]
        assert data["to_be_made_anew"] == ["dvc repro", "train@real-0", "train@real_id-0", "train@real_id_negatives-0"]
        assert {item["path"] for item in data["mlflow_artifacts"]} == {"sheets/training.jpg"}
    assert purge(taken, PARENT).data["remotes_not_searched"] == ["store"]
    assert tree(taken / ".dvc/cache") == before and tree(tmp_path / "store") == remote
    assert all(path.read_bytes() == data for path, data in files.items())
    assert get_run(taken, "champion").tags.get(TAKEDOWN) is None


def test_nothing_of_it_is_left_anywhere_and_nothing_else_is_touched(taken, changed, tmp_path):
    wanted = images_of_it(taken)
    assert len(wanted) == 9  # the photograph, its frame, six edits of two versions, the token
    cache, remote = tree(taken / ".dvc/cache"), tree(tmp_path / "store")
    champion = get_run(taken, "champion").run_id
    result = purge(taken, PARENT, remote="store", go=True, date="2026-11-26", reason="asked for by its owner")
    assert result.faults == [] and result.data["done"]
    assert holders(taken, wanted) == [] and holders(tmp_path / "store", wanted) == []
    for folder, before in ((taken / ".dvc/cache", cache), (tmp_path / "store", remote)):
        gone = set(before) - set(tree(folder))
        assert {sha256_bytes(before[name]) for name in gone} == wanted
    assert not (taken / "photos" / MASK).exists() and (taken / "photos" / OTHER_MASK).exists()
    assert not (taken / "reports/index.html").exists()

    assert yaml.safe_load((taken / "params.yaml").read_text())["ingest"]["taken_down"] == {
        PHOTOGRAPH: "2026-11-26 asked for by its owner"
    }
    runs = find_runs(taken, live=False)
    assert len(runs) == 5 and all(run.tags[TAKEDOWN] == PHOTOGRAPH for run in runs)
    assert not list((taken / "mlartifacts").rglob("training.jpg"))
    assert list((changed.parents[0] / "project/mlartifacts").rglob("training.jpg"))  # of the project it was copied from
    assert [version.aliases for version in model_versions(taken)] == [()]
    with pytest.raises(UserError, match="was taken down"):
        register(taken)
    with pytest.raises(UserError, match="was taken down"):
        register(taken, champion)
    with pytest.raises(UserError, match="was taken down"):
        choose_model(taken)
    with pytest.raises(UserError, match="was taken down"):
        choose_model(taken, run=champion)
    traced = trace_source(taken, PHOTOGRAPH)
    assert traced.faults == [] and traced.data["photograph"]["taken_down"].startswith("2026-11-26")
    again = purge(taken, PHOTOGRAPH, remote="store", go=True, date="2027-01-01")
    assert again.faults == [] and again.data["files"] == [] and set(map(len, again.data["objects"].values())) == {0}
    assert "2027" not in (taken / "params.yaml").read_text()


def test_an_interrupted_takedown_is_completed_when_it_is_started_again(taken, tmp_path, monkeypatch):
    wanted = images_of_it(taken)
    whole = small_project.copy(taken, tmp_path / "whole")
    shutil.copytree(tmp_path / "store", tmp_path / "whole-store")
    small_project.dvc(whole, "remote", "modify", "store", "url", str(tmp_path / "whole-store"))
    purge(whole, PARENT, remote="store", go=True, date="2026-11-26")

    left = [0]

    def stopping(remove):
        def one(self, *arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return remove(self, *arguments, **options)

        return one

    monkeypatch.setattr(stores.Cache, "remove", stopping(stores.Cache.remove))
    monkeypatch.setattr(stores.Remote, "remove", stopping(stores.Remote.remove))
    monkeypatch.setattr(takedown_search.Path, "unlink", stopping(Path.unlink))
    for allowed in (0, 4, 11, 1, 3):  # in the remote, in the cache, among the files
        left[0] = allowed
        with pytest.raises(KeyboardInterrupt):
            purge(taken, PARENT, remote="store", go=True, date="2026-11-26")
        with pytest.raises(UserError, match="was taken down"):
            choose_model(taken)
    monkeypatch.undo()
    assert purge(taken, PARENT, remote="store", go=True, date="2026-11-26").faults == []
    assert holders(taken, wanted) == [] and holders(tmp_path / "store", wanted) == []
    assert tree(taken / ".dvc/cache") == tree(whole / ".dvc/cache")
    assert tree(tmp_path / "store") == tree(tmp_path / "whole-store")
    for folder in ("photos", "data", "models"):
        assert tree(taken / folder) == tree(whole / folder)
    assert (taken / "params.yaml").read_bytes() == (whole / "params.yaml").read_bytes()


@pytest.mark.slow
def test_the_next_repro_trains_without_it(copied, tmp_path):
    root = with_photographs(copied, tmp_path / "store")
    wanted = images_of_it(root)
    small_project.dvc(root, "repro")  # the source folder was named meanwhile
    purge(root, PARENT, remote="store", go=True, date="2026-11-26")
    small_project.dvc(root, "repro")
    assert verify(root).faults == []
    assert holders(root / "data", wanted) == []
    assert PARENT not in (root / "data/selected/real_id_negatives.csv").read_text()
    message = register(root)
    assert "@champion" in message and TAKEDOWN not in get_run(root, "champion").tags
    assert push_runs(root).faults == []  # of runs whose data is gone nothing is asked any more
    with pytest.raises(UserError, match="taken down"):
        register(root, next(r.run_id for r in find_runs(root, live=False) if TAKEDOWN in r.tags))


def test_the_command_is_a_dry_run_until_it_is_told_otherwise(copied, tmp_path, monkeypatch):
    root = with_photographs(copied, tmp_path / "store")
    monkeypatch.chdir(root)
    code, out, _ = cli.run("audit", "source", PARENT, "--purge", "--remote", "store")
    assert code == 0 and "dry run" in out and (root / PARENT).exists()
    code, _, err = cli.run("audit", "source", PARENT, "--yes")
    assert code and "belong to --purge" in err
    code, _, err = cli.run("audit", "source", PARENT, "--purge", "--remote", "nowhere", "--yes")
    assert code and "no remote 'nowhere': there are store" in err and (root / PARENT).exists()
    code, _, _ = cli.run(
        "audit", "source", PARENT, "--purge", "--remote", "store", "--yes", "--reason", "a person in it"
    )
    assert code == 0 and not (root / PARENT).exists() and "a person in it" in (root / "params.yaml").read_text()


def test_what_is_typed_must_be_the_photograph():
    require_confirmed(PHOTOGRAPH[:8], PHOTOGRAPH)
    for answer in ("yes", PHOTOGRAPH[:7], "0" * 8):
        with pytest.raises(UserError, match="nothing was removed"):
            require_confirmed(answer, PHOTOGRAPH)


@pytest.mark.parametrize(
    ("mask", "photograph", "fits"),
    [
        ("a/train/00_rgb_mask_gt.png", "a/train/00_rgb.png", True),
        ("a/00_mask.png", "a/00.jpg", True),
        ("a/masks/00.png", "a/00.jpg", True),
        ("masks/a/00_mask.png", "a/00.jpg", True),
        ("masks/b/00.png", "a/00.jpg", False),
        ("a/00.png", "a/00.png", False),
        ("a/001_mask.png", "a/00.png", False),
    ],
)
def test_masks_are_told_by_their_names(mask, photograph, fits):
    assert takedown_search.is_mask_of(mask, photograph) is fits
