"""The data card: what only people know of the photographs (``data/card.yaml``, in git)."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from partsynth.errors import UserError

QUESTIONS = {
    "origin": "Who took the photographs, where, when, and with what",
    "licence": "Their licence: an SPDX identifier such as CC-BY-4.0, or in words",
    "purpose": "What the classifier is for, and who relies on it",
    "gaps": "What the photographs do not show: conditions, classes, ages, sides",
}
NOT_STATED = "not stated in data/card.yaml"


class DataCard(BaseModel):
    """Origin, licence, purpose and gaps of the photographs; what is empty was not stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str = ""
    licence: str = ""
    purpose: str = ""
    gaps: str = ""

    @field_validator("*", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return "" if value is None else value.strip() if isinstance(value, str) else value

    @property
    def missing(self) -> list[str]:
        return [name for name in QUESTIONS if not getattr(self, name)]

    def told(self) -> dict[str, str]:
        """Every entry, in words where nothing is stated."""
        return {name: getattr(self, name) or NOT_STATED for name in QUESTIONS}


def parse_card(text: str, name: str) -> DataCard:
    """The card of a YAML text; ``name`` is how faults call it.

    Raises
    ------
    UserError
        where it is no mapping of these keys to texts.
    """
    import yaml

    from partsynth.store.yaml_rule import load_yaml

    try:
        return DataCard.model_validate(load_yaml(text) or {})
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{name}: {place or 'the file'}: {first['msg']}; allowed are texts for {', '.join(QUESTIONS)}"
        ) from None


def read_card(path: Path) -> DataCard:
    """The card of a file, an empty one where there is none. Raises UserError where it cannot be read as one."""
    try:
        return parse_card(path.read_text(), str(path))
    except FileNotFoundError:
        return DataCard()


def card_text(card: DataCard) -> str:
    """The file of a card, each key below its question."""
    from partsynth.store.yaml_rule import dump_yaml

    entries = [
        f"# {question}.\n" + dump_yaml({name: getattr(card, name)}, allow_unicode=True, width=100)
        for name, question in QUESTIONS.items()
    ]
    head = "# What only you know of the photographs: for the report, the model card and `partsynth audit export`.\n"
    return head + "".join(entries)
