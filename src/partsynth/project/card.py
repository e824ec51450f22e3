"""The data card of a project: written by init, asked for at a terminal, reminded of by check."""

from __future__ import annotations

from pathlib import Path

from partsynth.errors import UserError
from partsynth.project.findings import Findings
from partsynth.records.card import QUESTIONS, DataCard, card_text, read_card
from partsynth.store.files import write_text_atomic
from partsynth.store.layout import CARD

RENDERED = DataCard(
    origin="Rendered by partsynth from parametric geometry (stage render); nothing was photographed.",
    licence="Apache-2.0",
    purpose="To show the pipeline and to compare augmentation methods; no classifier of real parts.",
    gaps="Real surfaces, wear, cameras and light: whatever the renderer does not model.",
)
"""Of presets that render their own images."""


def completed(card: DataCard, known: DataCard) -> DataCard:
    """The card, and of what it does not state what is known anyway."""
    return known.model_copy(update={name: text for name, text in card.model_dump().items() if text})


def write_card(root: Path, card: DataCard) -> None:
    """The card, where the project has none yet."""
    if not (root / CARD).exists():
        write_text_atomic(root / CARD, card_text(card))


def check_card(root: Path, found: Findings) -> None:
    """What is not stated is told, and no fault; a card that cannot be read is one."""
    if not (root / CARD).is_file():
        found.in_order.append(
            f"{CARD}: there is none; reports and `partsynth audit export` show what it says under the keys "
            f"{', '.join(QUESTIONS)}"
        )
        return
    try:
        missing = read_card(root / CARD).missing
    except UserError as error:
        found.faults.append(str(error))
        return
    told = "; ".join(f"{name} ({QUESTIONS[name][0].lower()}{QUESTIONS[name][1:]})" for name in missing)
    found.in_order.append(f"{CARD}: not stated yet: {told}" if missing else f"{CARD}: complete")
