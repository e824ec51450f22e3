"""Captions for the corpus: what the image shows, in varied words, order and length.

"a photo of a {state} {family} ..." is the commonest form, as the prompts used later are "a photo of a {state} {token}".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from partsynth.rendering.scene import Shot
from partsynth.rendering.wear import Wear

FAMILY_WORDS = {
    "brake_disc": ("brake disc", "brake disc", "brake rotor"),
    "starter": ("starter", "starter motor"),
    "exhaust": ("exhaust manifold",),
    "valve": ("valve", "gate valve"),
    "housing": ("housing", "gear housing"),
    "gear": ("gear", "gear", "gear wheel"),
    "shaft": ("shaft", "stepped shaft"),
}
STATE_WORDS = {
    "brand new": ("brand new",),
    "used": ("used", "used", "used", "worn"),
    "rusty": ("rusty", "rusty", "rusty", "corroded"),
    "dirty": ("dirty", "dirty", "dirty", "oily"),
    "broken": ("broken", "broken", "broken", "damaged"),
}
MATERIAL_WORDS = {
    "cast iron": ("cast iron", "iron"),
    "blue painted": ("blue painted", "blue"),
    "green painted": ("green painted", "green"),
}
_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 8: "eight", 10: "ten", 12: "twelve"}
_SINGULAR = {"teeth": "tooth", "bosses": "boss", "branches": "branch"}
_PHOTO = ("a photo of", "a photo of", "a photo of", "a photo of", "a picture of", "a close-up photo of", "an image of")
_DEGREE = ((0.35, ("slightly", "lightly")), (0.7, ("",)), (1.01, ("heavily", "very")))


def feature_phrase(name: str, value: int, rng: np.random.Generator | None = None) -> str:
    """A feature in words, such as ``4 holes``; empty for one that is absent and goes without saying."""
    if name == "hub":
        return ("", "a low hub", "a tall hub")[value]
    if name == "sides":
        return "a round outline" if value > 6 else f"{_number(value, rng)} sides"
    if name in ("collar", "rim", "wheel"):
        return f"a {name}" if value else ""
    if value == 0:
        return ""
    word = _SINGULAR.get(name, name.removesuffix("s")) if value == 1 else name
    return f"{_number(value, rng)} {word}"


def _number(value: int, rng: np.random.Generator | None) -> str:
    spelled = rng is not None and rng.random() < 0.25
    return _NUMBERS.get(value, str(value)) if spelled else str(value)


def describe(family: str, features: Mapping[str, int]) -> str:
    """The full plain description, as in a class's meta.json: ``gear with 12 teeth, 4 holes and a low hub``."""
    phrases = [phrase for name, value in features.items() if (phrase := feature_phrase(name, value))]
    return f"{family.replace('_', ' ')} with {_join(phrases)}" if phrases else family.replace("_", " ")


def _join(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def view_phrase(elevation: float, rng: np.random.Generator) -> str:
    """The camera's elevation (degrees) in words."""
    if elevation >= 66:
        return str(rng.choice(["seen from above", "from above", "top view"]))
    if elevation >= 55:
        return str(rng.choice(["seen from a high angle", "from a high angle"]))
    return str(rng.choice(["seen at an angle", "seen from the side", "at an angle"]))


def caption(family: str, features: Mapping[str, int], worn: Wear, shot: Shot, rng: np.random.Generator) -> str:
    """One random caption of an image."""
    noun = str(rng.choice(FAMILY_WORDS.get(family, (family.replace("_", " "),))))
    if rng.random() < 0.08:  # the plain word, from which learned tokens start
        noun = "part"
    state = str(rng.choice(STATE_WORDS[worn.state]))
    if worn.state in ("rusty", "dirty") and rng.random() < 0.3:
        degree = next(words for limit, words in _DEGREE if worn.severity < limit)
        state = f"{rng.choice(degree)} {state}".strip()
    material = str(rng.choice(MATERIAL_WORDS.get(worn.material, (worn.material,))))
    phrases = [p for name, value in features.items() if (p := feature_phrase(name, value, rng)) and rng.random() < 0.75]
    rng.shuffle(phrases)
    counts = _join(phrases) if phrases else ""
    place = f"on a {shot.background}"
    tail = [p for p, keep in ((view_phrase(shot.camera_elevation, rng), 0.35), (place, 0.45)) if rng.random() < keep]
    rng.shuffle(tail)

    form = rng.random()
    if form < 0.70:
        head = f"{rng.choice(_PHOTO)} {_article(state)} {state} "
        core = (f"{material} " if rng.random() < 0.3 else "") + noun
        text = head + core + (f" with {counts}" if counts and rng.random() < 0.65 else "")
    elif form < 0.82:
        text = f"{rng.choice(_PHOTO)} {_article(material)} {material} {noun}, {state}"
        text += f", {counts}" if counts else ""
    elif form < 0.92:
        text = f"{_article(state)} {state} {noun}" + (f" with {counts}" if counts else "")
    else:
        text = f"{rng.choice(_PHOTO)} {_article(noun)} {noun}" + (f" with {counts}" if counts else "")
    return ", ".join([text, *tail]) if tail else text


def _article(word: str) -> str:
    return "an" if word[0] in "aeio" or word.startswith("un") else "a"
