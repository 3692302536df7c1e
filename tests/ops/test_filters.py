"""Filters against naive loops, the reference, the published definition and exact properties."""

import pytest
import torch
import torch.nn.functional as F

from resfu.ops import box_filter, gaussian_filter, guided_filter
from resfu.ops.filters.reference import window_mean


def _naive_box(x, radius):
    out = torch.empty_like(x)
    for p in range(x.shape[2]):
        for q in range(x.shape[3]):
            window = x[:, :, max(0, p - radius) : p + radius + 1, max(0, q - radius) : q + radius + 1]
            out[:, :, p, q] = window.mean((2, 3))
    return out


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 8, 20])
def test_box_filter_is_the_mean_of_the_pixels_that_exist(radius):
    x = torch.randn(2, 3, 11, 14, dtype=torch.double)
    torch.testing.assert_close(box_filter(x, radius), _naive_box(x, radius), rtol=1e-12, atol=1e-12)


def test_box_filter_differentiates_twice():
    x = torch.randn(1, 1, 5, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: box_filter(x, 2), (x,))
    assert torch.autograd.gradgradcheck(lambda x: box_filter(x, 1) ** 2, (x,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_box_filter_sums_low_precision_in_fp32(dtype):
    x = (1000 + torch.randn(1, 2, 40, 40)).to(dtype)
    got = box_filter(x, 8)
    assert got.dtype == dtype
    assert torch.equal(got, box_filter(x.float(), 8).to(dtype))


# size of x, of the guide, radius
SIZES = [
    ((9, 14), (9, 14), 2),
    ((4, 6), (9, 13), 3),
    ((5, 5), (20, 17), 8),
    ((1, 3), (1, 7), 2),
    ((2, 1), (3, 1), 0),
    ((1, 1), (1, 1), 5),
]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("low", "size", "radius"), SIZES, ids=str)
def test_guided_filter_equals_its_reference_forward_and_backward(low, size, radius, stride):
    guide = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
    x = torch.randn(2, 3, *low, dtype=torch.double, requires_grad=True)
    got, want = (guided_filter(guide, x, radius, 0.1, stride, backend) for backend in ("auto", "reference"))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(want)
    for g, w in zip(*(torch.autograd.grad(out, (guide, x), grad) for out in (got, want)), strict=True):
        torch.testing.assert_close(g, w, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("radius", [0, 1, 3, 9])
def test_the_references_window_mean_is_the_mean_of_the_pixels_that_exist(radius):
    x = torch.randn(2, 3, 6, 9, dtype=torch.double)
    torch.testing.assert_close(window_mean(x, radius), _naive_box(x, radius), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("size", [(24, 30), (25, 31), (2, 3)], ids=str)
def test_stride_2_is_the_published_one(size, backend):
    """Nearest at scale 1/2, so floor(H / 2) rows; means of half the radius; back to the guide's size bilinearly."""
    guide, x = torch.randn(2, 1, 4, *size, dtype=torch.double)
    g, y = (F.interpolate(t, scale_factor=0.5, mode="nearest") for t in (guide, x))
    assert g.shape[-2:] == (size[0] // 2, size[1] // 2)
    m = (_naive_box(g * y, 4) - _naive_box(g, 4) * _naive_box(y, 4)) / (
        _naive_box(g * g, 4) - _naive_box(g, 4) ** 2 + 0.01
    )
    n = _naive_box(y, 4) - m * _naive_box(g, 4)
    m, n = (F.interpolate(_naive_box(t, 4), size=size, mode="bilinear") for t in (m, n))
    got = guided_filter(guide, x, 8, 0.01, 2, backend)
    torch.testing.assert_close(got, m * guide + n, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rows", [40, 400])  # 400: in bands
def test_a_guide_far_from_zero_costs_no_digits(stride, rows):
    generator = torch.Generator().manual_seed(0)
    guide, x = torch.randn(2, 1, 2, rows, 40, generator=generator) + torch.tensor([1000.0, -300.0]).view(2, 1, 1, 1, 1)
    with torch.no_grad():
        got, want = (guided_filter(guide.to(d), x.to(d), stride=stride) for d in (torch.float32, torch.double))
    assert (got - want).abs().max() < 1e-4  # numbers near 300 round by 1.5e-5, and interpolation rounds a few times


@pytest.mark.parametrize("stride", [1, 2])
def test_guided_filter_differentiates_twice(stride):
    guide = torch.randn(1, 2, 4, 5, dtype=torch.double, requires_grad=True)
    x = torch.randn(1, 2, 3, 2, dtype=torch.double, requires_grad=True)

    def run(guide, x):
        return guided_filter(guide, x, 2, 0.1, stride)

    assert torch.autograd.gradcheck(run, (guide, x))
    assert torch.autograd.gradgradcheck(run, (guide, x))


def test_what_is_not_finite_stays_in_the_windows_that_hold_it():
    guide, x = torch.randn(2, 1, 2, 20, 20)
    want = guided_filter(guide, x, 2)
    for bad in (float("nan"), float("inf")):
        broken = guide.clone()
        broken[0, 0, 10, 10] = bad
        got = guided_filter(broken, x, 2)
        assert got[0, 0, 6:15, 6:15].isnan().all()
        got[0, 0, 6:15, 6:15] = want[0, 0, 6:15, 6:15]
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("stride", [1, 2])
def test_guided_filter_reproduces_constants_and_linear_maps(stride):
    guide = torch.randn(1, 4, 24, 30, dtype=torch.double)
    constant = torch.full_like(guide, 2.5)
    torch.testing.assert_close(guided_filter(guide, constant, stride=stride), constant, rtol=1e-12, atol=1e-12)
    linear = 3 * guide - 1
    torch.testing.assert_close(guided_filter(guide, linear, eps=0.0, stride=stride), linear, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("size", "radius"), [((1, 1), 2), ((9, 9), 0), ((9, 9), 2)])
def test_a_flat_guide_without_a_ridge_has_no_slope(backend, size, radius):
    guide = torch.full((1, 2, *size), 0.37, requires_grad=True)
    x = torch.randn(1, 2, *size, requires_grad=True)
    got = guided_filter(guide, x, radius, eps=0.0, backend=backend)
    torch.testing.assert_close(got, box_filter(box_filter(x, radius), radius))
    assert all(g.isfinite().all() for g in torch.autograd.grad(got.sum(), (guide, x)))


@pytest.mark.parametrize("eps", [-1e-3, float("nan"), float("inf")])
def test_a_ridge_is_a_number_from_0(eps):
    with pytest.raises(ValueError, match="eps must be a number from 0, got"):
        guided_filter(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), eps=eps)


def test_guided_filter_bands_equal_the_whole():
    guide, x = torch.randn(1, 2, 300, 20, dtype=torch.double), torch.randn(1, 2, 300, 20, dtype=torch.double)
    with torch.no_grad():
        banded = guided_filter(guide, x)
    whole = guided_filter(guide.requires_grad_(), x)
    torch.testing.assert_close(banded, whole.detach(), rtol=1e-12, atol=1e-12)


def test_guided_filter_computes_low_precision_in_fp32():
    guide, x = torch.randn(1, 4, 40, 40) * 0.05 + 3, torch.randn(1, 4, 40, 40)
    got = guided_filter(guide.bfloat16(), x.bfloat16())
    want = guided_filter(guide.bfloat16().double(), x.bfloat16().double())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), want, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("stride", [1, 2])
def test_guided_filter_brings_a_smaller_map_to_the_guides_size(stride):
    guide, x = torch.randn(1, 2, 9, 14), torch.randn(1, 2, 4, 6)
    full = F.interpolate(x, size=(9, 14), mode="bilinear", align_corners=False)
    assert torch.equal(guided_filter(guide, x, 2, stride=stride), guided_filter(guide, full, 2, stride=stride))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_no_images(grad, stride):
    guide, x = torch.ones(0, 3, 8, 6, requires_grad=True), torch.ones(0, 3, 4, 3)
    with torch.set_grad_enabled(grad):
        assert box_filter(x, 2).shape == (0, 3, 4, 3)
        out = guided_filter(guide, x, 2, stride=stride)
    assert out.shape == (0, 3, 8, 6)
    if grad:
        assert torch.autograd.grad(out.sum(), guide)[0].shape == guide.shape


def test_gaussian_weights():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1
    out = gaussian_filter(x)[0, 0]
    assert out[2, 2].item() == pytest.approx(0.204180, abs=1e-6)
    assert out[2, 1].item() == pytest.approx(0.123841, abs=1e-6)
    assert out[1, 1].item() == pytest.approx(0.075114, abs=1e-6)
    torch.testing.assert_close(gaussian_filter(torch.ones(1, 2, 4, 3)), torch.ones(1, 2, 4, 3))


def test_bad_arguments():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="radius"):
        box_filter(x, -1)
    with pytest.raises(ValueError, match="stride"):
        guided_filter(x, x, stride=3)
    with pytest.raises(ValueError, match="radius"):
        guided_filter(x, x, -1)
    for other in (torch.zeros(1, 1, 5, 4), torch.zeros(1, 1, 4, 5), torch.zeros(1, 2, 4, 4)):
        unchecked = getattr(guided_filter, "__wrapped__", guided_filter)  # users have no shape checks
        with pytest.raises(ValueError, match=r"guide \[1, 1, 4, 4\], got"):
            unchecked(x, other)
    with pytest.raises(ValueError, match="can't run on cpu"):
        guided_filter(x, x, backend="triton")
