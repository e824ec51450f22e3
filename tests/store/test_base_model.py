"""The identity of a base model from the hub."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from partsynth.store.base_model import hub_commit, locate_base

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_hub_id_is_recorded_with_the_commit_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(model: str, file: str, revision: str | None = None) -> str:
        asked.append((model, file, revision))
        return str(tmp_path / f"models--owner--name/snapshots/{COMMIT}/{file}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert locate_base("owner/name", None, tmp_path) == ("owner/name", f"owner/name@{COMMIT}")
    assert locate_base("owner/name", "v1", tmp_path)[1] == f"owner/name@{COMMIT}"
    assert asked == [("owner/name", "model_index.json", None), ("owner/name", "model_index.json", "v1")]
    assert hub_commit("owner/name", "f" * 40) == "f" * 40 and len(asked) == 2


def test_where_nobody_knows_the_commit_the_revision_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    assert locate_base("owner/name", None, tmp_path)[1] == "owner/name@main"
    assert locate_base("owner/name", "v1", tmp_path)[1] == "owner/name@v1"
