"""The data card of a project: asked for, kept, reminded of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.cli import run

from partsynth.project.card import RENDERED, check_card, completed, write_card
from partsynth.project.findings import Findings
from partsynth.records.card import QUESTIONS, DataCard, read_card


def test_check_reminds_of_what_is_missing_and_stops_for_what_cannot_be_read(tmp_path: Path) -> None:
    def checked() -> Findings:
        found = Findings()
        check_card(tmp_path, found)
        return found

    assert "data/card.yaml: there is none" in checked().in_order[0] and not checked().faults
    write_card(tmp_path, DataCard(origin="our line", purpose="sorting"))
    (told,) = checked().in_order
    assert told.startswith("data/card.yaml: not stated yet: licence (their licence") and "; gaps (" in told
    write_card(tmp_path, RENDERED)  # what is there stays
    assert read_card(tmp_path / "data/card.yaml").origin == "our line"
    (tmp_path / "data/card.yaml").write_text("origin: a\nlicence: b\npurpose: c\ngaps: d\n")
    assert checked().in_order == ["data/card.yaml: complete"]
    (tmp_path / "data/card.yaml").write_text("owner: a\n")
    assert checked().in_order == [] and "data/card.yaml: owner" in checked().faults[0]


def test_what_is_stated_goes_before_what_is_known_of_renders() -> None:
    assert completed(DataCard(licence="MIT"), RENDERED) == RENDERED.model_copy(update={"licence": "MIT"})


@pytest.mark.parametrize("terminal", [True, False])
def test_init_asks_at_a_terminal_alone(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from partsynth.cli import project
    from partsynth.project import init

    asked, stated = [], []

    def prompt(text: str, default: str, show_default: bool) -> str:
        asked.append(text)
        return default if "licence" in text else f" {len(asked)} "

    monkeypatch.setattr(project.typer, "prompt", prompt)
    monkeypatch.setattr(init, "init", lambda *_, card, **__: stated.append(card()) or "made")
    side = SimpleNamespace(isatty=lambda: terminal)
    monkeypatch.setattr(project, "sys", SimpleNamespace(stdin=side, stdout=side))
    code, out, _ = run("init", "own", "--data", "photos", "--gaps", "no rust")
    assert (code, out) == (0, "made\n")
    assert [text.partition(" (")[0] for text in asked] == (list(QUESTIONS.values())[:3] if terminal else [])
    assert stated == [DataCard(origin="1", purpose="3", gaps="no rust") if terminal else DataCard(gaps="no rust")]
    run("init", "own", "--preset", "demo")  # of rendered parts all is known
    assert len(asked) == (3 if terminal else 0)
