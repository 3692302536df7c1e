"""The memory format of maps, and padding that keeps it and has a deterministic backward on every device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.transforms import is_batched

PADDINGS = ("zero", "replicate", "reflect")


def pad(x: Tensor, rows: int | tuple[int, int], columns: int | tuple[int, int], padding: str = "replicate") -> Tensor:
    """Continue a map beyond its border.

    PyTorch's own replicate and reflect padding add up gradients in no fixed order on CUDA, and inductor expects their
    gradients in another memory format than they have on the CPU (seen with 2.14). Where there will be gradients, they
    are concatenations here; when compiled not of permuted views, whose symbolic strides inductor can't order.

    Args:
        x: [B, C, H, W].
        rows: added above and below; one number for both.
        columns: added left and right; one number for both.
        padding: "zero", "replicate" (the border pixel) or "reflect" (mirrored at the border pixel).

    Returns:
        The map with these rows and columns.
    """
    rows = rows if isinstance(rows, tuple) else (rows, rows)
    columns = columns if isinstance(columns, tuple) else (columns, columns)
    if padding == "zero" or not x.requires_grad:
        padded = F.pad(x, (*columns, *rows), mode="constant" if padding == "zero" else padding)
        return padded.contiguous(memory_format=memory_format(x))  # on CUDA it comes back contiguous
    order = memory_format(x)
    if order == torch.channels_last and not torch.compiler.is_compiling():
        x = _continued(_continued(x.permute(0, 2, 3, 1), rows, 1, padding), columns, 2, padding)
        return x.permute(0, 3, 1, 2)
    return _continued(_continued(x, rows, 2, padding), columns, 3, padding).contiguous(memory_format=order)


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels-last for maps that are that and not also contiguous. Inside torch.vmap none is."""
    if is_batched(x):
        return torch.contiguous_format
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _continued(x: Tensor, counts: tuple[int, int], dim: int, padding: str) -> Tensor:
    parts = (_beyond(x, counts[0], dim, padding, False), x, _beyond(x, counts[1], dim, padding, True))
    present = [part for part in parts if part is not None]
    return x if len(present) == 1 else torch.cat(present, dim)


def _beyond(x: Tensor, count: int, dim: int, padding: str, end: bool) -> Tensor | None:
    """What lies before or after an axis."""
    if count == 0:
        return None
    last = x.shape[dim] - 1
    if padding == "reflect":
        return x.narrow(dim, last - count if end else 1, count).flip(dim)
    size = [-1] * x.dim()
    size[dim] = count
    return x.narrow(dim, last if end else 0, 1).expand(size)
