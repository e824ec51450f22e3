"""Which code a stage runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from partsynth import seams
from partsynth.lineage import code
from partsynth.lineage.code import PACKAGE, code_hash, code_of, code_paths, members, templates


def names(paths: object) -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for path in paths}


def test_a_stages_code_is_its_module_and_what_that_imports() -> None:
    found = names(code_of("ingest"))
    assert {"stages/ingest.py", "core/images/framing.py"} <= found
    assert not found & {"config/data.py", "records/rows.py", "tracking/run.py", "stages/render.py"}


def test_a_stage_runs_the_members_of_the_seams_it_names_and_of_no_others() -> None:
    assert {"sources/mvip.py", "sources/folder.py", "sources/rendered.py"} <= names(code_of("ingest"))
    assert "core/backbones/narrow_resnet.py" in names(code_of("train"))
    assert "core/backbones/narrow_resnet.py" not in names(code_of("ingest"))
    assert "seams.py" not in names(code_of("ingest"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from partsynth.seams import SOURCES\n", True),
        ("from partsynth.seams import SOURCES as S\n", True),
        ("from partsynth import seams\nx = seams.SOURCES\n", True),
        ("def f():\n    from partsynth import seams as s\n    return s.SOURCES['folder']\n", True),
        ("from partsynth import seams\n", False),
        ("from partsynth.seams import Registry\n", False),
        ("from elsewhere import SOURCES\n", False),
    ],
)
def test_a_seam_is_found_however_it_is_imported(tmp_path: Path, text: str, found: bool) -> None:
    module = tmp_path / "module.py"
    module.write_text(text)
    wanted = {PACKAGE / "sources" / f"{name}.py" for name in ("rendered", "mvip", "folder")}
    assert wanted <= set(members(module)) if found else members(module) == []


def test_every_member_of_a_seam_is_a_module() -> None:
    for registry in (value for value in vars(seams).values() if isinstance(value, seams.Registry)):
        for name in registry.modules:
            assert PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py").is_file(), name


def test_paths_name_folders_that_are_needed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tuple(p for p in (PACKAGE / "sources").glob("*.py") if p.read_text().strip())
    monkeypatch.setattr(code, "code_of", lambda stage: (*whole, PACKAGE / "errors.py"))
    assert code_paths("any") == ["errors.py", "sources"]
    monkeypatch.setattr(code, "code_of", lambda stage: whole[:1])
    assert code_paths("any") == [whole[0].relative_to(PACKAGE).as_posix()]


def test_a_hash_is_of_names_and_texts() -> None:
    assert code_hash("ingest") == code_hash("ingest") != code_hash("train")


def test_templates_count_as_the_code_of_the_modules_beside_them() -> None:
    beside = [path.name for path in templates(PACKAGE / "reporting/page.py")]
    assert "page.html.j2" in beside and "style.css" in beside
    assert set(templates(PACKAGE / "reporting/page.py")) <= set(code_of("report"))
    assert "reporting/templates" in code_paths("report")
    assert templates(PACKAGE / "stages/report.py") == []
