"""YAML read as DVC reads it (1.2): ``no`` is a text, 1e-3 a number, 010 is ten, 12:30 a text.

PyYAML reads by YAML 1.1. What dvc.lock records and what a stage works with are the same only where one rule reads
params.yaml, dvc.yaml and dvc.lock.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

RULES = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    "float": (
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}  # tag -> pattern, first characters; as ruamel.yaml, DVC's reader, has them
TAG = "tag:yaml.org,2002:"
OCTAL = re.compile(r"[-+]?0[0-9_]*[1-9_][0-9_]*")  # 010: ten, or eight to readers of YAML 1.1


def _by_rule(kind: Any, replaced: bool) -> None:
    """Give a loader or dumper of PyYAML this module's rule: instead of, or beside, that of YAML 1.1."""
    tags = [f"{TAG}{name}" for name in RULES] if replaced else []
    kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in tags]
        for first, pairs in kind.yaml_implicit_resolvers.items()
    }
    for name in ("bool", "float", "int"):  # the first that fits counts
        pattern, first = RULES[name]
        kind.add_implicit_resolver(f"{TAG}{name}", re.compile(f"^(?:{pattern})$"), list(first))


def _whole(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    return int(text, 0 if text.lstrip("-+")[1:2] in ("b", "o", "x") else 10)


class Loader(yaml.SafeLoader):
    """Plain values by YAML 1.2."""


class FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same in C, where PyYAML has it: not for texts that may be nested without end."""


class Dumper(yaml.SafeDumper):
    """Quotes every text that either rule would take for something else."""


for _kind in (Loader, FastLoader):
    _by_rule(_kind, replaced=True)
    _kind.add_constructor(f"{TAG}int", _whole)
_by_rule(Dumper, replaced=False)


def load_yaml(text: str | bytes) -> Any:
    """What a YAML text holds.

    Raises
    ------
    yaml.YAMLError, ValueError
        where it is none, or a number or date is none.
    """
    return yaml.load(text, Loader=Loader)


def dump_yaml(content: Any, **options: Any) -> str:
    """A text that both rules read as ``content``; keys keep their order."""
    return str(yaml.dump(content, Dumper=Dumper, sort_keys=False, **options))


def ambiguous(node: yaml.Node) -> str:
    """What a plain value would be to a reader of YAML 1.1, where both take it for a number, but not for the same."""
    if not isinstance(node, yaml.ScalarNode) or node.style is not None or not OCTAL.fullmatch(node.value):
        return ""
    digits = node.value.replace("_", "")
    told = str(int(digits, 8)) if re.fullmatch(r"[-+]?[0-7]+", digits) else "a text"
    return "" if told == str(int(digits)) else told
