"""The compiled products in blocks for processors with many and with few registers: the same numbers, to the bit.

Each machine runs one of the forms. Here all are compiled, whatever the machine.
"""

import pytest
import torch

pytest.importorskip("numba")

import llvmlite.ir as ir
from numba import njit

from resfu.ops.compiled import phases, registers, tile

BLOCKS = [(16, 2), (6, 1), (5, 2), (3, 1), (1, 1)]  # rows and vectors of 16 numbers at once


@pytest.fixture(params=BLOCKS, ids=str)
def blocks(request, monkeypatch):
    rows, vectors = request.param
    monkeypatch.setattr(tile, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(tile, "VECTORS_AT_ONCE", vectors)
    return request.param


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def table(*places):
    return torch.tensor(places or (0,)).numpy()


def compiled(function, *arguments):
    """One call of an intrinsic, which has to be inlined into a kernel."""
    names = ", ".join(f"a{n}" for n in range(len(arguments)))
    scope = {"function": function}
    exec(f"def call({names}):\n    function({names})", scope)
    njit(fastmath={"contract", "nsz"})(scope["call"])(*arguments)


def test_parts_are_nearly_equal():
    assert [list(p) for p in registers.parts(9, 6)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert [list(p) for p in registers.parts(2, 1)] == [[0], [1]]
    assert [list(p) for p in registers.parts(8, 16)] == [list(range(8))]


@pytest.mark.parametrize("rows", [1, 8, 9, 16])
@pytest.mark.parametrize("start", ["zero", "bias", "out"])
def test_product_in_blocks(blocks, rows, start):
    w, x, bias, before = numbers(rows, 20), numbers(20, 32), numbers(rows), numbers(rows, 40)
    out = before.clone()
    arguments = [w.flatten().numpy(), 0, 20, 1, x.flatten().numpy(), 0, 32, 20, bias.numpy(), 0, table(), 0]
    compiled(tile.product(rows, 2, start, relu=True), out.view(-1).numpy(), 4, 40, *arguments)

    first = {"zero": torch.zeros(rows, 1), "bias": bias[:, None], "out": before[:, 4:36]}[start]
    expected = (first.double() + w.double() @ x.double()).clamp(min=0)
    torch.testing.assert_close(out[:, 4:36].double(), expected, rtol=1e-6, atol=1e-5)
    assert torch.equal(out[:, :4], before[:, :4])
    assert torch.equal(out[:, 36:], before[:, 36:])
    if start == "zero" and rows == 8:
        assert torch.equal(out[:, 4:36], one_after_the_other(w, x).clamp(min=0))


@pytest.mark.parametrize("apart", [1, 7, 16, 20, 31])
def test_rows_that_overlap_are_written_in_order(blocks, apart):
    """Each row over the end of the one before: AnyUp's layer has rows shorter than a tile, one behind the other."""
    w, x, out = numbers(8, 6), numbers(6, 32), torch.zeros(7 * apart + 32)
    arguments = [w.flatten().numpy(), 0, 6, 1, x.flatten().numpy(), 0, 32, 6, x.flatten().numpy(), 0, table(), 0]
    compiled(tile.product(), out.numpy(), 0, apart, *arguments)
    expected = torch.zeros_like(out)
    for i, row in enumerate(one_after_the_other(w, x)):
        expected[i * apart : i * apart + 32] = row
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)


def one_after_the_other(w, x):
    """The product in fp32 as the kernels round it: of one row after the other, each step once."""
    total = torch.zeros(len(w), x.shape[1])
    for k in range(len(x)):
        total = (total.double() + w[:, k : k + 1].double() * x[k].double()).float()
    return total


@pytest.mark.parametrize("rows", [3, 7, 8])
def test_window_product_in_blocks(blocks, rows):
    w, x, out = numbers(9, 32), numbers(rows, 64), torch.zeros(rows, 32)
    taps = table(0, 1, 2, 8, 9, 10, 16, 17, 18)
    given = [w.flatten().numpy(), 0, x.flatten().numpy(), 0, 64, 9, taps, 0]
    compiled(tile.window_product(rows), out.view(-1).numpy(), 0, 32, *given)
    expected = sum(w[k].double() * x[:, tap : tap + 32].double() for k, tap in enumerate(taps))
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=1e-5)


def test_layer_product_in_blocks(blocks):
    w, x, first = numbers(8, 12), numbers(12, 32), numbers(8, 32)
    out, sums = torch.zeros(8, 32), numbers(2, 32)
    before = sums.clone()
    given = [w.flatten().numpy(), 0, 12, x.flatten().numpy(), 0, 32, 12, first.flatten().numpy(), 0, 32]
    compiled(tile.layer_product(), out.view(-1).numpy(), 0, 32, *given, sums.view(-1).numpy(), 0, 32)
    expected = first.double() + w.double() @ x.double()
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=1e-5)
    found = before.double() + torch.stack([expected.sum(0), expected.square().sum(0)])
    torch.testing.assert_close(sums.double(), found, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("channels", "lanes"), [(4, 16), (2, 8), (1, 8)])
def test_doubled_product_in_blocks(monkeypatch, channels, lanes):
    monkeypatch.setattr(phases, "_CHANNELS_AT_ONCE", channels)
    monkeypatch.setattr(phases, "_AT_ONCE", lanes)
    monkeypatch.setattr(phases, "_VECTOR", ir.VectorType(ir.FloatType(), lanes))
    w, x, bias, out = numbers(5, 2, 2, 16), numbers(4, 48), numbers(4), torch.zeros(4, 2, 32)
    taps = table(0, 1, 16, 17, 30)
    given = [w.flatten().numpy(), 0, x.flatten().numpy(), 0, 48, 5, taps, bias.numpy(), 0]
    compiled(phases.doubled_product(), out.view(-1).numpy(), 0, 64, 32, *given)

    seen = torch.stack([x[:, tap : tap + 16] for tap in taps]).double()  # [5, channels, 16]
    expected = torch.einsum("kyzp,kcp->cypz", w.double(), seen) + bias.double().view(4, 1, 1, 1)
    torch.testing.assert_close(out.double(), expected.flatten(2), rtol=1e-6, atol=1e-5)
