"""What a way of learning a class is: one file in ``concepts`` with a subclass's object as ``MEMBER``.

Stage tokens asks it for one file per class; edits give the file's tensors to the base model and write the class in
their prompts as the file says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.augmentation.base_model import Base
from partsynth.config.generation import Tokens
from partsynth.config.models import Diffusion
from partsynth.records.rows import RealRecord
from partsynth.store.hashing import fingerprint

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """The classes to be learned, and from what."""

    params: Tokens
    diffusion: Diffusion
    base: Base
    classes: Mapping[str, Sequence[RealRecord]]
    """Each class's training images."""
    words: Mapping[str, str]
    """Each class's first word."""
    marks: Mapping[str, str]
    """Each class's fingerprint."""
    work: Path
    """The folder of this process's checkpoints: nothing else lies in it."""
    root: Path


@dataclass(frozen=True)
class Learned:
    """A class that was learned: its file's tensors, and what its header says beside what all say."""

    class_name: str
    tensors: Mapping[str, Tensor]
    told: Mapping[str, str]


class Concept(ABC):
    """A way of learning a class from its training images."""

    name: str
    """As ``tokens.method`` has it."""
    version = 1
    """Raised when the same inputs give other tensors."""

    @abstractmethod
    def written(self, class_name: str, word: str, params: Tokens) -> str:
        """How prompts write the class; ``word`` is its first word."""

    @abstractmethod
    def settings(self, word: str, params: Tokens) -> Any:
        """The parameters that decide on a class's tensors: other classes' words are none of them."""

    @abstractmethod
    def learn(self, lesson: Lesson) -> Iterator[Learned]:
        """The lesson's classes, each as soon as it is learned; a killed run's checkpoint lies in the lesson's ``work``.

        What was yielded is written before the next is asked for. A class's tensors depend on its own images, word and
        settings alone.

        Raises
        ------
        UserError
            where an image differs from its manifest, the model cannot be loaded, it does not take a word or a prompt,
            or a loss is not finite.
        """

    def mark(
        self, class_name: str, word: str, rows: Sequence[RealRecord], params: Tokens, diffusion: Diffusion, base: str
    ) -> str:
        """The fingerprint of a class's file; ``base`` is the base model's identity."""
        images = sorted([row.sha256, row.state] for row in rows)
        own = self.settings(word, params)
        return fingerprint([self.version, class_name, images, own, base, diffusion.size, diffusion.dtype])
