"""Where and how much a side of `peers.py` works."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Figures = dict[str, float]
Timed = Callable[[], Figures | None]


@dataclass(frozen=True)
class Setting:
    """What the command line says of a side."""

    inputs: Path
    quick: bool = False
    device: str = "cpu"
    dtype: str = "float32"  # of generation's networks; a training is float32 or bf16 by autocast
    classes: int = 12  # whose tokens are learned

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def number(self) -> torch.dtype:
        import torch

        return getattr(torch, self.dtype)

    def flags(self) -> list[str]:
        """The command line that says the same."""
        told = ["--inputs", str(self.inputs), "--device", self.device, "--dtype", self.dtype]
        return [*told, "--classes", str(self.classes), *(["--quick"] if self.quick else [])]

    def wait(self) -> None:
        """Until the device has done what it was given: it works on while Python goes on."""
        if self.cuda:
            import torch

            torch.cuda.synchronize()

    @contextlib.contextmanager
    def mixed(self) -> Iterator[Any]:
        """Mixed precision as ``train.precision: bf16`` has it; none in float32."""
        import torch

        with torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            yield


def add_flags(parser: Any) -> None:
    """The flags of a setting."""
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="sdedit and step alone")
    parser.add_argument("--classes", type=int, default=12, help="whose tokens are learned, of inversion")
    parser.add_argument("--quick", action="store_true", help="little work, one round: whether it runs")
    parser.add_argument("--inputs", type=Path, help="where they lie or are made; default .work/peers")


def given(options: Any) -> Setting:
    return Setting(options.inputs, options.quick, options.device, options.dtype, options.classes)
