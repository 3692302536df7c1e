"""Dilated convolution whose gradients are correct on every device."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.precision import at_least_fp32, autocast_dtype, without_autocast


def dilated_convolution(
    x: Float[Tensor, "B D h w"], weight: Float[Tensor, "M d K K"], dilation: tuple[int, int], groups: int
) -> Float[Tensor, "B M H W"]:
    """Convolve without padding: H = h - (K - 1) times the dilation.

    On the CPU, oneDNN's bf16 weight gradient of a dilated grouped convolution in channels-last format is wrong, NaN, or
    crashes (seen with PyTorch 2.14), and Inductor converts every convolution to this format. So with gradients, half
    precision is computed in fp32 here.
    """
    dtype = autocast_dtype(x)
    if x.device.type != "cpu" or not torch.is_grad_enabled() or dtype.itemsize > 2:
        return F.conv2d(x, weight, dilation=dilation, groups=groups)
    with without_autocast(x):
        # First rounded to the lower precision, as autocast rounds the inputs of a convolution.
        x, weight = (at_least_fp32(t.to(dtype)) for t in (x, weight))
        return F.conv2d(x, weight, dilation=dilation, groups=groups).to(dtype)
