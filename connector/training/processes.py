"""One run in several processes, a device each, as `torchrun` starts them.

Each process reads its own blocks of text and takes its share of each batch; gradients are averaged
before every step, so all hold the same weights. They are averaged by hand once a batch is through,
rather than by `DistributedDataParallel` while it is: a process that is out of memory can then halve
its share and begin it again, and the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from latent_ingest.connector.errors import InputError

# The first process may embed or ask the probe alone for long.
TIMEOUT = timedelta(hours=12)


class Processes:
    """Those of one run; alone by default, where nothing is exchanged."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank = rank
        self.size = size
        self._device = device

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """The processes that `torchrun` started, or this one alone.

        Args:
            device: kind of device; each process gets its own where there are several.

        Raises:
            InputError: there are more processes on this machine than CUDA devices.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if device.type == "cuda":
            local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            if local >= there:
                raise InputError(f"process {local + 1} on this machine has no device: {there} here")
            torch.cuda.set_device(local)
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=TIMEOUT)
        return cls(distributed.get_rank(), size, device)

    @property
    def first(self) -> bool:
        """Whether this is the one that reports and writes."""
        return self.rank == 0

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)
                tensor /= self.size

    def smallest(self, tensor: torch.Tensor) -> None:
        """Replace the tensor by its smallest values over the processes."""
        if self.size > 1:
            distributed.all_reduce(tensor, distributed.ReduceOp.MIN)

    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor by that of the first process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def any(self, *here: bool) -> list[bool]:
        """For each flag, whether it is set in one of the processes."""
        if self.size == 1:
            return list(here)
        flags = torch.tensor(here, dtype=torch.int32, device=self._device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return [bool(flag) for flag in flags.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, by rank, in the first; an empty list in the others."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size if self.first else []
        distributed.gather_object(value, values if self.first else None)
        return values

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """End the exchange."""
        if self.size > 1:
            distributed.destroy_process_group()
