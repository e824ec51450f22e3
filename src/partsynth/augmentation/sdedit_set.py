"""What a set of SDEdit's takes, and what the rows of its manifest tell."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from partsynth.config.base import Fraction, Positive, unless
from partsynth.config.sets import StrengthSet
from partsynth.records.rows import AugmentedRecord

ConceptName = Literal["token", "words", "siblings"]


class SdeditSet(StrengthSet):
    """One augmentation set: edits of training images by SDEdit under their class's token.

    ``strength`` is of the noise schedule: 0 = the VAE's round trip alone, 1 = from pure noise.
    """

    method: Literal["sdedit"] = "sdedit"
    """How the set's images are made; it decides which other keys there are."""
    guidance: Annotated[float, Field(ge=0, le=50)] = 4.0
    """Classifier-free guidance scale; 0 and 1 = none, as in diffusers: the prompt alone."""
    states: list[str] = ["used", "rusty", "dirty", "broken", "brand new"]
    """State words, drawn by seed."""
    token_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Sigma of the noise added to the token's vectors, relative to their size (DIAGen)."""
    masked: bool = False
    """As ``edit: part``."""
    edit: Annotated[Literal["all", "context", "part"], unless("all")] = "all"
    """Where images are edited, by the source's mask: everywhere; outside the part, which is kept; or the part alone."""
    feather: Annotated[float, Field(ge=0), unless(0.0)] = 0.0
    """Width of the soft edge of edit context and part, in pixels of the source (sigma); it lies on the edited side, so
    that what is kept is kept to the pixel. 0 = a hard edge."""
    restore: Fraction = 0.0
    """Share put back into the edit of the source's detail that the VAE loses (source minus its round trip); for low
    strengths, where detail still fits, unless restore_sigma is given too."""
    restore_sigma: Annotated[float | None, Field(ge=0), unless(None)] = None
    """Cut-off of restore, in pixels of the source: the share's fine detail, below it, comes from the source alone and
    only what is coarser from the edit, at the source's own size whatever the model's. null = at the model's size, with
    all that the edit drew."""
    concept: Annotated[ConceptName, unless("token")] = "token"
    """What stands for the class in prompts: its token; words = a phrase in the token's place; siblings = its token, the
    vectors mixed with those of a sibling's."""
    words: Annotated[dict[str, list[str]], unless({})] = {}
    """Concept words: phrases of the classes whose name matches a pattern, as in {gear_*: [gear with 3 holes]}; variants
    of a source take them in turn, in an order drawn by seed."""
    siblings: Annotated[dict[str, str] | None, unless(None)] = None
    """Concept siblings: family of the classes whose name matches a pattern, as in {gear_*: gear}; classes of one family
    are siblings, taken in turn in an order drawn by seed. null = all other classes are."""
    mix: Annotated[float, Field(gt=0, le=1), unless(0.5)] = 0.5
    """Concept siblings: the sibling's share of the token's vectors."""
    match_sigma: Annotated[Positive | None, unless(None)] = None
    """Concepts words and siblings: what is coarser than this many pixels of the source (sigma), which is ground, light
    and colour, comes from an edit of the same source, seed, strength and state under its own token, as a set with
    concept token has it; restore_sigma applies to that one, restore to both. null = all from the concept's edit."""

    match_state: Annotated[Literal["same", "source"], unless("same")] = "same"
    """With match_sigma, the state word of the concept's edit: same = the other edit's; source = the photograph's own:
    wear then comes from the other edit alone, no finer than positives with a restore_sigma have it."""

    @field_validator("words")
    @classmethod
    def _phrases(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for pattern, phrases in value.items():
            if not phrases:
                raise ValueError(f"{pattern!r} has no phrase")
            if bad := [phrase for phrase in phrases if not phrase.strip() or set(phrase) & set("<>{}")]:
                raise ValueError(f"{pattern!r}: {bad[0]!r} is no phrase: words, without '<', '>', '{{' and '}}'")
        return value

    @model_validator(mode="after")
    def _concept(self) -> SdeditSet:
        if self.concept == "words" and not self.words:
            raise ValueError("concept words needs words: phrases for every class")
        if self.words and self.concept != "words":
            raise ValueError(f"words are for concept words, while concept is {self.concept}")
        if self.concept != "siblings" and (self.siblings is not None or self.mix != 0.5):
            raise ValueError(f"siblings and mix are for concept siblings, while concept is {self.concept}")
        if self.match_sigma is not None and self.concept == "token":
            raise ValueError(
                "match_sigma is for the concepts words and siblings: what is edited under its own token matches"
            )
        if self.match_state != "same" and self.match_sigma is None:
            raise ValueError("match_state is for edits with a match_sigma: give one, such as 6")
        if self.token_noise and self.concept == "words":
            raise ValueError("token_noise displaces learned vectors, and concept words uses none: leave it at 0")
        return self

    @model_validator(mode="after")
    def _used(self) -> SdeditSet:
        if self.restore_sigma is not None and not self.restore:
            raise ValueError("restore_sigma is the cut-off of restore, which is 0: give restore a share, such as 1")
        if self.masked and self.edit == "context":
            raise ValueError("masked is edit: part, while edit is context")
        if self.feather and not self.masked and self.edit == "all":
            raise ValueError("feather is the edge of edit: context and edit: part, while edit is all")
        return self


class SdeditRecord(AugmentedRecord):
    """One image made by SDEdit: everything needed to make it again."""

    method: Literal["sdedit"] = "sdedit"
    prompt: str
    strength: float  # of the noise schedule, in [0, 1]
    guidance: float
    steps: int
    token_noise: float
    masked: bool
    restore: float = 0.0  # share of the source's detail, lost in the VAE, that was put back
    restore_sigma: float | None = None  # its cut-off in pixels of the source; None = put back at the model's size
    edit: Literal["all", "context", "part"] = "all"
    feather: float = 0.0  # sigma of the mask's edge, in pixels of the source
    concept: ConceptName = "token"
    sibling: str = ""  # the class whose vectors are mixed in
    sibling_sha256: str = ""  # of its token's file
    mix: float = 0.0  # the share of its vectors
    match_sigma: float | None = None  # what is coarser, in pixels of the source, is that of an edit under ...
    match_prompt: str = ""  # ... this prompt, from the same noise
    token_sha256: str  # of the class's own; empty where no prompt holds it
    base_sha256: str
    batch_size: int = 32  # of the fixed-shape batch it was made in: another shape rounds differently
    dtype: str = "float32"  # the U-Net's
    compiled: bool = False  # the U-Net: it rounds differently

    @classmethod
    def columns(cls) -> list[str]:
        """As they were before there was a choice of methods: without ``method``, and in the order of that time."""
        first = ["path", "sha256", "class_name", "set_name", "source", "source_sha256", "source_group", "variant"]
        middle = ["prompt", "state", "seed", "strength", "guidance", "steps", "token_noise", "masked", "restore"]
        return [*first, *middle, "size", "token_sha256", "base_sha256", "batch_size", "dtype", "fingerprint"]

    @property
    def region(self) -> Literal["all", "context", "part"]:
        """What is edited; ``masked`` is the older word for the part."""
        return "part" if self.masked else self.edit

    @property
    def caption(self) -> str:
        return self.prompt
