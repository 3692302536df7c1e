"""Window means, the guided filter and the 3 x 3 Gaussian: the filters that align query and key."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import which_backend
from resfu.ops.checks import check_int, check_maps
from resfu.ops.filters import operators, portable, reference
from resfu.ops.in_graphs import kernels_in_graph
from resfu.ops.layout import pad
from resfu.ops.precision import at_least_fp32, exact_dtype, without_autocast
from resfu.ops.transforms import refuse_derivatives


def box_filter(x: Float[Tensor, "B C H W"], radius: int) -> Float[Tensor, "B C H W"]:
    """Mean over a square window of (2 radius + 1)^2 pixels; at the border, over the pixels inside the image.

    Args:
        x: [B, C, H, W].
        radius: in pixels, at least 0.

    Returns:
        [B, C, H, W], computed in at least fp32. Constants stay constant.

    Raises:
        ValueError: for anything but a floating point map, a negative radius, or a forward-mode or torch.func
            derivative.

    >>> resfu.ops.box_filter(torch.tensor([[[[0.0, 3.0, 6.0]]]]), radius=1)  # means inside the image
    tensor([[[[1.5000, 3.0000, 4.5000]]]])
    """
    check_maps(x=x)
    check_int("radius", radius, least=0)
    refuse_derivatives("box_filter", x)
    exact = at_least_fp32(x)
    if which_backend(x) == "portable":
        return portable.window_mean(exact, radius).to(x.dtype)
    return (operators.box_sum(exact, radius) / operators.pixels_in_window(exact, radius)).to(x.dtype)


def guided_filter(
    guide: Float[Tensor, "B C H W"],
    x: Float[Tensor, "B C h w"],
    radius: int = 8,
    eps: float = 1e-3,
    stride: int = 1,
    backend: str = "auto",
) -> Float[Tensor, "B C H W"]:
    """Filter x so that it follows the edges of the guide, channel by channel.

    In every window x is modelled as m guide + n by ridge regression. At every pixel, the coefficients of all windows
    that contain it are averaged (He et al., Guided Image Filtering, 2013; ReSFU, arXiv 2407.02283, Sec. III-B).

    Args:
        guide: [B, C, H, W].
        x: [B, C, h, w]; if it is smaller than the guide, it is first upsampled to the guide's size bilinearly.
        radius: of the windows, in pixels of the full resolution.
        eps: ridge, in units of the guide's variance, at least 0. If it is 0, m is 0 in windows without variance, and
            follows rounding errors in windows with almost none.
        stride: 1 computes the coefficients at full resolution. 2 computes them on pixels 0, 2, 4, ... of both axes
            (floor(H/2) x floor(W/2), but at least 1 x 1) with half the radius, and upsamples them bilinearly.
        backend: as in `reassemble`; "triton" and "numba" have kernels for stride 1 and run the operators of "cpu"
            for stride 2.

    Returns:
        [B, C, H, W], computed in at least fp32 and returned in the promoted dtype of guide and x. In the kernels, a NaN
        or infinity may reach pixels whose windows do not contain it.

    Raises:
        ValueError: for anything but floating point maps, another stride, a negative radius or eps, an x with another
            number of images or channels or larger than the guide, a backend that cannot run here, or a forward-mode or
            torch.func derivative, which only "reference" supports.

    >>> guide, features = torch.randn(1, 8, 32, 32), torch.randn(1, 8, 16, 16)
    >>> resfu.ops.guided_filter(guide, features).shape  # the features' content with the edges of the guide
    torch.Size([1, 8, 32, 32])
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
    requested, backend = backend, which_backend(guide, backend)
    in_graph = backend in ("cpu", "numba") and kernels_in_graph(guide, requested)
    if in_graph and operators.compiles(guide, x, stride, in_graph):
        return operators.guided_filter_in_graph(guide, x, radius, eps)
    result, dtype = torch.promote_types(guide.dtype, x.dtype), exact_dtype(guide, x)
    if backend in ("reference", "portable"):
        plain = reference if backend == "reference" else portable
        return plain.guided_filter(guide.to(dtype), x.to(dtype), radius, eps, stride).to(result)
    refuse_derivatives("guided_filter", guide, x)
    if backend == "numba" and operators.compiles(guide, x, stride):
        from resfu.ops.filters import numba

        return numba.guided_filter(guide, x, radius, eps)
    if backend == "triton" and stride == 1:
        return operators.guided_filter(guide, x, radius, eps)
    with without_autocast(guide):
        return operators.composition(guide.to(dtype), x.to(dtype), radius, eps, stride).to(result)


def gaussian_filter(x: Float[Tensor, "B C H W"], sigma: float = 1.0) -> Float[Tensor, "B C H W"]:
    """Filter every channel with a normalised 3 x 3 Gaussian, with replicated borders (ReSFU's detail key).

    Args:
        x: [B, C, H, W].
        sigma: standard deviation in pixels.

    Returns:
        [B, C, H, W]. At sigma 1 the weights are 0.2042 in the centre, 0.1238 beside it and 0.0751 in the corners.

    Raises:
        ValueError: for anything but a floating point map, or a sigma that is not above 0.

    >>> x = torch.zeros(1, 1, 5, 5)
    >>> x[..., 2, 2] = 1
    >>> resfu.ops.gaussian_filter(x)[0, 0, 2]
    tensor([0.0000, 0.1238, 0.2042, 0.1238, 0.0000])
    """
    check_maps(x=x)
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma must be a number above 0, got {sigma!r}.")
    channels = x.shape[1]
    padded = pad(x, 1, 1)
    weight = gaussian_weight(x.device, sigma)
    return F.conv2d(padded, weight.to(x.dtype).expand(channels, 1, 3, 3), groups=channels)


def gaussian_weight(device: torch.device, sigma: float = 1.0) -> Float[Tensor, "3 3"]:
    """The weights of `gaussian_filter`, in fp32 as in the published code."""
    offsets = torch.arange(-1, 2, dtype=torch.float32, device=device)
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    weight = torch.outer(line, line)
    return weight / weight.sum()
