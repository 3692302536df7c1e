"""Rows of the interpolation that a stream begins from, against PyTorch's whole interpolation."""

import pytest
import torch

from resfu.deploy.forms.starts import interpolated_rows
from resfu.upsamplers.starts import STARTS, interpolated

_SIZES = [((1, 1), (5, 4)), ((2, 3), (7, 9)), ((9, 17), (36, 50)), ((33, 20), (70, 41)), ((1000, 4), (4000, 8))]


@pytest.mark.parametrize("start", STARTS[1:])
@pytest.mark.parametrize(("low", "high"), _SIZES)
def test_bands_are_those_of_the_whole_interpolation(start, low, high):
    x = torch.randn(2, 3, *low, generator=torch.Generator().manual_seed(0))
    wanted, H = interpolated(x, high, start), high[0]
    for first, last in ((0, H), (0, 1), (H // 2, H // 2 + 1), (H // 3, H)):
        found = interpolated_rows(x, (first, last), high, start)
        torch.testing.assert_close(found, wanted[:, :, first:last], rtol=0, atol=2e-6)


@pytest.mark.parametrize("start", STARTS[1:])
def test_an_infinite_value_stays_where_it_is(start):
    x = torch.zeros(1, 1, 20, 20)
    x[0, 0, 10, 10] = torch.inf
    assert (~interpolated_rows(x, (0, 80), (80, 80), start).isfinite()).sum() <= 2 * 16**2
