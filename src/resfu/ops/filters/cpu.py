"""Window sums on the CPU, by repeated doubling of the window, in reused buffers."""

import torch
import torch.nn.functional as F
from torch import Tensor


def box_sum(x: Tensor, radius: int) -> Tensor:
    """`operators.box_sum` on the CPU."""
    if x.numel() == 0:
        return torch.empty_like(x)
    padded = F.pad(x, (radius,) * 4)
    spare = [torch.empty_like(padded), torch.empty_like(padded)]
    columns = _sliding_sum(padded, 2 * radius + 1, -2, spare)
    spare = [padded, next(s for s in spare if s.data_ptr() != columns.data_ptr())]
    out = torch.empty_like(x)
    return out.copy_(_sliding_sum(columns, 2 * radius + 1, -1, spare))


def _sliding_sum(x: Tensor, length: int, dim: int, spare: list[Tensor]) -> Tensor:
    """out[i] = x[i] + ... + x[i + length - 1] along an axis, in one of two spare buffers at least as large as x.

    It follows the binary digits of the length, from the highest: a sum of 2 n entries is the sum of two sums of n, and
    a sum of n + 1 adds one entry. This takes about log2(length) additions for each entry, and no allocation.
    """
    rows, columns = x.shape[-2:]
    run, span = x, 1
    for digit in bin(length)[3:]:
        count = run.shape[dim] - span
        target = spare[0][..., :rows, :columns].narrow(dim, 0, count)
        run = torch.add(run.narrow(dim, 0, count), run.narrow(dim, span, count), out=target)
        spare, span = spare[::-1], span * 2
        if digit == "1":
            run = run.narrow(dim, 0, count - 1).add_(x.narrow(dim, span, count - 1))
            span += 1
    return run
