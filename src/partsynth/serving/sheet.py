"""A contact sheet of predicted images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from partsynth.serving.station import decoded
from partsynth.store.png import png_bytes

SIDE, GAP, LINE = 144, 12, 15  # pixels
COLUMNS = 6
KNOWN, UNKNOWN, PAPER, GREY = "#1a7f37", "#c2410c", "white", "#555555"


class Tile(NamedTuple):
    image: Image.Image  # at most SIDE a side
    word: str  # what it was taken for
    caption: str
    unknown: bool


def tile(data: bytes, word: str, caption: str, unknown: bool) -> Tile:
    """One image of the sheet, from its encoded bytes."""
    image = Image.fromarray(decoded(data))
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return Tile(image.resize(size, Image.Resampling.BICUBIC), word, caption, unknown)


def contact_sheet(tiles: Sequence[Tile]) -> bytes:
    """PNG: images in rows, framed by whether they are known, with class and name below."""
    columns = min(COLUMNS, max(1, len(tiles)))
    rows = -(-len(tiles) // columns)
    width, height = SIDE + GAP, SIDE + 2 * LINE + GAP
    sheet = Image.new("RGB", (columns * width + GAP, max(1, rows) * height + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, item in enumerate(tiles):
        left, top = GAP + index % columns * width, GAP + index // columns * height
        colour = UNKNOWN if item.unknown else KNOWN
        at = (left + (SIDE - item.image.width) // 2, top + (SIDE - item.image.height) // 2)
        sheet.paste(item.image, at)
        draw.rectangle((left - 2, top - 2, left + SIDE + 1, top + SIDE + 1), outline=colour, width=2)
        draw.text((left, top + SIDE + 3), _short(item.word, font), colour, font)
        draw.text((left, top + SIDE + 3 + LINE), _short(item.caption, font), GREY, font)
    return png_bytes(sheet)


def _short(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut at its start to the width of an image: names differ at their ends."""
    while len(text) > 1 and font.getlength(text) > SIDE:
        text = f"…{text[2:]}"
    return text
