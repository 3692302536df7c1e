"""1 x 1 projections with GroupNorm folded in."""

import pytest
import torch
from torch import nn

from resfu.upsamplers import projection
from resfu.upsamplers.projection import project


@pytest.fixture(autouse=True)
def every_map_is_large(monkeypatch):
    monkeypatch.setattr(projection, "_LARGE", 1)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_the_folded_norm_is_the_norm(last, bias):
    torch.manual_seed(0)
    x = 3 + torch.randn(2, 12, 5, 7, dtype=torch.double)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    norm, convolution = nn.GroupNorm(4, 12).double(), nn.Conv2d(12, 6, 1, bias=bias).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    want = convolution(norm(x))
    with torch.no_grad():
        got = project(convolution, x, norm)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(project(convolution, x, norm), want, rtol=1e-12, atol=1e-12)  # recorded: not folded
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mean", [0, 7, 9, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_folding_costs_less_than_a_digit(dtype, mean):
    torch.manual_seed(0)
    x = (mean + torch.randn(1, 64, 40, 40)).to(dtype)
    norm, convolution = nn.GroupNorm(32, 64).to(dtype), nn.Conv2d(64, 32, 1).to(dtype)
    exact_norm, exact = nn.GroupNorm(32, 64).double(), nn.Conv2d(64, 32, 1).double()
    exact.load_state_dict(convolution.state_dict())
    with torch.no_grad():
        want = exact(exact_norm(x.double()))
        plain = (convolution(norm(x)).double() - want).abs().max()
        folded = (project(convolution, x, norm).double() - want).abs().max()
    assert folded <= 10 * plain


@pytest.mark.parametrize("width", [8, 12])  # the compiled kernel takes multiples of 8
def test_a_planar_projection_of_any_width(width):
    torch.manual_seed(0)
    norm, convolution, x = torch.nn.GroupNorm(2, 6), torch.nn.Conv2d(6, width, 1), torch.randn(2, 6, 9, 11) + 2
    torch.nn.init.normal_(norm.weight)
    for inference in (False, True):
        with torch.inference_mode(inference):
            got = project(convolution, x, norm, planar=True)
            assert got.is_contiguous()
            torch.testing.assert_close(got, convolution(norm(x)), rtol=1e-5, atol=1e-5)
