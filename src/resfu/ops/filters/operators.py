"""Window sums and the guided filter as custom operators, and the filter as a composition of differentiable ones."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import operators_are_recorded
from resfu.ops.filters import cpu
from resfu.ops.grid import interpolation_matrix, row_bands
from resfu.ops.in_graphs import graph_operator
from resfu.ops.layout import memory_format
from resfu.ops.precision import exact_dtype, without_autocast

_BAND_ELEMENTS = 1 << 20  # elements of a band of the guided filter: 4 MB in fp32


@torch.library.custom_op("resfu::box_sum", mutates_args=())
def box_sum(x: Tensor, radius: int) -> Tensor:
    """Sum over a (2 radius + 1)^2 window, zero beyond the border; it is self-adjoint, so it is its own backward."""
    return cpu.box_sum(x, radius)


@box_sum.register_fake
def _(x, radius):
    return torch.empty_like(x)


box_sum.register_autograd(
    lambda ctx, grad: (box_sum(grad, ctx.radius), None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "radius", inputs[1]),
)


def pixels_in_window(x: Tensor, radius: int) -> Tensor:
    """The number of pixels inside the image in the window around each pixel, [H, W]."""
    counts = []
    for length in x.shape[-2:]:
        position = torch.arange(length, device=x.device)
        counts.append((position + radius).clamp(max=length - 1) - (position - radius).clamp(min=0) + 1)
    return (counts[0][:, None] * counts[1]).to(x.dtype)


def composition(guide: Tensor, x: Tensor, radius: int, eps: float, stride: int) -> Tensor:
    """The guided filter by differentiable operators; guide [B, C, H, W] and x [B, C, h, w] have the same dtype."""
    size = (guide.shape[-2], guide.shape[-1])
    if x.shape[-2:] != guide.shape[-2:]:
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    if stride == 1:
        rows = max(2 * radius + 32, _BAND_ELEMENTS // (guide.shape[1] * guide.shape[3]))
        bands = [_filter_rows(guide, x, first, last, radius, eps) for first, last in row_bands(guide, rows)]
        return bands[0] if len(bands) == 1 else torch.cat(bands, 2)
    g, y = subsampled(guide), subsampled(x)
    origin, height = _origin(g), _origin(y)
    m, n = _coefficients(g - origin, y - height, radius // 2, eps)
    m, n = (F.interpolate(t, size=size, mode="bilinear", align_corners=False) for t in (m, n.add_(height)))
    return torch.addcmul(n, m, guide - origin)


def _filter_rows(guide: Tensor, x: Tensor, first: int, last: int, radius: int, eps: float) -> Tensor:
    """Rows `first` to `last` (excluded) of the filtered map, computed from the rows within 2 radius of them."""
    top, bottom = max(0, first - 2 * radius), min(guide.shape[-2], last + 2 * radius)
    guide, x = guide[..., top:bottom, :], x[..., top:bottom, :]
    guide, height = guide - _origin(guide), _origin(x)
    m, n = (t[..., first - top : last - top, :] for t in _coefficients(guide, x - height, radius, eps))
    return torch.addcmul(n, m, guide[..., first - top : last - top, :]).add_(height)


def _coefficients(guide: Tensor, x: Tensor, radius: int, eps: float) -> tuple[Tensor, Tensor]:
    """m and n of x ~ m guide + n, each averaged over the windows that contain a pixel."""
    pixels = pixels_in_window(x, radius)

    def mean(t: Tensor) -> Tensor:
        return box_sum(t, radius).div_(pixels)

    mean_guide, mean_x = mean(guide), mean(x)
    covariance = mean(guide * x).addcmul_(mean_guide, mean_x, value=-1)
    variance = mean(guide * guide).addcmul_(mean_guide, mean_guide, value=-1)
    m = covariance / ridged(variance, eps)
    n = torch.addcmul(mean_x, m, mean_guide, value=-1)
    return mean(m), mean(n)


def _origin(x: Tensor) -> Tensor:
    """The mean of each channel, [B, C, 1, 1], which is subtracted for precision; 0 where it is not finite.

    Shifting the guide does not change the filter, and shifting x shifts the result. So the subtraction does not change
    the derivatives, and the mean needs no gradient.
    """
    return x.detach().mean((2, 3), keepdim=True).nan_to_num(0.0, 0.0, 0.0)


def ridged(variance: Float[Tensor, "B C H W"], eps: float) -> Float[Tensor, "B C H W"]:
    """variance + eps; infinite where it would be 0 (without a ridge), so that a constant guide gets slope 0."""
    return variance + eps if eps > 0 else variance.masked_fill(variance <= 0, float("inf"))


def subsampled(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Pixels 0, 2, 4, ... along both axes: floor(H / 2) x floor(W / 2), but at least 1 x 1."""
    H, W = x.shape[-2:]
    return x[..., : max(H // 2, 1) * 2 : 2, : max(W // 2, 1) * 2 : 2]


def compiles(guide: Tensor, x: Tensor, stride: int, in_graph: bool = False) -> bool:
    """Whether the compiled kernels of `numba.py` can filter these maps.

    If PyTorch's operators are recorded (see `operators_are_recorded`), the kernels can only run as an operator in the
    graph of torch.compile (`in_graph`).
    """
    fp32 = guide.dtype == x.dtype == torch.float32
    return fp32 and stride == 1 and guide.numel() > 0 and (in_graph or not operators_are_recorded(guide, x))


def _compiled_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    from resfu.ops.filters import numba

    return numba.guided_filter(guide, x, radius, eps)


guided_filter_in_graph = graph_operator(
    "compiled_guided_filter",
    "Tensor guide, Tensor x, int radius, float eps",
    _compiled_filter,
    lambda guide, *others: torch.empty_like(guide, memory_format=torch.contiguous_format),
)


@torch.library.custom_op("resfu::guided_filter", mutates_args=())
def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """`api.guided_filter` with stride 1 in Triton kernels, which do not write the upsampled x to memory."""
    from resfu.ops.filters import triton

    return triton.guided_filter(guide, x, radius, eps)


@guided_filter.register_fake
def _(guide, x, radius, eps):
    dtype = torch.promote_types(guide.dtype, x.dtype)
    return torch.empty(guide.shape, dtype=dtype, device=guide.device, memory_format=memory_format(guide))


def _save_inputs(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.radius, ctx.eps = inputs[2:]


def _differentiate(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate by running the filter again with PyTorch operators, all of which have deterministic gradients."""
    again = torch.is_grad_enabled()  # whether a second derivative may be needed
    with torch.enable_grad(), without_autocast(grad):
        guide, x = (t.view_as(t) for t in ctx.saved_tensors)  # derivatives stop here, even if x depends on the guide
        result, dtype = torch.promote_types(guide.dtype, x.dtype), exact_dtype(guide, x)
        full = x.to(dtype)
        if x.shape[-2:] != guide.shape[-2:]:
            full = upsample(full, (guide.shape[-2], guide.shape[-1]))
        out = _filter_rows(guide.to(dtype), full, 0, guide.shape[-2], ctx.radius, ctx.eps).to(result)
    wanted = [t for t, needed in zip((guide, x), ctx.needs_input_grad[:2], strict=True) if needed]
    grads = iter(torch.autograd.grad(out, wanted, grad, create_graph=again))
    return *(next(grads) if needed else None for needed in ctx.needs_input_grad[:2]), None, None


guided_filter.register_autograd(_differentiate, setup_context=_save_inputs)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize x bilinearly, as two products of matrices."""
    (h, w), (H, W) = x.shape[-2:], size
    return interpolation_matrix(H, h, x) @ x @ interpolation_matrix(W, w, x).mT
