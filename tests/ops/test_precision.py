"""Operators that keep their own precision under autocast, and devices that have no autocast."""

import pytest
import torch

from resfu import ReSFU
from resfu.ops import guided_filter, upsampled_group_norm
from resfu.ops.precision import autocast_dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resfu_on_the_meta_device(dtype):
    up = ReSFU(8, 4).to("meta", dtype)
    out = up(torch.empty(2, 8, 3, 4, device="meta", dtype=dtype), torch.empty(2, 4, 7, 9, device="meta", dtype=dtype))
    assert (out.shape, out.dtype, out.device.type) == ((2, 8, 7, 9), dtype, "meta")
    with pytest.raises(ValueError, match=r"guidance is torch\.float64"):
        up(torch.empty(1, 8, 3, 4, device="meta"), torch.empty(1, 4, 6, 8, device="meta", dtype=torch.double))


def test_statistics_stay_fp32_under_autocast():
    x, one, zero = torch.randn(1, 16, 6, 5), torch.ones(16), torch.zeros(16)
    guide = torch.randn(1, 16, 12, 15)
    wants = upsampled_group_norm(x, (12, 15), 8, one, zero), guided_filter(guide, x, 2)
    with torch.autocast("cpu", torch.bfloat16):
        gots = upsampled_group_norm(x, (12, 15), 8, one, zero), guided_filter(guide, x, 2)
    for got, want in zip(gots, wants, strict=True):
        assert torch.equal(got, want)


def test_what_a_convolution_computes_in():
    single, double = torch.ones(1), torch.ones(1, dtype=torch.double)
    assert autocast_dtype(single) == torch.float32
    assert autocast_dtype(torch.ones(1, device="meta")) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_dtype(single) == torch.bfloat16
        assert autocast_dtype(double) == torch.float64
        assert torch.nn.functional.conv1d(single.view(1, 1, 1), single.view(1, 1, 1)).dtype == torch.bfloat16
