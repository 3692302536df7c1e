"""Some rows of a reassembly or correlation are those of the whole one, with their gradients."""

import pytest
import torch

from resfu.ops import backends, correlate, reassemble
from resfu.ops.reassembly.rows import correlate_rows, reassemble_rows

SIZES = {
    "real": ((7, 9), (31, 40)),
    "near one": ((7, 9), (9, 11)),
    "between whole ones": ((6, 5), (15, 13)),
    "whole": ((5, 6), (20, 18)),
}
BANDS = ((0, 1), (3, 9), (1, 8))


def assert_equal(got, want, inputs):
    """Values and gradients."""
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    grad = torch.randn_like(want)
    found, expected = (torch.autograd.grad(out, inputs, grad) for out in (got, want))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("neighbours", "padding", "K", "groups"),
    [("fine", "replicate", 3, 1), ("fine", "zero", 5, 2), ("coarse", "zero", 5, 1), ("coarse", "replicate", 3, 2)],
)
def test_rows_of_a_reassembly(size, band, neighbours, padding, K, groups):
    low, (H, W) = SIZES[size]
    torch.manual_seed(0)
    x = torch.randn(2, 4, *low, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, groups * K * K, H, W, dtype=torch.float64, requires_grad=True)
    rows = slice(*band)
    want = reassemble(x, weights, (H, W), neighbours, padding, groups)[:, :, rows]
    got = reassemble_rows(x, weights[:, :, rows], band, H, neighbours, padding, groups)
    assert_equal(got, want, (x, weights))


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("neighbours", "K"), [("fine", 3), ("coarse", 5)])
def test_rows_of_a_correlation(size, band, neighbours, K):
    low, (H, W) = SIZES[size]
    torch.manual_seed(0)
    query = torch.randn(2, 4, H, W, dtype=torch.float64, requires_grad=True)
    key = torch.randn(2, 4, *low, dtype=torch.float64, requires_grad=True)
    rows = slice(*band)
    want = correlate(query, key, K, neighbours, "zero")[:, :, rows]
    got = correlate_rows(query[:, :, rows], key, K, band, H, neighbours, "zero")
    assert_equal(got, want, (query, key))


@pytest.mark.parametrize("from_centre", [False, True])
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("size", SIZES)
def test_rows_of_the_compiled_sum(size, band, from_centre):
    if not backends._NUMBA_INSTALLED:
        pytest.skip("Numba is not installed")
    from resfu.ops.reassembly import numba

    low, (H, W) = SIZES[size]
    torch.manual_seed(0)
    x, scores = torch.randn(2, 5, *low), torch.randn(2, 9, H, W)
    given = {"softmax": True, "mask": True, "from_centre": from_centre}
    want = reassemble(x, scores, (H, W), "fine", "replicate", backend="reference", **given)
    got = numba.softmax_window_sum_of_rows(x, scores[:, :, slice(*band)], band, H, from_centre)
    torch.testing.assert_close(got, want[:, :, slice(*band)], rtol=1e-5, atol=1e-5)
