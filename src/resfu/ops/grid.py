"""The coordinate conventions of all operations.

Pixel centres are as in `align_corners=False`: on an axis of H high-resolution (HR) and h low-resolution (LR) pixels, HR
pixel p lies at the LR position u(p) = (p + 1/2) h / H - 1/2. The integer part (cell) and the fraction of u(p) come from
integer arithmetic, so they are consistent at every ratio.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def lr_position(
    H: int, h: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "H"]:
    """LR position u(p) of every HR pixel p, on an axis of H HR and h LR pixels."""
    cell, fraction = lr_cell(H, h, device, dtype)
    return cell + fraction


def lr_cell(
    H: int, h: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float64
) -> tuple[Int[Tensor, "H"], Float[Tensor, "H"]]:
    """floor(u(p)), from -1 to h - 1, and u(p) - floor(u(p)), in [0, 1)."""
    numerator = (2 * torch.arange(H, device=device) + 1) * h - H
    cell = torch.div(numerator, 2 * H, rounding_mode="floor")
    return cell, (numerator - cell * 2 * H).to(dtype) / (2 * H)


def containing_cell(H: int, h: int, device: torch.device | str | None = None) -> Int[Tensor, "H"]:
    """The LR pixel that contains HR pixel p: floor(p h / H)."""
    return torch.div(torch.arange(H, device=device) * h, H, rounding_mode="floor")


def central_cell(H: int, h: int, device: torch.device | str | None = None) -> Int[Tensor, "H"]:
    """The LR pixel that contains the centre of HR pixel p: floor((2p + 1) h / (2H)).

    At whole ratios it is that of `containing_cell`.
    """
    return torch.div((2 * torch.arange(H, device=device) + 1) * h, 2 * H, rounding_mode="floor")


def window(K: int) -> list[int]:
    """Offsets of a window of odd size K along one axis: -(K // 2) .. K // 2."""
    return list(range(-(K // 2), K // 2 + 1))


def integer_ratio(H: int, h: int) -> int | None:
    """H / h if it is a whole number, else None."""
    return H // h if H % h == 0 else None


def sample(
    x: Float[Tensor, "*B h w"], rows: Float[Tensor, "H"], columns: Float[Tensor, "W"]
) -> Float[Tensor, "*B H W"]:
    """Sample x bilinearly at all pairs of the positions `rows` and `columns`, clamped to the map."""
    return sample_axis(sample_axis(x, rows, -2), columns, -1)


def sample_axis(x: Tensor, positions: Float[Tensor, "P"], dim: int) -> Tensor:
    """Interpolate x linearly along one axis at the given positions, clamped to its ends."""
    last = x.shape[dim] - 1
    positions = positions.clamp(0, last)
    below = positions.floor()
    shape = [1] * x.dim()
    shape[dim] = -1
    fraction = (positions - below).to(x.dtype).view(shape)
    low = x.index_select(dim, below.long())
    high = x.index_select(dim, (below.long() + 1).clamp(max=last))
    return torch.lerp(low, high, fraction)


def key_position(H: int, h: int, neighbours: str, device: torch.device | None = None) -> Float[Tensor, "H"]:
    """LR position that each HR pixel reads: its own position ("fine"), or the pixel that contains it ("coarse")."""
    return lr_position(H, h, device) if neighbours == "fine" else containing_cell(H, h, device).double()


def interpolation_matrix(
    P: int, p: int, like: Tensor, neighbours: str = "fine", border: int = 0
) -> Float[Tensor, "P q"]:
    """Matrix U that upsamples an axis from p to P pixels: (U x)[i] is x at the position of pixel i.

    x has `border` extra pixels on both sides. On CUDA a product with U has a deterministic gradient; PyTorch's
    interpolation has not.
    """
    identity = torch.eye(p + 2 * border, dtype=like.dtype, device=like.device)
    return sample_axis(identity, key_position(P, p, neighbours, like.device) + border, 0)


def key_at(key: Float[Tensor, "B D H W"], step: tuple[int, int], offset: tuple[int, int]) -> Float[Tensor, "B D H W"]:
    """The key's value for each pixel at an offset in LR pixels, clamped to the map; `step` is the LR map's size (h, w).

    An offset of one LR pixel is H / h rows or W / w columns of the key. If they are not whole, the key is sampled
    bilinearly.
    """
    positions = []
    for P, p, o in zip(key.shape[-2:], step, offset, strict=True):
        positions.append(torch.arange(P, device=key.device, dtype=torch.float64) + o * P / p)
    return sample(key, *positions)


def neighbour_in_image(H: int, h: int, K: int, device: torch.device | None = None) -> Bool[Tensor, "K H"]:
    """For each of the K offsets o (in LR pixels) and each HR pixel p: is HR position p + o H / h inside the image?"""
    offsets = torch.tensor(window(K), device=device)[:, None]
    position = torch.arange(H, device=device) * h + offsets * H
    return (position >= 0) & (position <= (H - 1) * h)


def row_bands(x: Tensor, rows: int) -> list[tuple[int, int]]:
    """Bands of about `rows` rows, as (first, one past the last); a single band unless on the CPU without autograd.

    Bands keep the intermediate maps of a forward pass in the cache. With autograd this is no use, because all
    intermediate maps are stored anyway.
    """
    H = x.shape[-2]
    if not in_bands(x) or H <= rows * 3 // 2:
        return [(0, H)]
    return [(first, min(first + rows, H)) for first in range(0, H, rows)]


def in_bands(x: Tensor) -> bool:
    """Whether to work on x band by band: on the CPU, if no graph is being recorded."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
