"""What classes are edited into where that is not their own token: other words, and other classes."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from math import lcm
from typing import TypeVar

from partsynth.errors import UserError, listed
from partsynth.store.hashing import seed_from

T = TypeVar("T")


def phrases_by_class(
    words: Mapping[str, Sequence[str]], classes: Collection[str], all_classes: Sequence[str], key: str
) -> dict[str, Sequence[str]]:
    """Each of ``classes``' phrases: the first pattern that matches its name decides.

    Parameters
    ----------
    words : pattern -> phrases
    all_classes : of the project; ``classes`` are some of them
    key : in params.yaml, such as ``sets.near.words``

    Raises
    ------
    UserError
        where a pattern matches no class of the project, or none matches one of ``classes``.
    """
    _check(words, all_classes, key)
    found = {name: _first(words, name) for name in sorted(classes)}
    if without := [name for name, phrases in found.items() if phrases is None]:
        raise UserError(f"{key} has no phrase for {listed(without, separator=', ')}: add a pattern that matches")
    return {name: phrases for name, phrases in found.items() if phrases is not None}


def siblings_by_class(
    families: Mapping[str, str] | None, classes: Collection[str], all_classes: Sequence[str], key: str
) -> dict[str, list[str]]:
    """Each of ``classes``' siblings: the other classes of its family; of none given, all other classes.

    Parameters
    ----------
    families : pattern -> family; the first pattern that matches a class's name decides
    all_classes : of the project, in which siblings are looked for

    Raises
    ------
    UserError
        where a pattern matches no class, a class has no family, or it is the only one of its family.
    """
    if families is None:
        family: dict[str, str | None] = dict.fromkeys(all_classes, "")
    else:
        _check(families, all_classes, key)
        family = {name: _first(families, name) for name in all_classes}
    if without := [name for name in sorted(classes) if family[name] is None]:
        raise UserError(f"{key} has no family for {listed(without, separator=', ')}: add a pattern that matches")
    found = {
        name: sorted(other for other in all_classes if other != name and family[other] == family[name])
        for name in sorted(classes)
    }
    if alone := [name for name, others in found.items() if not others]:
        told = "null means all other classes, and there is none" if families is None else "its family has no other"
        raise UserError(f"{key}: no sibling of {listed(alone, separator=', ')}: {told}")
    return found


def turns(items: Sequence[T], kind: str, *identity: object) -> list[T]:
    """The items (texts) in an order drawn by a seed of their identity."""
    return sorted(items, key=lambda item: seed_from(kind, *identity, item))


def place(variant: int, own: int, others: int) -> int:
    """Which of ``own`` items a variant takes in turn, while it takes one of ``others`` by ``variant % others``.

    After each common multiple the turn is moved on by one, so that all pairs come up: of two lists of one length, taken
    in step, each item would only ever meet the same partner.
    """
    return (variant + variant // lcm(own, others)) % own


def _check(patterns: Mapping[str, object], classes: Sequence[str], key: str) -> None:
    for pattern in patterns:
        if not fnmatch.filter(classes, pattern):
            raise UserError(f"{key}: {pattern!r} matches no class; there are {listed(classes, separator=', ')}")


def _first(patterns: Mapping[str, T], name: str) -> T | None:
    return next((value for pattern, value in patterns.items() if fnmatch.fnmatchcase(name, pattern)), None)
