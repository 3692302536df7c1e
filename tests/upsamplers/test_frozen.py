"""NAF and AnyUp: values by hand, both ways of computing them, windows."""

import pytest
import torch

import resfu
from resfu.ops.attention import windowed
from resfu.ops.attention.axis import seen_cells, shifted
from resfu.upsamplers.unify import Unify


def parameters(up):
    return sum(parameter.numel() for parameter in up.parameters())


def test_published_numbers_of_parameters():
    assert parameters(resfu.NAF()) == 662_528
    assert parameters(resfu.NAF(dim=32)) == 11_136
    assert parameters(resfu.NAF(dim=768, layers=5)) == 14_780_928
    assert parameters(resfu.AnyUp()) == 878_080 - 33_024  # without what is never used


def test_windows_of_naf_are_moved_inwards():
    axis = shifted(10, 5, 3)
    cells = [axis.window[p // 2].tolist() for p in range(10)]
    assert cells == 4 * [[0, 1, 2]] + 2 * [[1, 2, 3]] + 4 * [[2, 3, 4]]
    assert shifted(8, 4, 9).window.tolist() == 4 * [[0, 1, 2, 3]]


@pytest.mark.parametrize(("kernel_size", "rows"), [(3, [1, 1, 1, 1, 2, 2, 3, 3, 3, 3]), (5, 10 * [2])])
def test_naf_with_equal_scores_is_the_mean_of_the_window(kernel_size, rows):
    up = resfu.NAF(dim=32, kernel_size=kernel_size).double().eval()
    for stack in (up.pixel_encoder, up.context_encoder):
        torch.nn.init.zeros_(stack[-1].conv2.weight)
        torch.nn.init.zeros_(stack[-1].conv2.bias)
    x = torch.arange(5.0, dtype=torch.float64)[:, None].expand(1, 4, 5, 5).contiguous()
    image = torch.rand(1, 3, 10, 10, dtype=torch.float64)
    want = torch.tensor(rows, dtype=torch.float64)[:, None].expand(1, 4, 10, 10)
    torch.testing.assert_close(up(x, image), want)
    with torch.no_grad():
        torch.testing.assert_close(up(x, image), want)


def test_windows_of_anyup():
    assert seen_cells(10, 5, 0.1).mT.tolist() == [
        [0, 1], [0, 2], [0, 2], [1, 3], [1, 3], [2, 4], [2, 4], [3, 5], [3, 5], [4, 5],
    ]  # fmt: skip


def test_anyup_with_equal_scores():
    up = resfu.AnyUp(dim=16).double().eval()
    torch.nn.init.zeros_(up.query_convolution.weight)
    x = torch.arange(5.0, dtype=torch.float64)[:, None].expand(1, 4, 5, 5).contiguous()
    want = torch.tensor([0, 0.5, 0.5, 1.5, 1.5, 2.5, 2.5, 3.5, 3.5, 4.0]).double()[:, None].expand(1, 4, 10, 10)
    torch.testing.assert_close(up(x, torch.rand(1, 3, 10, 10, dtype=torch.float64)), want)


def test_the_feature_layer_by_hand():
    layer, paper = Unify(2, 3), Unify(2, 3, any_order=True)
    for each in (layer, paper):
        torch.nn.init.zeros_(each.basis)
        each.basis.data[0, 0, 1, 1] = 1
        got = each(torch.ones(1, 1, 3, 3))[0, 0]
        want = torch.tensor([0.562177, 0.541570, 0.527749])
        torch.testing.assert_close(torch.stack([got[0, 0], got[0, 1], got[1, 1]]), want, atol=1e-6, rtol=0)
    layer, paper = Unify(2, 1), Unify(2, 1, any_order=True)
    x = torch.tensor([2.0, 0.5]).view(1, 2, 1, 1)
    for each, want in ((layer, 0.5), (paper, 0.746664)):  # the mean of sigmoid(2 v / norm) over both channels
        each.basis.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        assert float(each(x).detach()[0, 0]) == pytest.approx(want, abs=1e-6)


def test_the_order_of_the_channels():
    torch.manual_seed(0)
    x, image, order = torch.randn(1, 24, 5, 6), torch.randn(1, 3, 20, 24), torch.randperm(24)
    back = order.argsort()
    for options, same in (({}, False), ({"any_order": True}, True)):
        up = resfu.AnyUp(dim=16, **options).eval()
        assert torch.allclose(up(x[:, order], image)[:, back], up(x, image), atol=1e-5) == same


@pytest.mark.parametrize("name", ["naf", "anyup"])
@pytest.mark.parametrize(
    ("low", "high", "image"),
    [
        ((5, 7), (20, 28), (20, 28)),
        ((6, 9), (17, 40), (17, 40)),
        ((4, 12), (30, 31), (70, 25)),
        ((12, 10), (24, 30), (48, 60)),
    ],
)
def test_bands_give_what_operators_give(create, name, low, high, image):
    """The CPU without gradients, beside plain operators with them; sizes of many bands and of few."""
    up = create(name).double()
    x, y = torch.randn(2, 32, *low, dtype=torch.float64), torch.randn(2, 3, *image, dtype=torch.float64)
    want = up(x, y, size=high).detach()
    with torch.no_grad():
        torch.testing.assert_close(up(x, y, size=high), want, rtol=1e-9, atol=1e-11)
        last = up(x.contiguous(memory_format=torch.channels_last), y, size=high)
    torch.testing.assert_close(last, want, rtol=1e-9, atol=1e-11)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_anyups_windows_are_those_of_the_mask(create, monkeypatch):
    up = create("anyup", window_ratio=0.2).double()
    for low, high in (((6, 9), (17, 40)), ((9, 7), (18, 21))):
        x, y = torch.randn(1, 32, *low, dtype=torch.float64), torch.randn(1, 3, *high, dtype=torch.float64)
        want = up(x, y).detach()
        with monkeypatch.context() as patch:
            patch.setattr(windowed, "_LARGE", 0)
            torch.testing.assert_close(up(x, y).detach(), want, rtol=1e-10, atol=1e-12)


def test_a_training_call_leaves_no_trace():
    torch.manual_seed(0)
    up, x, image = resfu.NAF(dim=16, heads=1, rope_heads=1), torch.randn(1, 4, 9, 9), torch.randn(1, 3, 18, 18)
    want = up.eval()(x, image)
    assert not torch.equal(up.train()(x, image), want)
    assert torch.equal(up.eval()(x, image), want)


@pytest.mark.parametrize(
    ("filters", "kernel_size", "channels"), [(8, 3, 16), (16, 5, 7), (40, 3, 33), (64, 1, 20)], ids=str
)
def test_the_compiled_feature_layer_is_the_definition(filters, kernel_size, channels):
    """Widths that fill no vector, more images than one, and a row of pixels that is shorter than the filter."""
    pytest.importorskip("numba")
    layer = Unify(filters, kernel_size)
    x = torch.randn(2, channels, 5, 2)
    want = Unify(filters, kernel_size).double()
    want.load_state_dict(layer.state_dict())
    with torch.no_grad():
        got = layer(x)
    assert got.is_contiguous()
    torch.testing.assert_close(got.double(), want(x.double()), rtol=1e-6, atol=0)
