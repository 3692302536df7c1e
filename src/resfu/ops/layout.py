"""The memory format of maps, and padding that keeps the format and has a deterministic gradient on every device."""

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

    The gradients of PyTorch's own replicate and reflect padding are not deterministic on CUDA, and on the CPU Inductor
    expects them in another memory format than they have (seen with 2.14). So with gradients, padding is done here by
    concatenation. In torch.compile no permuted views are concatenated, because Inductor cannot order the symbolic
    strides of a view. Contiguous maps on the CPU, outside torch.compile, use PyTorch's padding, which is more than
    twice as fast.

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
        return larger.contiguous(memory_format=memory_format(x))  # F.pad returns a contiguous map on CUDA
    if memory_format(x) == torch.channels_last and not in_torch_compile():
        x = _padded(_padded(x.permute(0, 2, 3, 1), rows, 1, padding), columns, 2, padding)
        return x.permute(0, 3, 1, 2)
    return _padded(_padded(x, rows, 2, padding), columns, 3, padding).contiguous(memory_format=memory_format(x))


def _adds_up_in_order(x: Tensor) -> bool:
    """Whether PyTorch's padding may be used with gradients: on the CPU, contiguous, and no operators recorded.

    Its gradients are then deterministic and keep the map's memory format.
    """
    plain = x.device.type == "cpu" and not operators_are_recorded(x)
    return plain and x.numel() > 0 and x.is_contiguous()


def extended(x: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat a map's last row and column: [B, C, H, W] -> [B, C, H + rows, W + columns].

    This is done by concatenation, for the reasons given in `pad`.
    """
    layout = memory_format(x)
    x = torch.cat([x, x[..., -1:, :].expand(-1, -1, rows, -1)], 2)
    return torch.cat([x, x[..., -1:].expand(-1, -1, -1, columns)], 3).contiguous(memory_format=layout)


def memory_format(x: Tensor) -> torch.memory_format:
    """The memory format of a map: channels-last only if it is not contiguous too, and never inside torch.vmap."""
    if is_batched(x):
        return torch.contiguous_format
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def channels_last(x: Tensor) -> Tensor:
    """The map in channels-last format; unchanged inside torch.vmap, which does not support this format."""
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
