"""Image encoders on the CPU without gradients, computed in bands of rows that stay in the cache.

A layer (GroupNorm, SiLU, convolution) reads its map once, band by band, and writes its result over it. The layer before
has already summed up GroupNorm's statistics. The bands use memory that is allocated once. In fp32, if Numba is
installed, compiled kernels do the same.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.backends import operators_are_recorded, which_backend
from resfu.ops.grid import in_bands
from resfu.ops.reassembly.workspace import Workspace
from resfu.ops.transforms import is_batched
from resfu.upsamplers.image_encoder import Convolution

_FAR = 64.0  # if mean^2 / variance is larger, the variance is computed again, by a more accurate formula
_BAND = 4096  # pixels of a band: 2 MB at 128 channels in fp32


def on_cpu_without_graph(*tensors: Tensor) -> bool:
    """Whether work may go in bands: on the CPU in fp32 or fp64, no graph recorded or captured, not in torch.func."""
    return (
        all(in_bands(x) and x.dtype in (torch.float32, torch.float64) and not is_batched(x) for x in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not operators_are_recorded(*tensors)
    )


class Sums:
    """The statistics of a map that GroupNorm needs, summed up band by band.

    Args:
        count: number of pixels that have been summed up elsewhere.
        total: the sum of these pixels, [D] in fp64.
        squares: the sum of their squares, [D] in fp64.
    """

    def __init__(self, count: int = 0, total: Tensor | float = 0.0, squares: Tensor | float = 0.0) -> None:
        self._count = count
        self._sum = total
        self._squares = squares

    def add(self, x: Tensor, space: Workspace) -> None:
        """Add some pixels, [..., D], to the sums."""
        x = x.reshape(-1, x.shape[-1])
        self._count += len(x)
        self._sum = self._sum + x.sum(0).double()
        self._squares = self._squares + torch.square(x, out=space.take("squares", tuple(x.shape))).sum(0).double()

    def affine(self, norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
        """GroupNorm of the map x [H, W, D], which the sums are of, as a scale and a shift for each channel."""
        assert isinstance(self._sum, Tensor)
        assert isinstance(self._squares, Tensor)
        size = self._count * x.shape[-1] // norm.num_groups
        total, squares = (
            t.unflatten(0, (norm.num_groups, -1)).sum(1, keepdim=True) for t in (self._sum, self._squares)
        )
        mean = total / size
        variance = squares / size - mean.square()
        if (mean.square() > _FAR * variance).any():  # the subtraction has lost digits
            groups = x.flatten(0, 1).unflatten(1, (norm.num_groups, -1))
            variance = (groups - mean.to(x.dtype)).square().mean((0, 2)).double()[:, None]
        scale = norm.weight.double().unflatten(0, (norm.num_groups, -1)) * (variance + norm.eps).rsqrt()
        shift = norm.bias.double() - (mean * scale).flatten()
        return scale.flatten().to(x.dtype), shift.to(x.dtype)


def bands(H: int, W: int) -> Iterator[tuple[int, int]]:
    """(first row, one past the last) of bands of about 4096 pixels."""
    rows = max(1, _BAND // W)
    return ((first, min(first + rows, H)) for first in range(0, H, rows))


def embedded(convolution: Convolution, image: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Yield the first convolution of an image [c, H, W] in bands: (first row, one past the last, [rows, W, D])."""
    k = convolution.kernel_size[0]
    padded = F.pad(image[None], (k // 2,) * 4, mode="reflect") if k > 1 else image[None]
    padded = padded.contiguous(memory_format=torch.channels_last)
    for first, last in bands(*image.shape[-2:]):
        rows = padded[:, :, first : last + k - 1]
        yield first, last, F.conv2d(rows, convolution.weight, convolution.bias)[0].permute(1, 2, 0)


def convolved(
    x: Tensor, affine: tuple[Tensor, Tensor] | None, convolution: nn.Conv2d, space: Workspace, mirrored: bool = True
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield the next layer of a map x [H, W, D] in bands: (first row, one past the last, [rows, W, D']).

    A band is valid until the next one is asked for. The same rows of x may be overwritten as soon as their band has
    been yielded.

    Args:
        x: [H, W, D].
        affine: first normalise x by this scale and shift, then apply SiLU.
        convolution: 1 x 1 or 3 x 3.
        space: memory for intermediates.
        mirrored: whether x is mirrored at the border; otherwise it is padded with 0.
    """
    H, W, D = x.shape
    reach = convolution.kernel_size[0] // 2
    weight = convolution.weight.contiguous(memory_format=torch.channels_last)
    read = 0  # number of rows of x that have been read
    for first, last in bands(H, W):
        rows, to = last - first, min(last + reach, H)
        y = space.take("activated", (rows + 2 * reach, W + 2 * reach, D))
        have = reach if first == 0 else 2 * reach
        if first:
            y[:have] = space.take("kept", (2 * reach, W + 2 * reach, D))
        filled = have + to - read
        _activate(x[read:to], affine, y[have:filled, reach : reach + W])
        read = to
        if reach:
            _fill_border(y, W, first == 0, last == H, mirrored, filled)
            space.take("kept", (2, W + 2, D)).copy_(y[rows:])
            yield first, last, F.conv2d(y.permute(2, 0, 1)[None], weight, convolution.bias)[0].permute(1, 2, 0)
            continue
        matrix, out = weight.flatten(1).mT, space.take("convolved", (rows * W, convolution.out_channels))
        if convolution.bias is None:
            torch.mm(y.flatten(0, 1), matrix, out=out)
        else:
            torch.addmm(convolution.bias, y.flatten(0, 1), matrix, out=out)
        yield first, last, out.view(rows, W, -1)


def _activate(x: Tensor, affine: tuple[Tensor, Tensor] | None, out: Tensor) -> None:
    if affine is None:
        out.copy_(x)
        return
    scale, shift = affine
    torch.addcmul(shift, x, scale, out=out)
    F.silu(out, inplace=True)


def _fill_border(y: Tensor, W: int, top: bool, bottom: bool, mirrored: bool, filled: int) -> None:
    """Fill the padding around rows y [rows + 2, W + 2, D], whose first `filled` rows hold values."""
    for beyond, inside in ((0, 2), (W + 1, W - 1)):
        y[:, beyond] = y[:, inside] if mirrored else 0
    if top:
        y[0] = y[2] if mirrored else 0
    if bottom:
        y[filled] = y[filled - 2] if mirrored else 0


def layer(
    x: Tensor,
    affine: tuple[Tensor, Tensor] | None,
    convolution: nn.Conv2d,
    out: Tensor,
    space: Workspace,
    add: bool = False,
    mirrored: bool = True,
) -> Sums:
    """Compute the next layer of a map [H, W, D] and write it into `out` [H, W, D'].

    Args:
        x: the map, contiguous.
        affine: first normalise x by this scale and shift, then apply SiLU.
        convolution: 1 x 1 or 3 x 3.
        out: may be x itself if `works_in_place` allows it.
        space: memory for intermediates.
        add: add the result to the values in `out`; only for 1 x 1 convolutions.
        mirrored: whether x is mirrored at the border; otherwise it is padded with 0.

    Returns:
        The sums of the result, for the next GroupNorm.
    """
    if _is_compiled(x, convolution):
        from resfu.ops.layers.numba import layer as compiled

        return Sums(x.shape[0] * x.shape[1], *compiled(x, affine, convolution, out, add, mirrored))
    sums = Sums()
    for first, last, band in convolved(x, affine, convolution, space, mirrored):
        out[first:last] = out[first:last] + band if add else band
        sums.add(out[first:last], space)
    return sums


def embed(convolution: Convolution, image: Tensor, out: Tensor, space: Workspace) -> Sums:
    """Compute the first convolution of an image [c, H, W] and write it into `out` [H, W, D]."""
    if _is_compiled(image, convolution):
        return layer(image.permute(1, 2, 0).contiguous(), None, convolution, out, space)
    sums = Sums()
    for first, last, band in embedded(convolution, image):
        out[first:last] = band
        sums.add(out[first:last], space)
    return sums


def works_in_place(x: Tensor, convolution: nn.Conv2d) -> bool:
    """Whether `layer` may write its result over x."""
    return convolution.kernel_size[0] == 1 or not _is_compiled(x, convolution)


def _is_compiled(x: Tensor, convolution: nn.Conv2d) -> bool:
    return convolution.kernel_size[0] in (1, 3) and which_backend(x) == "numba"


def run(
    layers: list[tuple[nn.GroupNorm, Convolution]], x: Tensor, sums: Sums, space: Workspace, second: Tensor | None
) -> Tensor:
    """Apply layers of GroupNorm, SiLU and convolution to a map [H, W, D], one after the other.

    Args:
        layers: (norm, convolution) pairs that keep the number of channels.
        x: the map, which is overwritten.
        sums: the sums of x.
        space: memory for intermediates.
        second: memory for a second map like x; None allocates it when it is needed.

    Returns:
        The result: x or `second`.
    """
    for norm, convolution in layers:
        affine, out = sums.affine(norm, x), x
        if not works_in_place(x, convolution):
            out = torch.empty_like(x) if second is None else second
        sums = layer(x, affine, convolution, out, space)
        if out is not x:
            x, second = out, x
    return x
