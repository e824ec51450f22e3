"""What the classifiers look at: the part, or the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from partsynth.core.sampling import spread
from partsynth.errors import UserError
from partsynth.evaluation.looks import TABLE, heat_of
from partsynth.reporting.inputs import Contents
from partsynth.reporting.thumbnails import Thumbnail, with_heat

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Look:
    """One setup, through its first seed."""

    setup: str
    seed: int
    images: int  # drawn by lot
    wrong: int  # of them wrongly classified
    masked: int  # of them with a mask of the part, and some saliency
    on_part: float | None  # mean share of the saliency on the part
    area: float | None  # mean share of the image that is part
    right_sheet: list[Thumbnail]
    wrong_sheet: list[Thumbnail]


def values(contents: Contents) -> dict[str, Any] | None:
    if not (contents.inputs.plots / TABLE).exists():  # evaluate.saliency: 0, or evaluated before there were maps
        return None
    table = contents.plot(TABLE)
    looks = [_look(contents, setup, table[table.setup == setup]) for setup in dict.fromkeys(table.setup)]
    return {"looks": looks, "masked": any(look.masked for look in looks)}


def _look(contents: Contents, setup: str, rows: pd.DataFrame) -> Look:
    most = contents.inputs.params.sheet_pictures // 2
    drawn = rows[rows.drawn == 1]
    masked = drawn[drawn.on_part.notna()]
    is_right = rows.class_name == rows.predicted
    return Look(
        setup=setup,
        seed=int(rows.seed.iloc[0]),
        images=len(drawn),
        wrong=int((drawn.class_name != drawn.predicted).sum()),
        masked=len(masked),
        on_part=float(masked.on_part.mean()) if len(masked) else None,
        area=float(masked.area.mean()) if len(masked) else None,
        right_sheet=_sheet(contents, rows[is_right].drop_duplicates("class_name"), most),
        wrong_sheet=_sheet(contents, rows[~is_right], most),
    )


def _sheet(contents: Contents, rows: pd.DataFrame, most: int) -> list[Thumbnail]:
    images, records = [], {r.path: r for r in contents.real}
    for row in spread(rows.to_dict("records"), most):
        name, predicted = row["class_name"], row["predicted"]
        record = records.get(row["path"])
        if record is None:
            raise UserError(
                f"{contents.inputs.plots / TABLE} shows {row['path']}, no real image now: dvc repro evaluate"
            )
        caption = name if name == predicted else f"{name}, taken for {predicted}"
        images.append(with_heat(contents.inputs.root, record, caption, heat_of(row["levels"], row["side"])))
    return images
