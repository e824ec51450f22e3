"""Where the package is open: one more member of a seam is one file, and one name in the lists at the end.

A registry names its members' modules and imports one when it is first asked for: naming costs nothing at start, and a
room below may name a member of a room above without importing it. A member's module has the object under ``MEMBER``.

Members from outside: a module that calls ``register`` and that is named by an entry point of the group
``partsynth.plugins``, or in the environment variable PARTSYNTH_PLUGINS (modules, separated by commas).
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from partsynth.errors import UserError, did_you_mean


class Registry:
    """Members of one kind by name, in the order of their registration.

    Parameters
    ----------
    what : one of them, in words ("OOD score")
    package : where the members of this package lie
    members : their modules' names, which are the members' names
    """

    def __init__(self, what: str, package: str, members: list[str]) -> None:
        self.what, self.package = what, package
        self._modules = list(members)
        self._members: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        load_plugins()
        return (*self._modules, *(name for name in self._members if name not in self._modules))

    @property
    def modules(self) -> tuple[str, ...]:
        """The full names of the modules of the package's own members."""
        return tuple(f"{self.package}.{name}" for name in self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> Any:
        """The member of this name.

        Raises
        ------
        UserError
            where there is none; it names those there are.
        """
        if name not in self.names:
            known = ", ".join(self.names)
            raise UserError(f"there is no {self.what} {name!r}{did_you_mean(name, self.names)}; there are {known}")
        if name not in self._members:
            self._members[name] = importlib.import_module(f"{self.package}.{name}").MEMBER
        return self._members[name]

    def register(self, name: str, member: Any) -> None:
        """Add a member from outside the package.

        Raises
        ------
        ValueError
            where the name is taken by another member.
        """
        if name in self._modules or self._members.get(name, member) is not member:
            raise ValueError(f"there is a {self.what} {name!r} already")
        self._members[name] = member

    def unregister(self, name: str) -> None:
        """Take a member from outside away again."""
        if name in self._modules:
            raise ValueError(f"{name!r} is a {self.what} of the package")
        self._members.pop(name, None)


class Rows(Registry):
    """Members that are rows of one module, by name under ``MEMBERS``; it is imported when one is first asked for.

    Parameters
    ----------
    what : one of them, in words ("metric")
    module : where the rows stand
    """

    def __init__(self, what: str, module: str) -> None:
        super().__init__(what, module, [])

    @property
    def names(self) -> tuple[str, ...]:
        self._read()
        return super().names

    @property
    def modules(self) -> tuple[str, ...]:
        return (self.package,)

    def register(self, name: str, member: Any) -> None:
        self._read()
        super().register(name, member)

    def unregister(self, name: str) -> None:
        self._read()
        super().unregister(name)

    def _read(self) -> None:
        if not self._modules:
            rows = importlib.import_module(self.package).MEMBERS
            self._members, self._modules = {**rows, **self._members}, list(rows)


@functools.cache
def load_plugins() -> None:
    """Import the modules that register members from outside, once.

    Raises
    ------
    UserError
        where one cannot be imported.
    """
    named = {f"PARTSYNTH_PLUGINS ({name})": name for name in os.environ.get("PARTSYNTH_PLUGINS", "").split(",") if name}
    named |= {f"entry point {point.name}": point.value for point in entry_points(group="partsynth.plugins")}
    for where, module in named.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"{where}: cannot be imported: {error}") from None


SCORES = Registry(
    "OOD score",
    "partsynth.core.evaluation.scores",
    ["knn", "knn_by_class", "max_softmax", "energy", "mahalanobis", "relative_mahalanobis", "vim", "prototype_cosine"],
)
METHODS = Registry("augmentation method", "partsynth.augmentation.methods", ["sdedit", "exchange"])
CONCEPTS = Registry(
    "way of learning a class", "partsynth.augmentation.concepts", ["textual_inversion", "lora", "dreambooth_lora"]
)
SOURCES = Registry("source", "partsynth.sources", ["rendered", "mvip", "folder"])
BACKBONES = Registry(
    "backbone",
    "partsynth.core.backbones",
    ["narrow_resnet", "reference", "efficientnet_lite0", "torchvision", "timm", "transformers"],
)
USES = Registry(
    "use of negatives",
    "partsynth.training.uses",
    ["denominator", "features", "instances", "outlier_exposure", "mixoe", "ascood"],
)
RULES = Registry("selection rule", "partsynth.selection.rules", ["all", "accepted", "band", "nobody", "random"])
METRICS = Rows("metric", "partsynth.evaluation.metrics")
