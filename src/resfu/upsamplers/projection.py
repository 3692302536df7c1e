"""1 x 1 convolutions with a channels-last or contiguous result, into which a GroupNorm before them is folded."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.backends import gradients_are_recorded, operators_are_recorded, which_backend
from resfu.ops.compiling import in_torch_compile
from resfu.ops.grid import in_bands
from resfu.ops.portable import is_portable
from resfu.ops.precision import autocast_dtype
from resfu.upsamplers.normalised_projection import FAR, normalised_projection
from resfu.upsamplers.plain import is_plain_convolution, is_plain_group_norm

_LARGE = 1 << 20  # number of elements from which a map does not stay in the cache
_ON_GPU = (torch.float32, torch.bfloat16, torch.float16)
_WIDEST = 128  # output channels that fit into the registers of a tile on the GPU


def project(
    convolution: nn.Module,
    x: Float[Tensor, "B C H W"],
    norm: nn.Module | None = None,
    backend: str = "auto",
    planar: bool = False,
) -> Tensor:
    """Compute convolution(norm(x)) as one product of matrices: [B, D, H, W], channels-last, or contiguous if `planar`.

    The normalised map is not written to memory if this can be avoided. On the GPU, if no gradients are recorded, two
    Triton kernels do the work. On the CPU a compiled kernel gives a planar result in fp32. Elsewhere on the CPU, if no
    graph is recorded, the GroupNorm of a large map is folded into the convolution's weights. The backend "reference"
    folds nothing. A module that is not a plain 1 x 1 convolution (because it has hooks, parametrizations or a wrapper,
    or is of another class) is called, and so is the norm.
    """
    if not is_plain_convolution(convolution) or convolution.groups > 1:
        return convolution(x if norm is None else norm(x))
    weight, bias = convolution.weight.flatten(1), convolution.bias
    affine = None
    if norm is not None and is_plain_group_norm(norm) and _on_gpu(x, norm, weight, bias, backend):
        from resfu.ops.layers import triton

        given = norm.num_groups, (norm.weight, norm.bias), norm.eps, weight, bias, autocast_dtype(x)
        return triton.normalised_product(x, *given)
    if planar and bias is not None and norm is not None and is_plain_group_norm(norm) and _compiles(x, norm, weight):
        return normalised_projection(x, norm, weight, bias)
    if norm is not None and backend != "reference" and _foldable(x) and is_plain_group_norm(norm):
        affine = _affine(norm, x)
    if affine is None:
        return _linear(x if norm is None else norm(x), weight, bias, planar)
    images = [
        _linear(x[b : b + 1], weight * scale, F.linear(shift, weight, bias), planar)
        for b, (scale, shift) in enumerate(zip(*affine, strict=True))
    ]
    return images[0] if len(images) == 1 else torch.cat(images)


def _on_gpu(x: Tensor, norm: nn.GroupNorm, weight: Tensor, bias: Tensor | None, backend: str) -> bool:
    """Whether Triton's kernels can do the work: no graph is recorded or captured, and dtype and width fit."""
    tensors = [t for t in (x, norm.weight, norm.bias, weight, bias) if t is not None]
    fits = {autocast_dtype(t) for t in tensors} <= {autocast_dtype(x)} <= set(_ON_GPU) and len(weight) <= _WIDEST
    if not fits or x.numel() == 0 or which_backend(x, backend) != "triton":
        return False
    return not operators_are_recorded(*tensors) and not gradients_are_recorded(*tensors)


def _compiles(x: Tensor, norm: nn.GroupNorm, weight: Tensor) -> bool:
    """Whether a compiled kernel can do the work: fp32, and PyTorch's operators are not traced (autograd may record)."""
    kinds = {x.dtype, norm.weight.dtype, weight.dtype}
    fits = kinds == {torch.float32} and weight.shape[0] % 8 == 0 and x.numel() > 0
    return fits and not torch.is_autocast_enabled("cpu") and not operators_are_recorded(x, weight)


def _foldable(x: Tensor) -> bool:
    return (
        in_bands(x)
        and not torch.is_autocast_enabled("cpu")
        and x[:1].numel() >= _LARGE
        and x.dtype in (torch.float32, torch.float64)
    )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, planar: bool) -> Tensor:
    if is_portable():
        return F.conv2d(x, weight[:, :, None, None], bias)
    if planar:
        product = (
            weight @ x.flatten(2)
            if bias is None
            else torch.baddbmm(bias[:, None], weight.expand(len(x), -1, -1), x.flatten(2))
        )
        return product.unflatten(2, x.shape[2:])
    if in_torch_compile():
        # A copy: Inductor cannot order the symbolic strides of a view that it keeps for backward (seen with 2.14).
        product = (weight @ x.flatten(2)).unflatten(2, x.shape[2:])
        product = product if bias is None else product + bias[:, None, None]
        return product.contiguous(memory_format=torch.channels_last)
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _affine(norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """GroupNorm as a scale and a shift for each image and channel, [B, C]; None if a mean is far from 0.

    The variance is computed group by group, so that the differences stay in the cache.
    """
    value = x.unflatten(1, (norm.num_groups, -1))
    mean = value.mean((2, 3, 4))
    variance = torch.empty_like(mean)
    for b in range(len(value)):
        for g in range(norm.num_groups):
            difference = (value[b, g] - mean[b, g]).flatten()
            variance[b, g] = torch.dot(difference, difference) / len(difference)
    if (mean * mean > FAR**2 * (variance + norm.eps)).any():
        return None
    scale = (variance + norm.eps).rsqrt()[:, :, None] * norm.weight.view(norm.num_groups, -1)
    shift = norm.bias.view(norm.num_groups, -1) - mean[:, :, None] * scale
    return scale.flatten(1), shift.flatten(1)
