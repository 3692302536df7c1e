"""A key on the low-resolution map, as the compiled kernels of the scores read it: convolved, then enlarged.

Enlarging along the rows comes first, of each low-resolution row once. A row of pixels then lies between two of these,
and costs a multiply-add a number, however many columns of the map its tiles reach over. Arrays are flat and fp32, names
of sizes as in `numba_kernels`; w1 counts the columns of a row of the convolved map, and W1 those that it has room for.
"""

from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get
from resfu.ops.compiled.threads import flat, run
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product
from resfu.ops.compiled.vector import fma, load, splat, store
from resfu.ops.kept import kept

_taps = product(tables="x", halves=True)
_columns = product(start="bias")


@no_type_check
@shared_kernel
def convolved_rows(first_row, last_row, thread, planes, area, stride, images, h1, table, K, G, m, weight, out, W1):
    """Rows of out [images h1, G m, W1]: the 3 x 3 convolution of planes [images, h1 + 2, stride], `images` apart.

    weight [G, K, m] of K inputs, which begin at table [K] from a group's first tap on, and groups at area.
    """
    for r in range(first_row, last_row):
        b, y = r // h1, r % h1
        for g in range(G):
            for p in range(0, W1, PIXELS):
                for i in range(0, m, ROWS):
                    _taps(
                        out, (r * G * m + g * m + i) * W1 + p, W1, weight, g * K * m + i, 1, m, planes,
                        b * images + g * area + y * stride + p, 0, K, weight, 0, table, 0, W1 - p,
                    )  # fmt: skip


@no_type_check
@kernel
def enlarged_row(low, line, w1, W1, columns, J, start_column, T, G, g, m, bias, table, out, o):
    """A group's channels in a row of low [lines, G m, W1], of the image's width, plus a bias [G m]: out [T, m, 32]."""
    for t in range(T):
        start = get(start_column, t)
        for i in range(0, m, ROWS):
            _columns(
                out, o + (t * m + i) * PIXELS, PIXELS, low, (line * G * m + g * m + i) * W1 + start, W1, 1, columns,
                t * J * PIXELS, PIXELS, min(J, w1 - start), bias, g * m + i, table, 0,
            )  # fmt: skip


@no_type_check
@kernel
def enlarged_pair(low, line, held, w1, W1, columns, J, start_column, T, G, g, m, bias, table, out, o):
    """This line and the next, enlarged, one behind the other, line n the (n % 2)th. The line, for the next call.

    There it is `held`, at first -1: what is there already is left.
    """
    for n in range(line, line + 2):
        if held < 0 or (n != held and n != held + 1):
            enlarged_row(
                low, n, w1, W1, columns, J, start_column, T, G, g, m, bias, table, out, o + n % 2 * T * m * PIXELS
            )
    return line


@no_type_check
@kernel
def between_rows(s, upper, lower, weight, m, count, o):
    """m rows of a tile between two of scratch, as `o`; of at most 16 pixels only so many columns."""
    far = splat(weight)
    for i in range(0, m * PIXELS, PIXELS):
        for p in range(i, i + (PIXELS if count > LANES else LANES), LANES):
            value = load(s, upper + p)
            store(s, o + p, fma(far, load(s, lower + p) - value, value))


def enlarged_room(m: int, W: int) -> int:
    """How many numbers of scratch `enlarged_pair` fills, of m channels."""
    return 2 * m * -(-W // PIXELS) * PIXELS


@kept()
def _places(d: int, height: int, stride: int) -> Any:
    taps = [(c * height + y) * stride + x for c in range(d) for y in range(3) for x in range(3)]
    return torch.tensor(taps, dtype=torch.int64, device="cpu").numpy()


def convolved(key: Tensor, weight: Tensor) -> Tensor:
    """The convolution of `operators.convolved_key` as rows, [B, h + 2, M, W1]: numbers beyond w + 2 do not count.

    Args:
        key: [B, D, h, w], fp32.
        weight: [M, D / G, 3, 3].
    """
    (B, D, h, w), (M, d) = key.shape, weight.shape[:2]
    h1, w1, G = h + 2, w + 2, D // d
    W1 = -(-w1 // LANES) * LANES
    planes = F.pad(key.detach(), (2, 2 + W1 - w1, 2, 2), mode="replicate").contiguous()
    height, stride = planes.shape[2:]
    packed = weight.detach().reshape(G, M // G, d * 9).mT.contiguous()
    out = key.new_empty((B, h1, M, W1))
    given: list[Any] = [flat(planes), d * height * stride, stride, D * height * stride, h1]
    given += [_places(d, height, stride), 9 * d, G, M // G, flat(packed), flat(out)]
    run(convolved_rows, B * h1, *given, W1)
    return out


def low_gradients(key: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Those of `convolved` in the key and in the weight, from that of its columns that count, [B, M, h + 2, w + 2]."""
    border, groups = (2, 2, 2, 2), key.shape[1] // weight.shape[1]
    aten, wide = torch.ops.aten, F.pad(key, border, mode="replicate")
    d_wide, d_weight, _ = aten.convolution_backward(
        grad, wide, weight, None, (1, 1), (0, 0), (1, 1), False, (0, 0), groups, (True, True, False)
    )
    return aten.replication_pad2d_backward(d_wide, key, border), d_weight
