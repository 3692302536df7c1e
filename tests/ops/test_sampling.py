"""Bilinear values at positions of their own, against PyTorch's grid_sample in fp64."""

import pytest
import torch

from resfu.ops import backends
from resfu.ops.sampling import operators, sample

numba = pytest.mark.skipif(not backends._NUMBA_INSTALLED, reason="needs the extra fast (numba)")
CASES = [  # B, C, G, (h, w), (H, W)
    (2, 64, 4, (9, 8), (21, 32)),
    (1, 40, 4, (5, 7), (6, 19)),
    (2, 12, 2, (1, 5), (3, 16)),
    (1, 6, 1, (6, 1), (16, 33)),
    (1, 32, 4, (4, 4), (8, 8)),  # shorter rows than a vector: PyTorch's operators
]


def tensors(B, C, groups, low, high, channels_last=False):
    """A map and positions, some beyond the border. On a pixel the derivative would be a choice between two."""
    torch.manual_seed(0)
    x = torch.randn(B, C, *low)
    columns = torch.rand(B, groups, *high) * (low[1] + 2) - 1.5
    rows = torch.rand(B, groups, *high) * (low[0] + 2) - 1.5
    return (x.contiguous(memory_format=torch.channels_last) if channels_last else x), columns, rows


def with_gradients(function, given, dtype=torch.float32):
    inputs = [t.detach().to(dtype).requires_grad_() for t in given]
    out = function(*inputs)
    torch.manual_seed(1)
    return [out, *torch.autograd.grad(out, inputs, torch.randn(out.shape).to(dtype))]


@numba
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_values_and_gradients(case, channels_last, threads):
    torch.set_num_threads(threads)
    given = tensors(*case, channels_last=channels_last)
    got, want = with_gradients(sample, given), with_gradients(operators.sample, given, torch.float64)
    for ours, exact in zip(got, want, strict=True):
        assert (ours - exact).abs().max() <= 2e-6 * exact.abs().max()
    if channels_last and case != CASES[-1]:
        assert got[0].is_contiguous(memory_format=torch.channels_last)


@numba
def test_positions_on_the_pixels():
    x, columns, rows = tensors(1, 16, 2, (4, 5), (3, 20))
    columns, rows = columns.round(), rows.round()
    got, want = sample(x, columns, rows), operators.sample(*(t.double() for t in (x, columns, rows)))
    assert (got - want).abs().max() <= 2e-6 * want.abs().max()


@numba
def test_a_result_beyond_the_cache(monkeypatch):
    from resfu.ops.compiled import threads

    given = tensors(2, 20, 2, (5, 9), (7, 32))
    want = sample(*given)
    monkeypatch.setattr(threads, "_LARGE", 1)
    assert torch.equal(sample(*given), want)


@numba
def test_derivatives_of_the_derivatives():
    given = tensors(1, 4, 2, (3, 4), (2, 16))
    second = []
    for function, dtype in ((sample, torch.float32), (operators.sample, torch.float64)):
        inputs = [t.to(dtype).requires_grad_() for t in given]
        first = torch.autograd.grad(function(*inputs).pow(3).sum(), inputs, create_graph=True)
        second.append(torch.autograd.grad(sum(g.sin().sum() for g in first), inputs))
    for ours, exact in zip(*second, strict=True):
        assert (ours - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize("function", [sample, operators.sample])
def test_what_is_no_number_stays_where_it_is(function):
    x, columns, rows = tensors(1, 8, 2, (4, 5), (3, 20))
    clean = with_gradients(function, (x, columns, rows))
    columns[0, 0, 1, 7] = rows[0, 1, 2, 9] = float("nan")
    columns[0, 1, 0, 3], rows[0, 1, 0, 4] = float("inf"), -float("inf")
    out, d_x, d_columns, d_rows = with_gradients(function, (x, columns, rows))
    lost = torch.zeros_like(out, dtype=torch.bool)
    lost[0, :4, 1, 7] = lost[0, 4:, 2, 9] = True
    assert torch.equal(out.isnan(), lost)
    for got, want in zip((d_x, d_columns, d_rows), clean[1:], strict=True):
        assert got.isfinite().all()
        assert got.shape == want.shape
    assert d_columns[0, 0, 1, 7] == d_rows[0, 0, 1, 7] == d_columns[0, 1, 2, 9] == 0
    kept = ~lost
    kept[0, 4:, 0, 3:5] = False
    torch.testing.assert_close(out[kept], clean[0][kept])


@numba
def test_an_infinite_pixel_reaches_only_those_that_lie_beside_it():
    x, columns, rows = tensors(1, 16, 1, (4, 5), (1, 16))
    x[0, :, 3, 4] = float("inf")
    columns[:], rows[:] = 4.0, 3.0
    assert sample(x, columns, rows).isposinf().all()
    columns[:], rows[:] = 2.5, 1.5
    assert sample(x, columns, rows).isfinite().all()


def test_groups_read_at_their_own_positions():
    x = torch.arange(8.0).expand(1, 4, 2, 8)
    columns, rows = torch.full((1, 2, 1, 16), 3.25), torch.zeros(1, 2, 1, 16)
    columns[:, 1] = 9.0  # beyond the border
    out = sample(x, columns, rows)
    assert (out[:, :2] == 3.25).all()
    assert (out[:, 2:] == 7.0).all()


def test_positions_of_any_layout_get_their_gradients():
    torch.manual_seed(0)
    given = torch.randn(2, 8, 6, 7), *(torch.rand(2, 4, 12, 32) * 6 for _ in range(2))
    for layout in (torch.contiguous_format, torch.channels_last):
        inputs = [t.to(memory_format=layout).requires_grad_() for t in given]
        exact = [t.double().requires_grad_() for t in given]
        found = torch.autograd.grad(sample(*inputs).sin().sum(), inputs)
        wanted = torch.autograd.grad(sample(*exact).sin().sum(), exact)
        for ours, want in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours.double(), want, rtol=1e-4, atol=1e-5)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="= 4 must divide the width of x = 3"):
        sample(torch.rand(1, 3, 4, 4), torch.rand(1, 4, 8, 16), torch.rand(1, 4, 8, 16))
