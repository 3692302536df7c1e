"""ReSFU with neighbours a fixed number of pixels apart in its scores, as its authors' code has it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import resfu


def _random(**options) -> resfu.ReSFU:
    torch.manual_seed(0)
    up = resfu.ReSFU(16, 12, **options).double()
    for p in up.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return up


@pytest.mark.parametrize(("ratio", "options"), [(2, {}), (4, {"kernel_size": 5, "guided_filter_stride": 2})])
def test_at_the_ratio_it_is_the_default(ratio, options):
    fixed, default = _random(dilation=ratio, **options), _random(**options)
    x = torch.randn(2, 16, 5, 6, dtype=torch.double, requires_grad=True)
    y = torch.randn(2, 12, 5 * ratio, 6 * ratio, dtype=torch.double, requires_grad=True)
    got, want = fixed(x, y), default(x, y)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    grad = torch.randn_like(want)
    gradients = [
        torch.autograd.grad(out, (x, y, *up.parameters()), grad) for out, up in ((got, fixed), (want, default))
    ]
    for g, w in zip(*gradients, strict=True):
        assert (g - w).abs().max() <= 1e-10 * max(1, w.abs().max())
    named, expected = fixed.explain(x, y), default.explain(x, y)
    assert named.keys() == expected.keys()
    torch.testing.assert_close(named, expected, rtol=1e-10, atol=1e-10)


def published(up: resfu.ReSFU, x: Tensor, y: Tensor, dilation: int) -> Tensor:
    """The authors' steps with a padding and dilation that are given, not measured; K = 3."""
    size, named = y.shape[-2:], up.explain(x, y)
    k = F.interpolate(named["k"], size=size, mode="bilinear", align_corners=False)

    def windows(t: Tensor, **padding) -> Tensor:
        padded = F.pad(t, (dilation,) * 4, **padding)
        return F.unfold(padded, 3, dilation=dilation).unflatten(1, (t.shape[1], 9)).unflatten(3, size)

    total = windows(torch.zeros(1, 1, *size, dtype=x.dtype), value=-1e7)[:, 0]
    for name, key, query in (("semantic", k, named["q_gf"]), ("detail", named["q_gs"], named["q"])):
        block = getattr(up, f"{name}_similarity")
        key, query = block.norm(key), block.norm(query)
        difference = (windows(key, mode="replicate") - query[:, :, None]).unflatten(1, (4, 8))
        weight = block.weight.flatten(2).unflatten(0, (4, 32))
        v = torch.einsum("gmdn,bgdnhw->bgmhw", weight, difference).flatten(1, 2) + block.bias.view(-1, 1, 1)
        total = total + block.score(block.reduce_norm(block.reduce(v.relu()).relu()))
    return resfu.ops.reassemble(x, total.softmax(1), size, "fine", "replicate", backend="reference")


@pytest.mark.parametrize("high", [(28, 36), (25, 33)])
def test_a_dilation_of_its_own_is_that_of_the_published_code(high):
    """Its SegFormer runs x4 with 2, and at sizes that are no multiple of the stride the ratio is not whole."""
    up = _random(dilation=2)
    x, y = torch.randn(2, 16, 7, 9, dtype=torch.double), torch.randn(2, 12, *high, dtype=torch.double)
    with torch.no_grad():
        got = up(x, y)
        torch.testing.assert_close(got, published(up, x, y, 2), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(up.explain(x, y)["output"], got)
        torch.testing.assert_close(up(torch.ones_like(x), y), torch.ones_like(got))
        up.dilation = None
        assert (up(x, y) - got).norm() > 0.01 * got.norm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilation": 0}, "dilation must be an int from 1, got 0"),
        (
            {"dilation": 2, "similarity": "concat"},
            "dilation = 2 is for similarity='pcdc' and neighbours='fine', got 'con",
        ),
        ({"dilation": 2, "neighbours": "coarse"}, "got 'pcdc' and 'coarse': leave it out"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        resfu.ReSFU(16, 12, **options)
