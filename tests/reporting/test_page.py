"""The page's sections: each has its template, and one more is a function and a template."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.evaluated_project import Project
from jinja2 import ChoiceLoader, DictLoader, FileSystemLoader

from partsynth.reporting import page, render
from partsynth.reporting.page import SECTIONS, Section


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("paged"), setups=("real", "real_id"), seeds=(0,), ood=False).make()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.root)
        made.evaluate()
    return made


def test_every_section_has_a_template_and_every_template_a_section() -> None:
    templates = {path.name.removesuffix(".html.j2") for path in render.TEMPLATES.glob("*.html.j2")}
    assert {section.key for section in SECTIONS} == templates - {"page", "macros"}
    assert len({section.key for section in SECTIONS}) == len(SECTIONS)


def test_one_more_section(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    more = Section("more", "One <more>", lambda contents: {"name": "a & b"})
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(page, "SECTIONS", (*SECTIONS, more))
    both = ChoiceLoader([DictLoader({"more.html.j2": "<p>{{ name }}</p>"}), FileSystemLoader(render.TEMPLATES)])
    monkeypatch.setattr(render.environment(), "loader", both)
    text = project.report()
    assert '<a href="#more">One &lt;more&gt;</a>' in text and "<p>a &amp; b</p>" in text


def test_what_was_not_measured_is_said_in_words(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    text = project.report()
    assert "near-OOD AUROC" in text and "the source has no near-OOD classes" in text
    assert "<p>Not measured.</p>" in text and "one seed; intervals are over the parts photographed alone" in text
    assert "OOD figures use" not in text
    assert Path("reports/index.html").read_text() == text
