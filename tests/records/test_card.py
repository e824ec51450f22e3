"""The data card: what people state of the photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from partsynth.errors import UserError
from partsynth.records.card import NOT_STATED, QUESTIONS, DataCard, card_text, parse_card, read_card


def test_what_is_written_is_read_again_and_asks_for_the_rest(tmp_path: Path) -> None:
    card = DataCard(origin="Our line 3: two cameras, 2026", gaps='no "rust", ümlaut, 100 %')
    text = card_text(card)
    (tmp_path / "card.yaml").write_text(text)
    assert read_card(tmp_path / "card.yaml") == card and list(yaml.safe_load(text)) == list(QUESTIONS)
    assert all(question in text for question in QUESTIONS.values())
    assert card.missing == ["licence", "purpose"] and card.told()["licence"] == NOT_STATED
    assert read_card(tmp_path / "none.yaml") == DataCard() == parse_card("origin:\n", "card.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("origin: [a]\n", r"card\.yaml: origin: .*allowed are texts for origin, licence, purpose, gaps"),
        ("license: MIT\n", r"card\.yaml: license: .*allowed are"),
        ("- a\n", r"card\.yaml: the file: "),
        ("origin: 'a\n", r"card\.yaml is not valid YAML"),
    ],
)
def test_a_faulty_card_is_told_in_one_sentence(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        parse_card(text, "card.yaml")
    assert "\n" not in str(caught.value)
