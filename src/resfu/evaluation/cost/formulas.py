"""The convention for multiply-accumulates: a table with a formula for each operation.

It is fvcore's, which the published tables use. A multiply-add is 1. Matrix products, convolutions and attention are
exact (border included, bias not). A normalisation is estimated at 5 per element (4 without affine; a batch norm with
fixed statistics 2 and 1). Linear and cubic resampling and grid sampling are 4 per output element. All else counts 0:
elementwise arithmetic, sums, running sums, softmax, pooling, nearest resampling, padding, copies, gathers, and also a
weighted sum written as an elementwise product and a sum.

Unlike fvcore, it counts fused attention (both products, masked pairs included) and products with a sparse matrix (its
stored entries), and counts 0 instead of 1 per element for nearest resampling and adaptive pooling.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Formula = Callable[[Sequence[Any], Any], int]


def _product(first: int) -> Formula:
    """Product of the matrices (or stacks of them) at positions `first` and `first + 1`."""

    def count(args: Sequence[Any], output: Any) -> int:
        a, b = args[first], args[first + 1]
        stored = a.numel() if a.layout == torch.strided else a._nnz()
        return stored * (b.shape[-1] if b.dim() > 1 else 1)

    return count


def _convolution(args: Sequence[Any], output: Tensor) -> int:
    """Every weight is used at every position: of the output, or of the input in a transposed convolution."""
    image, weight, transposed = args[0], args[1], args[6]
    positions = (image if transposed else output).shape[2:].numel()
    return image.shape[0] * weight.numel() * positions


def _attention(args: Sequence[Any], output: Any) -> int:
    """Queries times keys, then weights times values."""
    query, key, value = args[:3]
    pairs = query.shape[:-1].numel() * key.shape[-2]
    return pairs * (query.shape[-1] + value.shape[-1])


def _normalisation(weight: int) -> Formula:
    def count(args: Sequence[Any], output: Any) -> int:
        return args[0].numel() * (4 if args[weight] is None else 5)

    return count


def _batch_norm(args: Sequence[Any], output: Any) -> int:
    training = args[5]
    return (_normalisation(1) if training else _fixed_batch_norm)(args, output)


def _fixed_batch_norm(args: Sequence[Any], output: Any) -> int:
    return args[0].numel() * (1 if args[1] is None else 2)


def _resampling(args: Sequence[Any], output: Tensor) -> int:
    return 4 * output.numel()


FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(("aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::vdot", "aten::_int_mm"), _product(0)),
    **dict.fromkeys(("aten::addmm", "aten::addbmm", "aten::baddbmm", "aten::addmv"), _product(1)),
    "aten::_addmm_activation": _product(1),
    "aten::_sparse_addmm": _product(1),
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
    "aten::_scaled_dot_product_cudnn_attention": _attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
    "aten::native_group_norm": _normalisation(1),
    "aten::native_layer_norm": _normalisation(2),
    "aten::native_batch_norm": _batch_norm,
    "aten::cudnn_batch_norm": _batch_norm,
    "aten::miopen_batch_norm": _batch_norm,
    "aten::_native_batch_norm_legit_no_training": _fixed_batch_norm,
    **dict.fromkeys(
        (
            "aten::upsample_linear1d",
            "aten::upsample_bilinear2d",
            "aten::upsample_trilinear3d",
            "aten::upsample_bicubic2d",
            "aten::_upsample_bilinear2d_aa",
            "aten::_upsample_bicubic2d_aa",
            "aten::grid_sampler_2d",
            "aten::grid_sampler_3d",
            "aten::cudnn_grid_sampler",
        ),
        _resampling,
    ),
}
