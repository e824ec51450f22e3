"""`partsynth check`: every fault of a project at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from partsynth.errors import UserError
from partsynth.project import check, init


@pytest.mark.slow
def test_check_names_every_fault(tmp_path: Path, photos: Path, base: Path) -> None:
    own = tmp_path / "own"
    init.init(own, "folder", photos, base)
    text = (own / "params.yaml").read_text()
    text = text.replace("setup: real_id_negatives", "setup: reel").replace("models/base\n", "models/bass\n")
    (own / "params.yaml").write_text(text.replace("my photos", "my fotos"))
    with pytest.raises(UserError) as caught:
        check.check(own, own / "params.yaml")
    for part in (
        "study.setup: no 'reel', did you mean real; select has real",
        "there is no folder models/bass",
        "my fotos and no stage writes it (ingest)",
    ):
        assert part in str(caught.value)
    (own / "dvc.yaml").write_text((own / "dvc.yaml").read_text().replace("foreach: ${sets}", "foreach: ${setz}"))
    with pytest.raises(UserError, match=r"dvc\.yaml: .*setz"):
        check.check(own, own / "params.yaml")
