"""Training in several processes, one device each, as `torchrun` starts them.

Each process reads its own blocks of text and takes its share of each batch; gradients are averaged
before every step, so all processes hold the same weights. They are averaged explicitly after the
backward pass rather than by `DistributedDataParallel` during it: a process that runs out of memory
can then halve its share and start it again while the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from latent_ingest.connector.errors import InputError

# The first process may fill the cache or evaluate the probe alone, while the others wait.
TIMEOUT = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of one run; a single process by default, and then nothing is exchanged."""

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    """Kind of device that each process has."""

    @classmethod
    def join(cls, device: torch.device) -> ProcessGroup:
        """The processes that `torchrun` started, or this one alone.

        Raises:
            InputError: this machine has more processes than CUDA devices.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if device.type == "cuda":
            local, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            if local >= devices:
                raise InputError(
                    f"process {local + 1} on this machine has no CUDA device, as there are "
                    f"{devices}; lower --nproc-per-node"
                )
            torch.cuda.set_device(local)
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=TIMEOUT)
        return cls(distributed.get_rank(), size, device)

    @property
    def first(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)
                tensor /= self.size

    def smallest(self, tensor: torch.Tensor) -> None:
        """Replace the tensor by its element-wise minimum over the processes."""
        if self.size > 1:
            distributed.all_reduce(tensor, distributed.ReduceOp.MIN)

    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor by the first process's."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def any(self, *here: bool) -> list[bool]:
        """For each flag, whether it is set in any process."""
        if self.size == 1:
            return list(here)
        flags = torch.tensor(here, dtype=torch.int32, device=self.device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return [bool(flag) for flag in flags.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """In the first process, every process's value, by rank; in the others, an empty list."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size if self.first else []
        distributed.gather_object(value, values if self.first else None)
        return values

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """Leave the process group."""
        if self.size > 1:
            distributed.destroy_process_group()


ALONE = ProcessGroup()
