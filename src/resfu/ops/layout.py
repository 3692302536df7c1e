"""The memory format of maps, and padding that keeps it and has a deterministic backward on every device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.backends import operators_are_recorded
from resfu.ops.compiling import in_torch_compile
from resfu.ops.padded import padded
from resfu.ops.transforms import is_batched

PADDINGS = ("zero", "replicate", "reflect")


def pad(x: Tensor, rows: int, columns: int, padding: str = "replicate") -> Tensor:
    """Pad a map beyond its border.

    PyTorch's own replicate and reflect padding add up gradients in no fixed order on CUDA, and inductor expects their
    gradients in another memory format than they have on the CPU (seen with 2.14). Where there will be gradients, they
    are concatenations here; compiled, not of permuted views, since inductor can't order the symbolic strides of a view.
    Run at once on the CPU, a map in contiguous order is padded by PyTorch, more than twice as quick.

    Args:
        x: [B, C, H, W].
        rows: added above and below.
        columns: added left and right.
        padding: "zero", "replicate" (the border pixel) or "reflect" (mirrored at the border pixel).

    Returns:
        [B, C, H + 2 rows, W + 2 columns].
    """
    if padding != "zero" and x.requires_grad and _adds_up_in_order(x):
        return padded(x, rows, columns, padding)
    if padding == "zero" or not x.requires_grad:
        larger = F.pad(x, (columns, columns, rows, rows), mode="constant" if padding == "zero" else padding)
        return larger.contiguous(memory_format=memory_format(x))  # on CUDA it comes back contiguous
    if memory_format(x) == torch.channels_last and not in_torch_compile():
        x = _padded(_padded(x.permute(0, 2, 3, 1), rows, 1, padding), columns, 2, padding)
        return x.permute(0, 3, 1, 2)
    return _padded(_padded(x, rows, 2, padding), columns, 3, padding).contiguous(memory_format=memory_format(x))


def _adds_up_in_order(x: Tensor) -> bool:
    """Whether gradients of PyTorch's padding add up in a fixed order, in the map's layout, and nobody records them."""
    plain = x.device.type == "cpu" and not operators_are_recorded(x)
    return plain and x.numel() > 0 and x.is_contiguous()


def extended(x: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat a map's last row and column: [B, C, H, W] -> [B, C, H + rows, W + columns].

    Concatenations, for the reasons given in `pad`.
    """
    layout = memory_format(x)
    x = torch.cat([x, x[..., -1:, :].expand(-1, -1, rows, -1)], 2)
    return torch.cat([x, x[..., -1:].expand(-1, -1, -1, columns)], 3).contiguous(memory_format=layout)


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels-last for maps that are that and not also contiguous. Inside torch.vmap none is."""
    if is_batched(x):
        return torch.contiguous_format
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def channels_last(x: Tensor) -> Tensor:
    """The map in channels-last order; as it is inside torch.vmap, which knows no such order."""
    return x if is_batched(x) else x.contiguous(memory_format=torch.channels_last)


def _padded(x: Tensor, count: int, dim: int, padding: str) -> Tensor:
    if count == 0:
        return x
    last = x.shape[dim] - 1
    if padding == "reflect":
        before, after = x.narrow(dim, 1, count).flip(dim), x.narrow(dim, last - count, count).flip(dim)
    else:
        size = [-1] * x.dim()
        size[dim] = count
        before, after = x.narrow(dim, 0, 1).expand(size), x.narrow(dim, last, 1).expand(size)
    return torch.cat([before, x, after], dim)
