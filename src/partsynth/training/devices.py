"""Device, precision and processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from partsynth.config.training import Train
from partsynth.core import devices
from partsynth.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator


def gather(rows: Tensor, accelerator: Accelerator) -> Tensor:
    """All processes' rows (world * m, D) in the order of their ranks; gradients flow to this process's own (m, D)."""
    if accelerator.num_processes == 1:
        return rows
    everyone = list(accelerator.gather(rows.detach()).split(len(rows)))
    everyone[accelerator.process_index] = rows
    return torch.cat(everyone)


def make_accelerator(params: Train) -> Accelerator:
    """Device, precision and processes, as ``accelerate launch`` or the parameters say.

    Raises
    ------
    UserError
        where there is no CUDA device and the parameters want one.
    """
    try:
        cpu = devices.pick(params.device) == "cpu"
    except ValueError as error:
        raise UserError(f"train.{error}") from None
    if cpu and params.precision == "fp16":
        raise UserError("train.precision fp16 needs a CUDA device: set it to no or bf16")
    from accelerate import Accelerator

    threads, processes = params.threads, int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, (os.cpu_count() or 1) // processes)
    devices.use_threads(threads)
    return Accelerator(cpu=cpu, mixed_precision=params.precision)
