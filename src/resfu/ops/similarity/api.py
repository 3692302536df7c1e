"""Similarity between each pixel of a query and its neighbours in a key, one low-resolution pixel apart."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import operators_are_recorded, which_backend
from resfu.ops.checks import check_divides, check_maps, check_odd, check_widths, pair
from resfu.ops.compiling import in_torch_compile
from resfu.ops.grid import in_bands, key_at, row_bands, window
from resfu.ops.layout import channels_last
from resfu.ops.precision import at_least_fp32
from resfu.ops.reassembly.api import correlate
from resfu.ops.similarity import cpu, normalization, operators, portable, reference
from resfu.ops.similarity.compressor import Compressor, hidden_channels, normalised_convolution, scores
from resfu.ops.similarity.fractional import fractional_taps

SIMILARITIES = ("pcdc", "concat", "inner_product")
_BAND_ELEMENTS = 1 << 20  # elements of a band of the hidden map: 4 MB in fp32


def similarity_scores(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    similarity: str = "pcdc",
    neighbours: str = "fine",
    backend: str = "auto",
) -> Tensor:
    """Score the K x K neighbours of every pixel (ReSFU, arXiv 2407.02283, Eq. 11 and the compressor after it).

    "pcdc" convolves the paired central difference, v[p] = sum_n w_n (key[p + o_n] - query[p]) + bias. "concat"
    convolves the concatenation of query and key. The compressor follows: ReLU, 1 x 1 convolution, ReLU, GroupNorm and
    1 x 1 convolution to K K scores. LR stands for low resolution.

    Args:
        key: [B, D, h, w], at low resolution, or [B, D, H, W].
        query: [B, D, H, W].
        weight: [M, D / G, K, K] for "pcdc", [M, 2 D / G, K, K] for "concat" (in each group the query's channels first).
        bias: [M].
        compressor: parameters of the layers after the convolution.
        step: (h, w), the size of the LR map. The offsets o_n are counted in its pixels, at any real ratio.
        similarity: "pcdc" or "concat".
        neighbours: how an LR key is read: "fine" bilinearly at the pixel's own position, "coarse" at the LR pixel that
            contains the pixel.
        backend: as in `reassemble`. "triton" has kernels for "pcdc" with K up to 7 in fp32 (M / G up to 64; at full
            fp32 precision, not TF32), bf16 or fp16 (M / G up to 128), except for a key [B, D, H, W] at a ratio that is
            not whole. Their backward pass computes the scores again. "numba" has kernels for "pcdc" in fp32 with K = 3
            and the published groups and widths or multiples of them (D / G of 8, M / G of 32), with the same
            exception. All other cases run the PyTorch operators of "cpu".

    Returns:
        [B, K * K, H, W], n = iy K + ix.

    Raises:
        ValueError: for anything but floating point maps of one width, a weight of another shape, an even K, an unknown
            similarity, other neighbours, a step below 1, a backend that cannot run here, or a forward-mode or
            torch.func derivative of the kernels.

    >>> ones, zeros = torch.ones(16), torch.zeros(16)
    >>> weights = torch.randn(16, 16, 1, 1), torch.randn(9, 16, 1, 1)
    >>> layers = resfu.ops.Compressor(weights[0], zeros, ones, zeros, weights[1], torch.zeros(9))
    >>> key, query, weight = torch.randn(1, 8, 2, 2), torch.randn(1, 8, 4, 4), torch.randn(16, 8, 3, 3)
    >>> resfu.ops.similarity_scores(key, query, weight, zeros, layers, step=(2, 2)).shape
    torch.Size([1, 9, 4, 4])
    """
    name = _form(key, query, weight, step, similarity, neighbours)
    backend = which_backend(query, backend)
    if backend == "triton" and similarity == "pcdc" and operators.takes(key, query, weight, compressor, step):
        return operators.paired_scores(key, query, weight, bias, compressor, step, neighbours)
    if backend == "numba" and similarity == "pcdc" and operators.compiles(key, query, weight, bias, compressor):
        from resfu.ops.similarity import numba

        return numba.similarity_scores(key, query, weight, bias, compressor, step, neighbours)
    if backend in ("reference", "portable") or not in_bands(query) or query.numel() == 0:
        v = neighbour_convolution(key, query, weight, bias, step, similarity, neighbours, backend)
        hidden = hidden_channels(v, compressor)
        return portable.scores(hidden, compressor) if backend == "portable" else scores(hidden, compressor)
    query = channels_last(query)
    rows = getattr(cpu, name)(key, query, weight, bias, step, neighbours)
    B, M, (H, W) = query.shape[0], weight.shape[0], query.shape[-2:]
    total = square = torch.zeros((B, M), dtype=torch.float64, device=query.device)
    hidden = []
    for first, last in row_bands(query, max(1, _BAND_ELEMENTS // (B * M * W))):
        band = hidden_channels(rows(first, last), compressor)
        hidden.append(band)
        flat = at_least_fp32(band.permute(0, 2, 3, 1).flatten(1, 2))
        total = total + flat.sum(1).double()
        square = square + (flat * flat).sum(1).double()
    weights, biases = normalised_convolution(total, square, H * W, compressor)
    images = []
    for b in range(B):
        folded = weights[b, :, :, None, None].to(query.dtype), biases[b].to(query.dtype)
        images.append(torch.cat([F.conv2d(band[b : b + 1], *folded) for band in hidden], 2))
    return images[0] if B == 1 else torch.cat(images)


def neighbour_convolution(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    step: tuple[int, int],
    similarity: str = "pcdc",
    neighbours: str = "fine",
    backend: str = "auto",
) -> Tensor:
    """The convolution with which `similarity_scores` begins, for use with other layers than its compressor.

    Args:
        key: as in `similarity_scores`, like all other arguments.
        query: [B, D, H, W].
        weight: [M, D / G, K, K] or [M, 2 D / G, K, K].
        bias: [M].
        step: (h, w).
        similarity: "pcdc" or "concat".
        neighbours: "fine" or "coarse".
        backend: as in `reassemble`; all but "reference" and "portable" run the same PyTorch operators.

    Returns:
        [B, M, H, W].

    Raises:
        ValueError: as `similarity_scores`.
    """
    name = _form(key, query, weight, step, similarity, neighbours)
    backend = which_backend(query, backend)
    if backend in ("reference", "portable"):
        plain = reference if backend == "reference" else portable
        return getattr(plain, name)(key, query, weight, bias, step, neighbours)
    query = channels_last(query)
    return getattr(cpu, name)(key, query, weight, bias, step, neighbours)(0, query.shape[-2])


def _form(key: Tensor, query: Tensor, weight: Tensor, step: tuple[int, int], similarity: str, neighbours: str) -> str:
    check_maps(key=key, query=query)
    check_widths(query=query, key=key)
    if similarity not in ("pcdc", "concat"):
        raise ValueError(f"similarity must be pcdc or concat, got {similarity!r}.")
    _check_neighbours(neighbours, step)
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        raise ValueError(f"weight must be [M, D / G, K, K], got {list(weight.shape)}.")
    check_odd("the window of weight", weight.shape[3])
    width = query.shape[1] * (1 if similarity == "pcdc" else 2)
    if width % weight.shape[1] or weight.shape[0] % (width // weight.shape[1]):
        raise ValueError(f"weight {list(weight.shape)} must be [M, {width} / G, K, K], and G must divide M.")
    return "paired_central_difference" if similarity == "pcdc" else "concatenation"


def _check_neighbours(neighbours: str, step: tuple[int, int]) -> None:
    if neighbours not in ("fine", "coarse"):
        raise ValueError(f"neighbours must be fine or coarse, got {neighbours!r}.")
    if min(pair("step", step)) < 1:
        raise ValueError(f"step must be the size of the LR map, from 1 on, got {tuple(step)}.")


def inner_product_scores(
    key: Tensor,
    query: Tensor,
    kernel_size: int,
    step: tuple[int, int],
    neighbours: str = "fine",
    backend: str = "auto",
) -> Tensor:
    """Score neighbours by the inner product, s_n[p] = <query[p], key[p + o_n]> (ReSFU, arXiv 2407.02283, Table VI a).

    Args:
        key: [B, D, h, w], at low resolution (LR), or [B, D, H, W].
        query: [B, D, H, W].
        kernel_size: K, odd.
        step: (h, w), the size of the LR map.
        neighbours: how an LR key is read, as in `similarity_scores`.
        backend: as in `reassemble`; for an LR key it is passed to `correlate`.

    Returns:
        [B, K * K, H, W].

    Raises:
        ValueError: for anything but floating point maps of one width, an even K, other neighbours, a step below 1, or
            what `correlate` refuses.

    >>> key, query = torch.randn(1, 8, 2, 2), torch.randn(1, 8, 4, 4)
    >>> resfu.ops.inner_product_scores(key, query, kernel_size=3, step=(2, 2)).shape
    torch.Size([1, 9, 4, 4])
    """
    check_maps(key=key, query=query)
    check_odd("kernel_size", kernel_size)
    check_widths(query=query, key=key)
    _check_neighbours(neighbours, step)
    size = (query.shape[-2], query.shape[-1])
    if tuple(key.shape[-2:]) != size:
        return correlate(query, key, kernel_size, neighbours, "replicate", backend)
    if in_torch_compile() or which_backend(query, backend) == "portable":  # one sum, not K x K
        taps = fractional_taps(key, kernel_size, step)(0, size[0])  # [B, D, K, K, H, W]
        return (query[:, :, None, None] * taps).sum(1).flatten(1, 2)
    offsets = [(oy, ox) for oy in window(kernel_size) for ox in window(kernel_size)]
    return torch.stack([(query * key_at(key, step, o)).sum(1) for o in offsets], 1)


def upsampled_group_norm(
    x: Float[Tensor, "B D h w"],
    size: tuple[int, int],
    groups: int,
    weight: Float[Tensor, "D"],
    bias: Float[Tensor, "D"],
    eps: float = 1e-5,
    neighbours: str = "fine",
    backend: str = "auto",
) -> Float[Tensor, "B D h w"]:
    """Normalise x at low resolution so that upsampling the result to `size` equals GroupNorm of the upsampled x.

    GroupNorm multiplies every channel by a scale and adds a shift. Upsampling is linear and its weights sum to 1, so it
    commutes with them. The statistics are those of the upsampled map, computed in at least fp32.

    Args:
        x: [B, D, h, w].
        size: (H, W).
        groups: of the GroupNorm; divides D.
        weight: [D].
        bias: [D].
        eps: added to the variance.
        neighbours: "fine" for bilinear upsampling, "coarse" for repetition of the low-resolution pixels.
        backend: as in `reassemble`. "reference" upsamples the map; "cpu" and "triton" run the same PyTorch operators.

    Raises:
        ValueError: for anything but a floating point map, groups that do not divide its width, a weight or bias of
            another width, a size smaller than the map's, other neighbours or a backend that cannot run here.

    >>> x = torch.randn(1, 8, 2, 2)
    >>> x = resfu.ops.upsampled_group_norm(x, (4, 4), 2, torch.ones(8), torch.zeros(8))
    >>> up = torch.nn.functional.interpolate(x, size=(4, 4), mode="bilinear")
    >>> bool(up.mean().abs() < 1e-5)  # normalised where it is going to be read
    True
    """
    check_maps(x=x)
    check_divides("groups", groups, "the width of x", x.shape[1])
    if weight.shape != x.shape[1:2] or bias.shape != x.shape[1:2]:
        raise ValueError(
            f"weight and bias must be [{x.shape[1]}], as wide as x, got {list(weight.shape)} and {list(bias.shape)}."
        )
    size = pair("size", size)
    if size[0] < x.shape[-2] or size[1] < x.shape[-1]:
        raise ValueError(f"size must be at least that of x, {list(x.shape[-2:])}, got {list(size)}.")
    if neighbours not in ("fine", "coarse"):
        raise ValueError(f"neighbours must be fine or coarse, got {neighbours!r}.")
    exact = at_least_fp32(x)
    backend = which_backend(x, backend)
    if backend == "numba" and exact.numel() > 0 and not operators_are_recorded(x, weight, bias):
        from resfu.ops.similarity import numba_normalization as run
    else:
        run = {"reference": reference, "portable": portable}.get(backend, normalization)
    return run.upsampled_group_norm(exact, size, groups, weight.to(exact), bias.to(exact), eps, neighbours).to(x.dtype)
