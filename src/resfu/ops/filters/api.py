"""Window means, the guided filter and the 3 x 3 Gaussian: the filters that align query and key."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.checks import check_int, check_maps
from resfu.ops.filters import reference
from resfu.ops.filters.reference import ridged, subsampled
from resfu.ops.grid import interpolation_matrix, row_bands
from resfu.ops.layout import memory_format, pad
from resfu.ops.precision import at_least_fp32, exact_dtype, without_autocast
from resfu.ops.reassembly.api import which_backend
from resfu.ops.transforms import refuse_derivatives

_BAND_ELEMENTS = 1 << 20  # of a band of the guided filter: 4 MB in fp32


@torch.library.custom_op("resfu::box_sum", mutates_args=())
def _box_sum(x: Tensor, radius: int) -> Tensor:
    """Sum over a (2 radius + 1)^2 window, zero beyond the border: self-adjoint, so its own backward."""
    if x.numel() == 0:
        return torch.empty_like(x)
    padded = F.pad(x, (radius,) * 4)
    spare = [torch.empty_like(padded), torch.empty_like(padded)]
    columns = _sliding_sum(padded, 2 * radius + 1, -2, spare)
    spare = [padded, next(s for s in spare if s.data_ptr() != columns.data_ptr())]
    out = torch.empty_like(x)
    return out.copy_(_sliding_sum(columns, 2 * radius + 1, -1, spare))


@_box_sum.register_fake
def _(x, radius):
    return torch.empty_like(x)


_box_sum.register_autograd(
    lambda ctx, grad: (_box_sum(grad, ctx.radius), None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "radius", inputs[1]),
)


def _sliding_sum(x: Tensor, length: int, dim: int, spare: list[Tensor]) -> Tensor:
    """out[i] = x[i] + ... + x[i + length - 1] along an axis, in one of two spare buffers at least as large as x.

    The binary digits of the length, from the top: a run of 2 n entries is two runs of n, a run of n + 1 one entry more.
    About log2(length) additions an entry, and no allocation.
    """
    rows, columns = x.shape[-2:]
    run, span = x, 1
    for digit in bin(length)[3:]:
        count = run.shape[dim] - span
        target = spare[0][..., :rows, :columns].narrow(dim, 0, count)
        run = torch.add(run.narrow(dim, 0, count), run.narrow(dim, span, count), out=target)
        spare, span = spare[::-1], span * 2
        if digit == "1":
            run = run.narrow(dim, 0, count - 1).add_(x.narrow(dim, span, count - 1))
            span += 1
    return run


def _pixels_in_window(x: Tensor, radius: int) -> Tensor:
    """[H, W]: how many pixels of the window around each pixel exist."""
    counts = []
    for length in x.shape[-2:]:
        position = torch.arange(length, device=x.device)
        counts.append((position + radius).clamp(max=length - 1) - (position - radius).clamp(min=0) + 1)
    return (counts[0][:, None] * counts[1]).to(x.dtype)


def box_filter(x: Float[Tensor, "B C H W"], radius: int) -> Float[Tensor, "B C H W"]:
    """Mean over a square window of (2 radius + 1)^2 pixels; at the border over the pixels that exist.

    Args:
        x: [B, C, H, W].
        radius: in pixels, at least 0.

    Returns:
        [B, C, H, W], computed in fp32 at least. A constant map comes back unchanged.

    Raises:
        ValueError: for anything but a floating point map, a negative radius, or a derivative in forward mode or by
            torch.func.
    """
    check_maps(x=x)
    check_int("radius", radius, least=0)
    refuse_derivatives("box_filter", x)
    exact = at_least_fp32(x)
    return (_box_sum(exact, radius) / _pixels_in_window(exact, radius)).to(x.dtype)


def guided_filter(
    guide: Float[Tensor, "B C H W"],
    x: Float[Tensor, "B C h w"],
    radius: int = 8,
    eps: float = 1e-3,
    stride: int = 1,
    backend: str = "auto",
) -> Float[Tensor, "B C H W"]:
    """Filter x so that it follows the edges of the guide, channel by channel.

    In every window x is modelled as m guide + n by ridge regression; the coefficients of all windows that hold a pixel
    are averaged there (He et al., Guided Image Filtering, 2013; ReSFU, arXiv 2407.02283, Sec. III-B).

    Args:
        guide: [B, C, H, W].
        x: [B, C, h, w]; where it is smaller than the guide, it is brought to its size bilinearly.
        radius: of the windows, in pixels of the full resolution.
        eps: ridge, in units of the guide's variance, at least 0. With 0 windows without variance have m = 0, and those
            with almost none follow their rounding errors.
        stride: 1 computes the coefficients at full resolution; 2 on pixels 0, 2, 4, ... of both axes, floor(H/2) x
            floor(W/2) of them but at least 1 x 1, with half the radius, and brings them back bilinearly.
        backend: as in `reassemble`; "triton" has kernels for stride 1 and runs the operators of "cpu" for stride 2.

    Returns:
        [B, C, H, W], filtered in fp32 at least and returned in the promoted dtype of guide and x. In the kernels a NaN
        or an infinity reaches beyond the windows that hold it.

    Raises:
        ValueError: for anything but floating point maps, another stride, a negative radius or eps, an x of other images
            or channels or larger than the guide, a backend that can't run here, or a derivative in forward mode or by
            torch.func, which "reference" alone has.
    """
    check_maps(guide=guide, x=x)
    check_int("radius", radius, least=0)
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}.")
    if not 0 <= eps < float("inf"):
        raise ValueError(f"eps must be a number from 0, got {eps!r}.")
    (H, W), (h, w) = guide.shape[-2:], x.shape[-2:]
    if guide.shape[:2] != x.shape[:2] or H < h or W < w:
        raise ValueError(
            f"x must hold the guide's images and channels and be at most as large as the guide {list(guide.shape)}, "
            f"got {list(x.shape)}."
        )
    backend = which_backend(guide, backend)
    result, dtype = torch.promote_types(guide.dtype, x.dtype), exact_dtype(guide, x)
    if backend == "reference":
        return reference.guided_filter(guide.to(dtype), x.to(dtype), radius, eps, stride).to(result)
    refuse_derivatives("guided_filter", guide, x)
    if backend == "triton" and stride == 1:
        return _guided_filter(guide, x, radius, eps)
    with without_autocast(guide):
        guide, x = guide.to(dtype), x.to(dtype)
        if (h, w) != (H, W):
            x = F.interpolate(x, size=(H, W), mode="bilinear", align_corners=False)
        if stride == 1:
            rows = max(2 * radius + 32, _BAND_ELEMENTS // (guide.shape[1] * guide.shape[3]))
            bands = [_filter_rows(guide, x, first, last, radius, eps) for first, last in row_bands(guide, rows)]
            return (bands[0] if len(bands) == 1 else torch.cat(bands, 2)).to(result)
        g, y = subsampled(guide), subsampled(x)
        origin, height = _origin(g), _origin(y)
        m, n = _coefficients(g - origin, y - height, radius // 2, eps)
        m, n = (F.interpolate(t, size=(H, W), mode="bilinear", align_corners=False) for t in (m, n.add_(height)))
        return torch.addcmul(n, m, guide - origin).to(result)


@torch.library.custom_op("resfu::guided_filter", mutates_args=())
def _guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """`guided_filter` with stride 1 in Triton kernels, which never write x at the guide's size."""
    from resfu.ops.filters import triton

    return triton.guided_filter(guide, x, radius, eps)


@_guided_filter.register_fake
def _(guide, x, radius, eps):
    dtype = torch.promote_types(guide.dtype, x.dtype)
    return torch.empty(guide.shape, dtype=dtype, device=guide.device, memory_format=memory_format(guide))


def _save_inputs(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.radius, ctx.eps = inputs[2:]


def _differentiate(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Through PyTorch operators that are run again here, all of which add up gradients in a fixed order."""
    again = torch.is_grad_enabled()  # is there to be a second derivative?
    with torch.enable_grad(), without_autocast(grad):
        guide, x = (t.view_as(t) for t in ctx.saved_tensors)  # derivatives stop here, even where x comes from the guide
        result, dtype = torch.promote_types(guide.dtype, x.dtype), exact_dtype(guide, x)
        full = x.to(dtype)
        if x.shape[-2:] != guide.shape[-2:]:
            full = _upsample(full, (guide.shape[-2], guide.shape[-1]))
        out = _filter_rows(guide.to(dtype), full, 0, guide.shape[-2], ctx.radius, ctx.eps).to(result)
    wanted = [t for t, needed in zip((guide, x), ctx.needs_input_grad[:2], strict=True) if needed]
    grads = iter(torch.autograd.grad(out, wanted, grad, create_graph=again))
    return *(next(grads) if needed else None for needed in ctx.needs_input_grad[:2]), None, None


_guided_filter.register_autograd(_differentiate, setup_context=_save_inputs)


def _upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x brought to a size bilinearly, as two products of matrices."""
    (h, w), (H, W) = x.shape[-2:], size
    return interpolation_matrix(H, h, x) @ x @ interpolation_matrix(W, w, x).mT


def _filter_rows(guide: Tensor, x: Tensor, first: int, last: int, radius: int, eps: float) -> Tensor:
    """Rows first .. last of the filtered map, from the rows within 2 radius of them."""
    top, bottom = max(0, first - 2 * radius), min(guide.shape[-2], last + 2 * radius)
    guide, x = guide[..., top:bottom, :], x[..., top:bottom, :]
    guide, height = guide - _origin(guide), _origin(x)
    m, n = (t[..., first - top : last - top, :] for t in _coefficients(guide, x - height, radius, eps))
    return torch.addcmul(n, m, guide[..., first - top : last - top, :]).add_(height)


def _coefficients(guide: Tensor, x: Tensor, radius: int, eps: float) -> tuple[Tensor, Tensor]:
    pixels = _pixels_in_window(x, radius)

    def mean(t: Tensor) -> Tensor:
        return _box_sum(t, radius).div_(pixels)

    mean_guide, mean_x = mean(guide), mean(x)
    covariance = mean(guide * x).addcmul_(mean_guide, mean_x, value=-1)
    variance = mean(guide * guide).addcmul_(mean_guide, mean_guide, value=-1)
    m = covariance / ridged(variance, eps)
    n = torch.addcmul(mean_x, m, mean_guide, value=-1)
    return mean(m), mean(n)


def _origin(x: Tensor) -> Tensor:
    """The mean of each channel, [B, C, 1, 1]; 0 where a pixel is not finite, which is then the only one to suffer.

    The filter moves along with its maps, so its derivatives in them are the same about every origin.
    """
    return x.detach().mean((2, 3), keepdim=True).nan_to_num(0.0, 0.0, 0.0)


def gaussian_filter(x: Float[Tensor, "B C H W"], sigma: float = 1.0) -> Float[Tensor, "B C H W"]:
    """3 x 3 Gaussian of every channel, normalised, with replicated borders (ReSFU's detail key).

    Args:
        x: [B, C, H, W].
        sigma: standard deviation in pixels.

    Returns:
        [B, C, H, W]. At sigma 1 the weights are 0.2042 in the centre, 0.1238 beside it and 0.0751 in the corners.

    Raises:
        ValueError: for anything but a floating point map, or a sigma that is not above 0.
    """
    check_maps(x=x)
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma must be a number above 0, got {sigma!r}.")
    offsets = torch.arange(-1, 2, dtype=torch.float32, device=x.device)
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    weight = torch.outer(line, line)
    weight = weight / weight.sum()  # fp32, as the published code has them
    channels = x.shape[1]
    padded = pad(x, 1, 1)
    return F.conv2d(padded, weight.to(x.dtype).expand(channels, 1, 3, 3), groups=channels)
