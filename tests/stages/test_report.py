import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.evaluated_project import Project

from partsynth.config.evaluation import Report
from partsynth.errors import UserError

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}


class Checker(HTMLParser):
    """Collects what a reader or an auditor would trip over."""

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.ids, self.targets, self.tables = [], [], [], [], 0

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img" and not found.get("alt"):
            self.faults.append(f"picture without a text: {found}")
        for name in ("src", "href"):
            value = found.get(name, "#")
            if not value.startswith(("#", "data:", "quality/")):
                self.faults.append(f"request to {value[:60]}")
        if "id" in found:
            self.ids.append(found["id"])
        if found.get("href", "").startswith("#"):
            self.targets.append(found["href"][1:])
        self.tables += tag == "table"

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing at {self.getpos()}")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("reported")).make()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.root)
        made.evaluate()
    return made


@pytest.fixture(autouse=True)
def _in_project(project, monkeypatch):
    monkeypatch.chdir(project.root)


def test_page_is_whole_and_asks_nobody(project):
    page = project.report()
    checker = Checker()
    checker.feed(page)
    assert checker.faults == [] and checker.open == []
    assert len(checker.ids) == len(set(checker.ids)) and set(checker.targets) <= set(checker.ids)
    assert set(checker.ids) == {
        "verdict",
        "results",
        "differences",
        "ood",
        "classes",
        "map",
        "saliency",
        "drift",
        "augmentations",
        "flagged",
        "real",
        "training",
        "data",
    }
    assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r'data:[^"]*', "", page))
    assert len(page) < 8_000_000


def test_page_says_what_was_found(project):
    page = project.report(Report(title="Gears & flanges"))
    assert "<title>Gears &amp; flanges</title>" in page
    assert (
        "ID augmentations changed shifted accuracy by" in page
        and "Near-OOD negatives changed near-OOD AUROC by" in page
    )
    assert "a photo of a rusty &lt;gear_t6&gt;" in page and "strength 0.2" in page  # prompts of the contact sheet
    assert re.search(r"✗ drift [01]\.\d\d", page) and re.search(r"✓ 0\.\d\d", page)
    assert "data/selected/real_id.csv" in page and "predictions.csv" in page
    assert page.index('id="verdict"') < page.index('id="results"')


def test_same_bytes_again(project):
    first = project.report()
    assert project.report() == first
    assert not re.search(r"20\d\d-\d\d-\d\dT", first)


def test_links_to_data_docs_where_there_are_some(project):
    assert "Data Docs" not in project.report()
    docs = Path("reports/quality/id/data_docs/index.html")
    docs.parent.mkdir(parents=True)
    docs.write_text("x")
    assert '<a href="quality/id/data_docs/index.html">' in project.report()


def test_studies_are_shown_where_there_are_some(project):
    assert 'id="studies"' not in project.report()

    def trial(number, accuracy, auroc, feasible):
        found = {
            "number": number,
            "state": "COMPLETE",
            "val_accuracy": accuracy,
            "near_ood_auroc": auroc,
            "drift": 0.25,
        }
        return found | {"feasible": feasible, "params": {"temperature": 0.1 + number}, "mlflow_run_id": f"run{number}"}

    trials = [trial(0, 0.5, 0.7, True), trial(1, 0.8, 0.4, False), trial(2, 0.6, 0.75, True)]
    trials.append(
        {"number": 3, "state": "PRUNED", "val_accuracy": None, "feasible": None, "params": {"temperature": 9}}
    )
    data = {
        "study": "first<",
        "setup": "real_id",
        "mode": "constrained",
        "mlflow_run_id": "parent",
        "limits": {"near_ood_auroc": 0.5, "drift": 0.9},
        "counts": {"complete": 3, "pruned": 1},
        "best": 2,
        "pareto": [],
        "data": {"data/selected/real_id.csv": "0123"},
        "importance": {"temperature": 1.0},
        "trials": trials,
        "history": [
            {"trial": 0, "val_accuracy": 0.5, "best": 0.5},
            {"trial": 1, "val_accuracy": 0.8, "best": 0.5},
            {"trial": 2, "val_accuracy": 0.6, "best": 0.6},
        ],
    }
    folder = Path("reports/studies")
    folder.mkdir(parents=True)
    try:
        (folder / "first.json").write_text(json.dumps(data))
        page = project.report()
        assert page == project.report()
        section = page[page.index('id="studies"') : page.index('id="data"')]
        checker = Checker()
        checker.feed(page)
        assert checker.faults == [] and checker.open == []
        assert (
            "first&lt;" in section
            and "best: trial 2" in section
            and "2 ★" in section
            and "3 complete, 1 pruned" in section
        )
        table = section[section.index("<tbody>") :]  # the most accurate first, whatever the limits say
        assert table.index(">1<") < table.index(">2 ★<") < table.index(">0<")
        (folder / "first.json").write_text(json.dumps(data | {"history": [], "trials": trials[3:], "best": None}))
        assert "no trial keeps the limits" in project.report()
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_collapsed_training_is_said(project):
    summary = Path("reports/metrics/summary.json")
    before = summary.read_text()
    changed = json.loads(before)
    changed["runs"][1]["config"]["collapse"] = "loss stuck near log(N - 1)"
    del changed["seal"]
    summary.write_text(json.dumps(changed))
    try:
        assert "real, seed 1: loss stuck near log(N - 1)" in project.report()
    finally:
        summary.write_text(before)


def test_large_pictures_are_reduced(tmp_path, monkeypatch):
    big = Project(
        tmp_path, setups=("real",), seeds=(0,), size=256, counts=(("train", 2), ("val", 2), ("test", 2))
    ).make()
    monkeypatch.chdir(tmp_path)
    big.evaluate()
    page = big.report(Report(sheet_pictures=8))
    assert "There is one setup only" in page and 'id="differences"' not in page
    assert len(page) < 2_000_000


def test_missing_inputs_are_named(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"reports/metrics/summary.json is missing: run the stage"):
        project.report()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("data/augmented/id/*/*.png", r"\.png differs from its manifest"),
        ("data/real/test/*/*.png", r"\.png differs from its manifest"),
        ("reports/plots/roc_near.csv", r"roc_near\.csv is not as stage evaluate wrote it"),
        ("reports/metrics/predictions.csv", r"predictions\.csv is not as stage evaluate wrote it"),
        ("reports/metrics/summary.json", r"summary\.json is not as stage evaluate wrote it"),
    ],
)
def test_what_was_altered_since_is_not_shown(project, path, told):
    before = {file: file.read_bytes() for file in Path().glob(path)}
    assert before
    try:
        for file, data in before.items():
            file.write_bytes(data.replace(b"0.", b"1.") if file.suffix != ".png" else data + b"\n")
        with pytest.raises(UserError, match=told):
            project.report()
    finally:
        for file, data in before.items():
            file.write_bytes(data)
