"""Reassembly: the weighted sum over a K x K neighbourhood that the whole family of upsamplers shares."""

import torch
from torch import Tensor

from resfu.ops.reassemble import cpu, reference

BACKENDS = ("auto", "reference", "cpu")
NEIGHBOURS = {"fine": "replicate", "coarse": "zero", "dense": "reflect"}
PADDINGS = ("zero", "replicate", "reflect")


def reassemble(
    features: Tensor,
    weights: Tensor,
    size: tuple[int, int] | None = None,
    neighbours: str = "fine",
    padding: str | None = None,
    groups: int = 1,
    backend: str = "auto",
) -> Tensor:
    """Sum each pixel's K x K neighbours with that pixel's own weights.

    out[b, c, p, q] = sum_n weights[b, g(c) K^2 + n, p, q] * value_n(b, c, p, q), with n = iy K + ix row-major and
    g(c) = floor(c groups / C). What value_n is, `neighbours` says:

    - "fine": features sampled bilinearly at the pixel's own low-resolution position plus (iy - K//2, ix - K//2)
      low-resolution pixels (ReSFU's fine-grained neighbour selection, arXiv 2407.02283, Sec. III-D). Any real ratio.
    - "coarse": the features of the low-resolution pixel that contains (p, q), shifted likewise (CARAFE, SAPA, FADE).
    - "dense": the features are already of the output's size, and the window counts their pixels (JBU).

    Args:
        features: [B, C, h, w], floating point, any strides.
        weights: [B, groups * K * K, H, W], K odd. They are used as they come: no softmax, no renormalisation.
        size: (H, W) of the output; must be the weights'. Default: the weights'.
        neighbours: "fine", "coarse" or "dense".
        padding: what lies beyond the features' border: "zero", "replicate" or "reflect".
            Default: the published rule, "replicate" for fine, "zero" for coarse, "reflect" for dense.
        groups: number of channel blocks with weights of their own; divides C.
        backend: "reference" (as the equation reads, any device), "cpu" (fast) or "auto".

    Returns:
        [B, C, H, W] in the features' dtype and memory format (contiguous or channels-last). Sums run in fp32 at least.

    Raises:
        ValueError: for wrong ranks, integer tensors, an even K, groups that do not divide, a size that is not the
            weights' or smaller than the features, or a backend that can't run here.
    """
    K = _check(features, weights, size, neighbours, groups)
    padding = NEIGHBOURS[neighbours] if padding is None else padding
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}.")
    reach = K // 2 + (neighbours == "fine")
    if padding == "reflect" and reach >= min(features.shape[-2:]):
        raise ValueError(
            f"padding='reflect' with K = {K} needs features larger than {reach} pixels, got {list(features.shape)}."
        )
    backend = which_backend(features, backend)
    if features.numel() == 0:
        return features.new_empty((*features.shape[:2], *weights.shape[-2:]))
    dtype = torch.promote_types(torch.promote_types(features.dtype, weights.dtype), torch.float32)
    run = cpu.reassemble if backend == "cpu" else reference.reassemble
    return run(features.to(dtype), weights.to(dtype), neighbours, padding, groups).to(features.dtype)


def which_backend(features: Tensor, backend: str = "auto") -> str:
    """The backend that an operation on this tensor runs with.

    Args:
        features: the tensor; its device decides.
        backend: the request, one of `BACKENDS`.

    Returns:
        "cpu" or "reference". "auto" takes "cpu" for CPU tensors and "reference" elsewhere.

    Raises:
        ValueError: for an unknown backend, or one that can't run on the tensor's device.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    on_cpu = features.device.type == "cpu"
    if backend == "cpu" and not on_cpu:
        raise ValueError(f"backend='cpu' can't run on {features.device}: move the tensors or use backend='auto'.")
    if backend == "auto":
        return "cpu" if on_cpu else "reference"
    return backend


def _check(features: Tensor, weights: Tensor, size: tuple[int, int] | None, neighbours: str, groups: int) -> int:
    for name, tensor, layout in (("features", features, "[B, C, h, w]"), ("weights", weights, "[B, G*K*K, H, W]")):
        if tensor.dim() != 4:
            raise ValueError(f"{name} must be {layout}, got {tensor.dim()} dimensions: {list(tensor.shape)}.")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {tensor.dtype}.")
    if features.shape[0] != weights.shape[0]:
        raise ValueError(f"features and weights differ in batch size: {features.shape[0]} and {weights.shape[0]}.")
    if neighbours not in NEIGHBOURS:
        raise ValueError(f"neighbours must be one of {', '.join(NEIGHBOURS)}, got {neighbours!r}.")
    if groups < 1 or features.shape[1] % groups or weights.shape[1] % groups:
        raise ValueError(
            f"groups = {groups} must divide the {features.shape[1]} channels and the {weights.shape[1]} weights."
        )
    K = round((weights.shape[1] // groups) ** 0.5)
    if K * K * groups != weights.shape[1] or K % 2 == 0:
        raise ValueError(
            f"weights must have groups * K * K channels with K odd; {weights.shape[1]} channels in {groups} group(s) "
            "are not."
        )
    (h, w), (H, W) = features.shape[-2:], weights.shape[-2:]
    if size is not None and tuple(size) != (H, W):
        raise ValueError(f"size {tuple(size)} is not the weights' size {(H, W)}.")
    if H < h or W < w:
        raise ValueError(f"the weights ({H} x {W}) must be at least as large as the features ({h} x {w}).")
    if neighbours == "dense" and (H, W) != (h, w):
        raise ValueError(f"neighbours='dense' needs features of the weights' size {H} x {W}, got {h} x {w}.")
    if min(h, w) < 1:
        raise ValueError(f"features must have at least one pixel, got {list(features.shape)}.")
    return K


__all__ = ["BACKENDS", "reassemble", "which_backend"]
