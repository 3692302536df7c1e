"""Compiled layers of image encoders and attention, at sizes that take their every path."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resfu
from resfu.ops import backends
from resfu.ops.compiled import threads

pytestmark = pytest.mark.skipif(not backends._NUMBA_INSTALLED, reason="needs the extra fast (numba)")


@pytest.fixture(params=[False, True], ids=["into the cache", "past the cache"])
def _past(request, monkeypatch):
    """Results are as if they were too large for the cache, or not."""
    if request.param:
        monkeypatch.setattr(threads, "_LARGE", 1)


@pytest.mark.usefixtures("_past")
@pytest.mark.parametrize(("kernel_size", "add"), [(1, False), (1, True), (3, False)])
@pytest.mark.parametrize(("D", "M"), [(24, 64), (64, 32), (16, 40)])  # panels: two, one, and one that is not full
def test_a_layer_is_group_norm_silu_and_a_convolution(D, M, kernel_size, add):
    from resfu.ops.layers.numba import layer

    torch.manual_seed(0)
    x, out = torch.randn(11, 13, D), torch.randn(11, 13, M)  # 143 pixels: no multiple of 8, more than a task of 64
    convolution = nn.Conv2d(D, M, kernel_size, padding=kernel_size // 2)
    affine = torch.rand(D) + 0.5, torch.randn(D)
    with torch.no_grad():
        want = convolution.double()(F.silu(x * affine[0] + affine[1]).double().permute(2, 0, 1))
        want = want.permute(1, 2, 0) + (out if add else 0)
        total, squares = layer(x, affine, convolution.float(), out, add, False)
    torch.testing.assert_close(out.double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(total, want.sum((0, 1)), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(squares, want.square().sum((0, 1)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("D", "M"), [(24, 64), (40, 40)])
def test_a_projection_is_rms_norm_and_a_linear_layer(D, M):
    from resfu.ops.layers.numba import projected

    torch.manual_seed(0)
    norm, linear, x = nn.RMSNorm(D), nn.Linear(D, M), torch.randn(3, 7, D)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        got, want = projected(x, norm, linear.weight, linear.bias), linear(norm(x))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_past")
@pytest.mark.parametrize("up", [resfu.NAF(dim=32, kernel_size=3), resfu.AnyUp(dim=32)], ids=["naf", "anyup"])
def test_cells_of_whole_vectors(up):
    """16 x 16 pixels of a low-resolution pixel: their results may be stored past the cache."""
    torch.manual_seed(0)
    x, image = torch.randn(1, 8, 3, 4), torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        got = up.eval()(x, image)
    want = up.double()(x.double(), image.double())
    up.float()
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)
