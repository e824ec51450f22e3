"""Where a computation runs."""

from __future__ import annotations

from typing import Literal

Device = Literal["cpu", "cuda"]


def pick(name: str = "auto") -> Device:
    """The device of a parameter ``auto``, ``cpu`` or ``cuda``; auto is CUDA where torch sees it.

    Raises
    ------
    ValueError
        where CUDA is asked for and absent, or the name is none of the three: a sentence for the user.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return "cpu"
    if name != "cuda":
        raise ValueError(f"device is {name!r}; allowed: auto, cpu, cuda")
    if not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch sees no CUDA device: set it to auto or cpu")
    return "cuda"


def use_threads(count: int | None) -> None:
    """From now on torch computes with as many CPU threads in this process; None = as it does."""
    import torch

    if count is not None:
        torch.set_num_threads(count)
