"""Every public operation says what is wrong with its input, and what to do."""

import jaxtyping
import pytest
import torch

from resfu import ops

X, INT, FLAT = torch.ones(1, 8, 4, 4), torch.ones(1, 8, 4, 4).long(), torch.ones(8, 4, 4)
Y, AFFINE, WEIGHTS = torch.ones(1, 8, 8, 8), (torch.ones(8), torch.ones(8)), torch.ones(1, 9, 8, 8)
KERNEL, BIAS = torch.ones(16, 8, 3, 3), torch.ones(16)
COMPRESSOR = ops.Compressor(*[torch.ones(1)] * 6)


@pytest.fixture(autouse=True)
def _as_users_have_it():
    """Without the type checks that pytest's hook adds to the package."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


CASES = [
    (ops.box_filter, (FLAT, 1), r"x must be \[B, C, H, W\], got the shape \[8, 4, 4\]"),
    (ops.box_filter, (INT, 1), r"x must be floating point, got torch\.int64"),
    (ops.box_filter, (X.to_sparse(), 1), r"x must be a dense tensor, got torch\.sparse_coo: call \.to_dense\(\) first"),
    (ops.box_filter, (X.to(torch.float8_e5m2), 1), r"x must be fp16, bf16, fp32 or fp64, got torch\.float8_e5m2"),
    (
        ops.box_filter,
        (torch.nested.nested_tensor([X, X], layout=torch.jagged), 1),
        "x must be one dense tensor, got a nested one",
    ),
    (ops.box_filter, (X, 1.5), r"radius must be an int from 0, got 1\.5"),
    (ops.box_filter, (X[..., :0], 1), "x must have at least one pixel"),
    (ops.guided_filter, (FLAT, FLAT), r"guide must be \[B, C, H, W\]"),
    (ops.guided_filter, (INT, INT), "guide must be floating point"),
    (ops.guided_filter, (X, X.to("meta")), "guide is on cpu and x on meta: move one of them"),
    (ops.guided_filter, (X, X[[0, 0]]), "differ in batch size: 1 and 2"),
    (ops.guided_filter, (X, X, -1), "radius must be an int from 0, got -1"),
    (ops.gaussian_filter, (FLAT,), r"x must be \[B, C, H, W\]"),
    (ops.gaussian_filter, (INT,), "x must be floating point"),
    (ops.gaussian_filter, (X, 0), "sigma must be a number above 0, got 0"),
    (ops.gaussian_filter, (X, -1.0), r"sigma must be a number above 0, got -1\.0"),
    (ops.gaussian_filter, (X, float("nan")), "sigma must be a number above 0, got nan"),
    (ops.window_softmax, (FLAT,), r"scores must be \[B, C, H, W\]"),
    (ops.window_softmax, (WEIGHTS, 2), "scores must have groups .* got 9 with groups = 2"),
    (ops.window_softmax, (WEIGHTS, 0), "scores must have groups .* got 9 with groups = 0"),
    (ops.window_softmax, (X,), "scores must have groups .* K odd, got 8 with groups = 1"),
    (ops.upsampled_group_norm, (FLAT, (8, 8), 4, *AFFINE), r"x must be \[B, C, H, W\]"),
    (ops.upsampled_group_norm, (X, (8, 8), 3, *AFFINE), "groups = 3 must divide the width of x = 8"),
    (ops.upsampled_group_norm, (X, (8, 8), 0, *AFFINE), "groups = 0 must divide"),
    (ops.upsampled_group_norm, (X, (8, 8), 4, torch.ones(4), torch.ones(8)), r"must be \[8\], as wide as x, got \[4\]"),
    (ops.upsampled_group_norm, (X, (8, 3), 4, *AFFINE), r"size must be at least that of x, \[4, 4\], got \[8, 3\]"),
    (ops.upsampled_group_norm, (X, 8, 4, *AFFINE), r"size must be \(H, W\), got 8"),
    (ops.upsampled_group_norm, (X, (8, 8), 4, *AFFINE, 1e-5, "dense"), "neighbours must be fine or coarse"),
    (ops.inner_product_scores, (X, Y, 4, (4, 4)), "kernel_size must be odd, got 4"),
    (ops.inner_product_scores, (Y, Y, 4, (4, 4)), "kernel_size must be odd, got 4"),
    (ops.inner_product_scores, (Y[:, :2], Y, 3, (4, 4)), "query and key differ in width: 8 and 2 channels"),
    (ops.inner_product_scores, (FLAT, Y, 3, (4, 4)), r"key must be \[B, C, H, W\]"),
    (ops.inner_product_scores, (Y, Y, 3, (0, 4)), r"step must be the size of the LR map, from 1 on, got \(0, 4\)"),
    (ops.similarity_scores, (X, INT, X, X, COMPRESSOR, (4, 4)), "query must be floating point"),
    (ops.similarity_scores, (X, Y[:, :2], KERNEL, BIAS, COMPRESSOR, (4, 4)), "query and key differ in width"),
    (
        ops.similarity_scores,
        (X, Y, KERNEL[..., :2, :2], BIAS, COMPRESSOR, (4, 4)),
        "window of weight must be odd, got 2",
    ),
    (ops.similarity_scores, (X, Y, KERNEL[..., :2], BIAS, COMPRESSOR, (4, 4)), r"weight must be \[M, D / G, K, K\]"),
    (ops.similarity_scores, (X, Y, KERNEL[:, :3], BIAS, COMPRESSOR, (4, 4)), r"must be \[M, 8 / G, K, K\]"),
    (ops.similarity_scores, (X, Y, KERNEL, BIAS, COMPRESSOR, (4, 0)), "step must be the size of the LR map"),
    (ops.similarity_scores, (X, Y, KERNEL, BIAS, COMPRESSOR, 4), r"step must be \(H, W\), got 4"),
    (
        ops.similarity_scores,
        (X, Y, KERNEL, BIAS, COMPRESSOR, (4, 4), "pcdc", "fien"),
        "neighbours must be fine or coarse",
    ),
    (ops.reassemble, (X, WEIGHTS, 8), r"size must be \(H, W\), got 8"),
    (ops.reassemble, (X, WEIGHTS, torch.ones(2).long().to("meta")), r"size must be \(H, W\), got tensor"),
    (ops.reassemble, (X.to("meta"), WEIGHTS.to("meta"), (9, 8)), "is not the weights' size"),
    (ops.reassemble, (X, X, None, "fine", None, 3), "groups = 3 must divide the features' width = 8"),
    (ops.correlate, (X, X, 3.0), r"kernel_size must be odd, got 3\.0"),
]


@pytest.mark.parametrize(("operation", "args", "message"), CASES, ids=lambda v: getattr(v, "__name__", None))
def test_bad_input_says_what_to_do(operation, args, message):
    with pytest.raises(ValueError, match=message):
        operation(*args)


def test_every_public_operation_is_here():
    functions = {name for name in ops.__all__ if name not in ("Compressor", "which_backend")}
    assert {operation.__name__ for operation, _, _ in CASES} == functions
