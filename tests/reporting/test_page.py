"""The page's sections: each has its template, and one more is a function and a template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.evaluated_project import Project
from helpers.rows import decision
from jinja2 import ChoiceLoader, DictLoader, FileSystemLoader

from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.review import ReviewRecord
from partsynth.records.rows import VerdictRecord
from partsynth.reporting import page, render
from partsynth.reporting.page import SECTIONS, Section
from partsynth.store.files import write_json
from partsynth.store.png import write_png


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


def test_the_data_card_is_shown_and_what_it_does_not_state(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    card = Path("data/card.yaml")
    card.write_text("origin: line <3>\nlicence: CC0-1.0\n")
    try:
        text = project.report()
    finally:
        card.unlink()
    assert "line &lt;3&gt;" in text and "CC0-1.0" in text and text.count("not stated in data/card.yaml") == 2


def test_what_was_not_measured_is_said_in_words(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    text = project.report()
    assert "near-OOD AUROC" in text and "the source has no near-OOD classes" in text
    assert "<p>Not measured.</p>" in text and "one seed; intervals are over the parts photographed alone" in text
    assert "OOD figures use" not in text
    assert Path("reports/index.html").read_text() == text


def test_what_tuning_the_base_model_gained_is_shown_where_it_was_tuned(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    plain = project.report()
    folder = Path("models/adapted")
    write_json(folder / "manifest.json", {"adapted": False})
    assert project.report() == plain and "Adaptation" not in plain
    gain = {"before": 26.96, "after": 28.514, "step": 250}
    write_json(
        folder / "manifest.json",
        {
            "adapted": True,
            "figures": {
                "train_images": 12,
                "val_images": 7,
                "psnr": gain,
                "denoising_error": None,
                "shown": ["data/real/val/a/1.png"],
            },
        },
    )
    with pytest.raises(UserError, match=r"reconstruction\.png is missing"):
        project.report()
    write_png(folder / "reconstruction.png", np.zeros((3, 8, 3), np.uint8))
    text = project.report()
    assert "<td>26.96</td><td>28.51</td><td>250</td>" in text and "12 training images" in text
    assert "Denoising error" not in text
    assert 'title="data/real/val/a/1.png"' in text  # a takedown finds the page by it


def test_what_people_decided_is_compared_with_the_gate_where_anybody_did(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    plain = project.report()
    table = Path("data/review/near_ood.csv")
    write_manifest(table, [], ReviewRecord)
    assert project.report() == plain and "Review by people" not in plain
    judged = read_manifest(Path("data/quality/near_ood.csv"), VerdictRecord)
    told = [
        decision("x", "accept", path=v.path, sha256=v.sha256, class_name=v.class_name, reason="fine & sound")
        for v in judged
    ]
    try:
        write_manifest(table, told, ReviewRecord)
        text = project.report()
    finally:
        table.unlink()
    flagged = [v for v in judged if v.reasons]
    assert "Review by people" in text and f"0 of {len(flagged)} (0&nbsp;%)" in text
    assert "near_ood: no threshold is told, because people accepted 48 and rejected 0" in text
    assert text.count("accept, ann (fine &amp; sound)") >= min(len(flagged), 24)
