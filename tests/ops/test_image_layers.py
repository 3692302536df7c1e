"""The compiled layers of image encoders and the compiled attention, against their definitions in fp64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resfu.ops.attention import cpu
from resfu.ops.attention.axis import share, shifted
from resfu.ops.layers import winograd

pytest.importorskip("numba")


def test_winograd_is_a_convolution_of_three_taps():
    into, filters, out_of = (
        torch.tensor(m, dtype=torch.float64) for m in (winograd.INPUT, winograd._FILTER, winograd.OUTPUT)
    )
    data, taps = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    want = torch.stack([(data[i : i + 3] * taps).sum() for i in range(4)])
    torch.testing.assert_close(out_of @ ((filters @ taps) * (into @ data)), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "widths", "kernel_size", "active", "mirrored", "bias"),
    [
        ((13, 21), (24, 24), 3, True, True, True),
        ((2, 3), (8, 8), 3, True, True, False),
        ((9, 131), (3, 40), 3, False, False, False),
        ((6, 66), (16, 33), 3, True, False, True),
        ((7, 19), (24, 40), 1, True, True, True),
        ((1, 64), (3, 7), 1, False, True, False),
    ],
)
def test_a_layer(size, widths, kernel_size, active, mirrored, bias):
    from resfu.ops.layers.numba import layer

    torch.manual_seed(0)
    convolution = nn.Conv2d(*widths, kernel_size, bias=bias)
    x, affine = torch.randn(*size, widths[0]), (torch.randn(widths[0]), torch.randn(widths[0]))
    before = torch.randn(*size, widths[1])
    with torch.no_grad():
        y = F.silu(x.double() * affine[0] + affine[1]) if active else x.double()
        y = F.pad(y.permute(2, 0, 1)[None], (kernel_size // 2,) * 4, mode="reflect" if mirrored else "constant")
        weight = convolution.weight.double()
        want = F.conv2d(y, weight, convolution.bias.double() if bias else None)[0].permute(1, 2, 0)
        for add in (False, True) if kernel_size == 1 else (False,):
            out = before.clone() if add else torch.full_like(before, float("nan"))
            sums = layer(x, affine if active else None, convolution, out, add, mirrored)
            wanted = want + before if add else want
            limit = 5e-6 * wanted.abs().max()
            assert (out - wanted).abs().max() <= limit
            assert (sums[0] - wanted.sum((0, 1))).abs().max() <= limit * wanted[..., 0].numel()
            torch.testing.assert_close(sums[1], wanted.square().sum((0, 1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "width", "dim", "heads", "mean"),
    [
        ((5, 6), (20, 30), 24, 32, 4, False),
        ((12, 14), (50, 64), 30, 24, 2, False),
        ((12, 14), (48, 224), 37, 16, 4, True),
        ((20, 21), (61, 99), 20, 8, 1, True),
        ((3, 3), (3, 300), 6, 8, 2, True),
    ],
)
def test_attention_to_windows(low, high, width, dim, heads, mean):
    torch.manual_seed(0)
    axes = [share(P, p, 0.1) if mean else shifted(P, p, 5) for P, p in zip(high, low, strict=True)]
    query, key, values = torch.randn(*high, dim), torch.randn(dim, *low), torch.randn(width, *low)
    out, want = torch.full((width, *high), float("nan")), torch.empty(width, *high, dtype=torch.float64)
    cpu.attend(lambda a, b: query[a:b], key, values, out, heads, *axes, mean)
    cpu.attend(lambda a, b: query[a:b].double(), key.double(), values.double(), want, heads, *axes, mean)
    assert (out - want).abs().max() <= 2e-6 * want.abs().max()
    other = torch.empty(high[0], high[1], width).permute(2, 0, 1)  # in another order: PyTorch's operators
    cpu.attend(lambda a, b: query[a:b], key, values, other, heads, *axes, mean)
    assert (other - want).abs().max() <= 2e-6 * want.abs().max()
