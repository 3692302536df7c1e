"""Image encoders on the CPU without gradients, in bands of rows that stay in the cache.

A layer reads its map once and writes the next one over it: GroupNorm, whose statistics the layer before has summed up,
SiLU and convolution of a band happen in memory that is taken once.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.backends import operators_are_recorded
from resfu.ops.grid import in_bands
from resfu.ops.reassembly.workspace import Workspace
from resfu.ops.transforms import is_batched
from resfu.upsamplers.image_encoder import Convolution

_FAR = 64.0  # square of a mean over the variance, from which the variance is computed again
_BAND = 4096  # pixels: 2 MB of 128 channels in fp32


def on_cpu_without_graph(*tensors: Tensor) -> bool:
    """Whether work can go in bands: on the CPU in fp32 or fp64, no graph recorded or captured, outside torch.func."""
    return (
        all(in_bands(x) and x.dtype in (torch.float32, torch.float64) and not is_batched(x) for x in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not operators_are_recorded(*tensors)
    )


class Sums:
    """What GroupNorm needs to know of a map, summed up band by band."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, x: Tensor, space: Workspace) -> None:
        """Take in some pixels, [..., D]."""
        x = x.reshape(-1, x.shape[-1])
        self._count += len(x)
        self._sum = self._sum + x.sum(0).double()
        self._squares = self._squares + torch.square(x, out=space.take("squares", tuple(x.shape))).sum(0).double()

    def affine(self, norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
        """GroupNorm of the map x [H, W, D], whose pixels were added, as a scale and a shift of each channel."""
        assert isinstance(self._sum, Tensor)
        assert isinstance(self._squares, Tensor)
        size = self._count * x.shape[-1] // norm.num_groups
        total, squares = (
            t.unflatten(0, (norm.num_groups, -1)).sum(1, keepdim=True) for t in (self._sum, self._squares)
        )
        mean = total / size
        variance = squares / size - mean.square()
        if (mean.square() > _FAR * variance).any():  # their difference has lost digits
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
    """A first convolution of an image [c, H, W]: bands [rows, W, D]."""
    k = convolution.kernel_size[0]
    padded = F.pad(image[None], (k // 2,) * 4, mode="reflect") if k > 1 else image[None]
    padded = padded.contiguous(memory_format=torch.channels_last)
    for first, last in bands(*image.shape[-2:]):
        rows = padded[:, :, first : last + k - 1]
        yield first, last, F.conv2d(rows, convolution.weight, convolution.bias)[0].permute(1, 2, 0)


def convolved(
    x: Tensor, affine: tuple[Tensor, Tensor] | None, convolution: nn.Conv2d, space: Workspace, mirrored: bool = True
) -> Iterator[tuple[int, int, Tensor]]:
    """The next layer of a map [H, W, D]: bands [rows, W, D'], each valid until the next, of the convolution.

    The band's rows of x may be written over as soon as it is there.

    Args:
        x: [H, W, D].
        affine: normalise x by this scale and shift and apply SiLU first.
        convolution: 1 x 1 or 3 x 3.
        space: memory.
        mirrored: beyond the border x is mirrored; otherwise 0.
    """
    H, W, D = x.shape
    reach = convolution.kernel_size[0] // 2
    weight = convolution.weight.contiguous(memory_format=torch.channels_last)
    read = 0  # rows of x that have been
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
    """The row and column beyond the map, of rows [rows + 2, W + 2, D] of which `filled` are there."""
    for beyond, inside in ((0, 2), (W + 1, W - 1)):
        y[:, beyond] = y[:, inside] if mirrored else 0
    if top:
        y[0] = y[2] if mirrored else 0
    if bottom:
        y[filled] = y[filled - 2] if mirrored else 0


def run(
    layers: list[tuple[nn.GroupNorm, Convolution]],
    x: Tensor,
    sums: Sums,
    space: Workspace,
    sink: Callable[[int, int, Tensor], None] | None = None,
) -> Sums:
    """Layers of GroupNorm, SiLU and convolution on a map [H, W, D], one after the other over it.

    Args:
        layers: whose width does not change.
        x: the map, which is written over.
        sums: of x.
        space: memory.
        sink: gets the bands of the last layer, (first row, one past the last, [rows, W, D]), in place of x.

    Returns:
        The sums of the result.
    """
    for n, (norm, convolution) in enumerate(layers):
        affine, sums = sums.affine(norm, x), Sums()
        for first, last, band in convolved(x, affine, convolution, space):
            if sink is not None and n == len(layers) - 1:
                sink(first, last, band)
            else:
                x[first:last] = band
                sums.add(x[first:last], space)
    return sums
