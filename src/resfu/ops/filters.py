"""Window means, the guided filter and the 3 x 3 Gaussian: the filters that align query and key."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.grid import row_bands


class _WindowSum(torch.autograd.Function):
    """Sum over a (2 radius + 1)^2 window, zero beyond the border: self-adjoint, so its own backward."""

    @staticmethod
    def forward(x: Tensor, radius: int) -> Tensor:
        return _axis_sum(_axis_sum(x, radius, -2), radius, -1)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.radius = inputs[1]

    @staticmethod
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        return _WindowSum.apply(grad, ctx.radius), None


def _axis_sum(x: Tensor, radius: int, dim: int) -> Tensor:
    """Sliding sum along an axis by doubling: log2 of the window's length additions instead of its length."""
    size, length = x.shape[dim], 2 * radius + 1
    pad = (0, 0, radius, radius) if dim == -2 else (radius, radius)
    run, span = F.pad(x, pad), 1  # run[i] = sum of `span` entries of the padded axis from i
    total, offset = None, 0
    while True:
        if length & span:
            part = run.narrow(dim, offset, size)
            total = part if total is None else total + part
            offset += span
        if span * 2 > length:
            assert total is not None
            return total
        reach = run.shape[dim] - span
        run, span = run.narrow(dim, 0, reach) + run.narrow(dim, span, reach), span * 2


def _counts(length: int, radius: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    position = torch.arange(length, device=device)
    return ((position + radius).clamp(max=length - 1) - (position - radius).clamp(min=0) + 1).to(dtype)


def box_filter(x: Float[Tensor, "B C H W"], radius: int) -> Float[Tensor, "B C H W"]:
    """Mean over a square window of (2 radius + 1)^2 pixels; at the border over the pixels that exist.

    Args:
        x: [B, C, H, W].
        radius: in pixels, at least 0.

    Returns:
        [B, C, H, W]. A constant map comes back unchanged.
    """
    if radius < 0:
        raise ValueError(f"radius must be at least 0, got {radius}.")
    rows = _counts(x.shape[-2], radius, x.device, x.dtype)[:, None]
    columns = _counts(x.shape[-1], radius, x.device, x.dtype)
    total = _WindowSum.apply(x, radius)
    return total / (rows * columns)  # pyright: ignore[reportOperatorIssue]


def guided_filter(
    guide: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"], radius: int = 8, eps: float = 1e-3, stride: int = 1
) -> Float[Tensor, "B C H W"]:
    """Filter x so that it follows the edges of the guide, channel by channel.

    In every window x is modelled as m guide + n by ridge regression; the coefficients of all windows that hold a pixel
    are averaged there (He et al., Guided Image Filtering, 2013; ReSFU, arXiv 2407.02283, Sec. III-B).

    Args:
        guide: [B, C, H, W].
        x: [B, C, H, W].
        radius: of the windows, in pixels of the full resolution.
        eps: ridge, in units of the guide's variance.
        stride: 1 computes the coefficients at full resolution; 2 on every other pixel with half the radius, and brings
            them back bilinearly.

    Returns:
        [B, C, H, W], computed in fp32 at least and returned in the promoted dtype of guide and x.
    """
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}.")
    result = torch.promote_types(guide.dtype, x.dtype)
    dtype = torch.promote_types(result, torch.float32)
    with torch.autocast(guide.device.type, enabled=False):
        guide, x = guide.to(dtype), x.to(dtype)
        if stride == 1:
            bands = [
                _filter_rows(guide, x, first, last, radius, eps) for first, last in row_bands(guide, 2 * radius + 48)
            ]
            return (bands[0] if len(bands) == 1 else torch.cat(bands, 2)).to(result)
        m, n = _coefficients(guide[..., ::2, ::2], x[..., ::2, ::2], radius // 2, eps)
        m, n = (F.interpolate(t, size=guide.shape[-2:], mode="bilinear", align_corners=False) for t in (m, n))
        return (m * guide + n).to(result)


def _filter_rows(guide: Tensor, x: Tensor, first: int, last: int, radius: int, eps: float) -> Tensor:
    """Rows first .. last of the filtered map, from the rows within 2 radius of them."""
    top, bottom = max(0, first - 2 * radius), min(guide.shape[-2], last + 2 * radius)
    m, n = _coefficients(guide[..., top:bottom, :], x[..., top:bottom, :], radius, eps)
    rows = slice(first - top, last - top)
    return m[..., rows, :] * guide[..., first:last, :] + n[..., rows, :]


def _coefficients(guide: Tensor, x: Tensor, radius: int, eps: float) -> tuple[Tensor, Tensor]:
    mean_guide, mean_x = box_filter(guide, radius), box_filter(x, radius)
    covariance = box_filter(guide * x, radius) - mean_guide * mean_x
    variance = box_filter(guide * guide, radius) - mean_guide * mean_guide
    m = covariance / (variance + eps)
    n = mean_x - m * mean_guide
    return box_filter(m, radius), box_filter(n, radius)


def gaussian_filter(x: Float[Tensor, "B C H W"], sigma: float = 1.0) -> Float[Tensor, "B C H W"]:
    """3 x 3 Gaussian of every channel, normalised, with replicated borders (ReSFU's detail key).

    Args:
        x: [B, C, H, W].
        sigma: standard deviation in pixels.

    Returns:
        [B, C, H, W]. At sigma 1 the weights are 0.2042 in the centre, 0.1238 beside it and 0.0751 in the corners.
    """
    offsets = torch.arange(-1, 2, dtype=torch.float32, device=x.device)
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    weight = torch.outer(line, line)
    weight = weight / weight.sum()  # fp32, as the published code has them
    edge, corner, centre = weight[0, 1], weight[0, 0], weight[1, 1]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    height, width = x.shape[-2:]

    def at(y: int, x: int) -> Tensor:
        return padded[..., y : y + height, x : x + width]

    edges = at(0, 1) + at(1, 0) + at(1, 2) + at(2, 1)
    corners = at(0, 0) + at(0, 2) + at(2, 0) + at(2, 2)
    return centre * x + edge * edges + corner * corners
