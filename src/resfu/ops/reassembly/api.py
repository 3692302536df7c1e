"""Reassembly: the weighted sum over a K x K neighbourhood that kernel-based upsamplers share."""

import torch
from torch import Tensor

from resfu.ops.backends import which_backend
from resfu.ops.checks import check_divides, check_maps, check_odd, check_widths, pair, window_size
from resfu.ops.destination import check_destination
from resfu.ops.empty import connected
from resfu.ops.in_graphs import kernels_in_graph
from resfu.ops.layout import PADDINGS, memory_format
from resfu.ops.precision import exact_dtype
from resfu.ops.reassembly import operators, portable, reference
from resfu.ops.reassembly.borders import bordered
from resfu.ops.reassembly.softmax import softmax_from_centre, window_softmax
from resfu.ops.transforms import refuse_derivatives

NEIGHBOURS = {"fine": "replicate", "coarse": "zero", "central": "shift", "dense": "reflect"}


def reassemble(
    features: Tensor,
    weights: Tensor,
    size: tuple[int, int] | None = None,
    neighbours: str = "fine",
    padding: str | None = None,
    groups: int = 1,
    backend: str = "auto",
    softmax: bool = False,
    mask: bool = False,
    from_centre: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Sum each pixel's K x K neighbours with that pixel's own weights.

    out[b, c, p, q] = sum_n weights[b, g(c) K^2 + n, p, q] * value_n(b, c, p, q), with n = iy K + ix row-major and
    g(c) = floor(c groups / C). `neighbours` defines value_n:

    - "fine": features sampled bilinearly at the pixel's own low-resolution position plus (iy - K//2, ix - K//2)
      low-resolution pixels (ReSFU's fine-grained neighbour selection, arXiv 2407.02283, Sec. III-D). Any real ratio.
    - "coarse": the feature of the low-resolution pixel that contains (p, q), shifted by the same offset (CARAFE, SAPA,
      FADE).
    - "central": as "coarse", but from the low-resolution pixel that contains the centre of (p, q) (NAF, arXiv
      2511.18452). At whole ratios it equals "coarse".
    - "dense": the features already have the output's size, and offsets are counted in output pixels (JBU).

    Args:
        features: [B, C, h, w], floating point, any strides.
        weights: [B, groups * K * K, H, W], K odd. They are used unchanged, unless `softmax`.
        size: (H, W) of the output; must be the weights' size, which is the default.
        neighbours: "fine", "coarse", "central" or "dense".
        padding: how the features continue beyond their border: "zero", "replicate", "reflect" or "shift". "shift" moves
            windows inwards until they lie inside (neighbourhood attention). Pixels keep their place modulo K: one that
            would lie beyond a border is replaced by the pixel K further inside. If an axis has fewer than K pixels,
            its first indices hold each pixel once, and the others repeat some of them.
            Default: the published rule, "replicate" for fine, "zero" for coarse, "shift" for central, "reflect" for
            dense.
        groups: number of blocks of channels, each with weights of its own; divides C.
        backend: "reference" (written as the equation, any device), "cpu" (fast PyTorch operators), "numba" and "triton"
            (compiled kernels), "portable" (only standard operators, for other runtimes) or "auto", see
            `which_backend`.
        softmax: treat the weights as scores: their softmax over the K x K neighbours of each group weighs the features,
            in at least fp32. On CUDA without gradients the softmax is part of the sum's kernel, and no weights are
            written to memory.
        mask: with `softmax`, give weight 0 to neighbours whose position lies outside the image (ReSFU). The position is
            the pixel's own low-resolution position plus the offset, whatever `neighbours` is.
        from_centre: with `softmax`, the weights are 1 at the centre neighbour plus the difference of the softmax from
            that of scores of 0, where both softmaxes add 4 to the centre's score. So with scores of 0 the result is the
            centre neighbour: for "fine", bilinear interpolation. Other scores can still choose any neighbour.
        out: [B, C, H, W] in the features' dtype; if given, the result is written into it, which saves the page faults
            of new memory. Only without gradients.

    Returns:
        [B, C, H, W] in the features' dtype and memory format (contiguous or channels-last). Sums run in at least fp32.
        A NaN or infinity may reach pixels whose window does not contain it: on "cpu" up to 3 pixels further, at ratios
        below 3; on "numba" and "triton" all pixels of a tile whose shared window contains it.

    Raises:
        ValueError: for wrong ranks, integer tensors, an even K, groups that do not divide C, a size that is not the
            weights' or smaller than the features, a mask without softmax, a backend that cannot run here, or a
            forward-mode or torch.func derivative, which only "reference" supports.

    >>> weights = torch.full((1, 9, 4, 4), 1 / 9)  # the mean of each pixel's 3 x 3 low-resolution neighbours
    >>> resfu.ops.reassemble(torch.ones(1, 8, 2, 2), weights).shape
    torch.Size([1, 8, 4, 4])
    """
    check_maps(features=features, weights=weights)
    if (mask or from_centre) and not softmax:
        name, does = ("mask", "leaves neighbours out of") if mask else ("from_centre", "changes the weights of")
        raise ValueError(f"{name}=True {does} a softmax: it needs softmax=True.")
    check_divides("groups", groups, "the features' width", features.shape[1])
    K = window_size("weights", weights.shape[1], groups)
    if size is not None and pair("size", size) != tuple(weights.shape[-2:]):
        raise ValueError(f"size {tuple(size)} is not the weights' size {tuple(weights.shape[-2:])}.")
    padding = _padding(features, tuple(weights.shape[-2:]), K, neighbours, padding)
    requested, backend = backend, which_backend(features, backend)
    if out is not None:
        check_destination(out, (*features.shape[:2], *weights.shape[-2:]), features, weights)
        if backend != "numba" or not out.is_contiguous():
            given = size, neighbours, padding, groups, backend, softmax, mask, from_centre
            return out.copy_(reassemble(features, weights, *given))
    if features.numel() == 0:
        return connected(features.new_empty((*features.shape[:2], *weights.shape[-2:])), features, weights)
    result, low = features.dtype, (features.shape[-2], features.shape[-1])
    compiles = backend == "numba" and softmax and operators.compiles(features, weights, K, neighbours, groups)
    fits = backend in ("cpu", "numba") and softmax and out is None
    fits = fits and operators.fits(features, weights, K, neighbours, groups) and kernels_in_graph(features, requested)
    if from_centre and not compiles and not fits:
        weights = softmax_from_centre(weights, groups, low if mask else None)
        softmax = mask = from_centre = False
    recorded = torch.is_grad_enabled() and (features.requires_grad or weights.requires_grad)
    planar = memory_format(features) == torch.contiguous_format
    if backend == "numba" and planar and operators.compiles_whole(features, weights, K, neighbours, groups, mask):
        from resfu.ops.reassembly import numba_real

        return numba_real.reassemble(bordered(features, K // 2, padding), weights, K, low, softmax, out)
    if compiles:
        from resfu.ops.reassembly import numba

        return numba.softmax_window_sum(bordered(features, 2, padding), weights, *low, mask, from_centre, out)
    if fits:
        return operators.compiled_softmax_window_sum(bordered(features, 2, padding), weights, *low, mask, from_centre)
    fused = softmax and backend == "triton" and not recorded
    if out is not None:
        return out.copy_(reassemble(features, weights, size, neighbours, padding, groups, "cpu", softmax, mask))
    if softmax and not fused:
        weights = window_softmax(weights, groups, low if mask else None)
    features, weights = _summable(features, weights, backend)
    if backend in ("reference", "portable"):
        plain = reference if backend == "reference" else portable
        return plain.reassemble(features, weights, neighbours, padding, groups).to(result)
    refuse_derivatives("reassemble", features, weights)
    reach = operators.size(K, neighbours) // 2
    features = bordered(features, reach, padding)  # the same name, so that the unpadded map can be freed
    if fused:
        return operators.softmax_window_sum(features, weights, K, *low, neighbours, groups, mask)
    return operators.reassemble(features, weights, low, neighbours, groups).to(result)


def correlate(
    query: Tensor,
    key: Tensor,
    kernel_size: int,
    neighbours: str = "coarse",
    padding: str | None = None,
    backend: str = "auto",
) -> Tensor:
    """Score each pixel's K x K neighbours by the inner product of query and key.

    score[b, n, p, q] = sum_c query[b, c, p, q] * value_n(b, c, p, q), where value_n is read from the key as
    `reassemble` reads its features (SAPA, arXiv 2209.12866; JBU's range kernel, arXiv 2403.10516). It is the adjoint of
    `reassemble` with respect to the weights.

    Args:
        query: [B, D, H, W], floating point, any strides.
        key: [B, D, h, w]; for "dense" it has the query's size.
        kernel_size: K, odd.
        neighbours: "fine", "coarse", "central" or "dense".
        padding: the values beyond the key's border, as in `reassemble`.
        backend: as in `reassemble`.

    Returns:
        [B, K * K, H, W] in the query's dtype, n = iy K + ix. Sums run in at least fp32.

    Raises:
        ValueError: for wrong ranks or widths, integer tensors, an even K, a query smaller than the key, a backend that
            cannot run here, or a derivative that `reassemble` refuses.

    >>> resfu.ops.correlate(torch.randn(1, 8, 4, 4), torch.randn(1, 8, 2, 2), kernel_size=3).shape
    torch.Size([1, 9, 4, 4])
    """
    check_maps(query=query, key=key)
    check_widths(query=query, key=key)
    check_odd("kernel_size", kernel_size)
    padding = _padding(key, tuple(query.shape[-2:]), kernel_size, neighbours, padding)
    backend = which_backend(query, backend)
    if query.numel() == 0:
        return connected(query.new_zeros((query.shape[0], kernel_size**2, *query.shape[-2:])), query, key)
    result, low = query.dtype, (key.shape[-2], key.shape[-1])
    if backend == "numba" and operators.compiles_whole(key, query, kernel_size, neighbours):
        from resfu.ops.reassembly import numba_real

        return numba_real.correlate(query, bordered(key, kernel_size // 2, padding), kernel_size, low)
    query, key = _summable(query, key, backend)
    if backend in ("reference", "portable"):
        plain = reference if backend == "reference" else portable
        return plain.correlate(query, key, kernel_size, neighbours, padding).to(result)
    refuse_derivatives("correlate", query, key)
    reach = operators.size(kernel_size, neighbours) // 2
    return operators.correlate(query, bordered(key, reach, padding), low, kernel_size, neighbours).to(result)


def _summable(a: Tensor, b: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Convert both to at least fp32, for backends that sum in their input's dtype; Triton's kernels sum in fp32."""
    if backend == "triton":
        return a, b
    dtype = exact_dtype(a, b)
    return a.to(dtype), b.to(dtype)


def _padding(low: Tensor, size: tuple[int, ...], K: int, neighbours: str, padding: str | None) -> str:
    """The border rule, after checking that the low-resolution map can be read as requested."""
    if neighbours not in NEIGHBOURS:
        raise ValueError(f"neighbours must be one of {', '.join(NEIGHBOURS)}, got {neighbours!r}.")
    padding = NEIGHBOURS[neighbours] if padding is None else padding
    if padding not in (*PADDINGS, "shift"):
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, shift, got {padding!r}.")
    if padding == "shift" and neighbours == "fine":
        raise ValueError("padding='shift' moves windows of whole pixels, and those of 'fine' lie between pixels.")
    (h, w), (H, W) = low.shape[-2:], size
    if H < h or W < w:
        raise ValueError(f"the output ({H} x {W}) must be at least as large as the features ({h} x {w}).")
    if neighbours == "dense" and (H, W) != (h, w):
        raise ValueError(f"neighbours='dense' needs features of the output's size {H} x {W}, got {h} x {w}.")
    reach = K // 2 + (neighbours == "fine")
    if padding == "reflect" and reach >= min(h, w):
        raise ValueError(
            f"padding='reflect' with K = {K} needs features larger than {reach} pixels, got {list(low.shape)}."
        )
    return padding
