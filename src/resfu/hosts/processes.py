"""Reduction of numbers over the processes of a distributed run."""

import torch
from torch import Tensor


def mean_over_processes(count: Tensor) -> Tensor:
    """The mean of a count over the processes of a distributed run; without one, the count itself."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return count
    torch.distributed.all_reduce(count)
    return count / torch.distributed.get_world_size()
