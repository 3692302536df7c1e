"""Runs the kernels that normalise, project, smooth and compare at inference in Triton's interpreter, beside the
definitions in fp64. In a process of its own, since Triton reads TRITON_INTERPRET when it is imported. Prints one line a
case; test_inference_triton.py reads them.
"""

import json
from collections.abc import Callable
from typing import TypeVar

import torch
from launches import as_on_a_gpu  # switches the interpreter on
from torch import Tensor, nn
from triton_interpreted import difference, surrounded  # new memory is full of NaN there, and bf16 multiplied as such

from resfu import ReSFU
from resfu.ops import gaussian_filter
from resfu.ops.filters.triton_gaussian import padded_gaussian
from resfu.ops.layers import triton as layers
from resfu.ops.layout import pad
from resfu.ops.similarity import reference, triton_parts
from resfu.ops.similarity import triton as kernels
from resfu.upsamplers.normalization import GroupNorm
from resfu.upsamplers.similarity import SimilarityBlock

kernels._pixels = lambda area, N, dtype: 16  # several tiles, the last one not full
layers._VALUES = 64
triton_parts._TILES = 2
FP32, BF16, FP16, LAST = torch.float32, torch.bfloat16, torch.float16, torch.channels_last

Layer = TypeVar("Layer", bound=nn.Module)


def random_map(size: tuple[int, ...], dtype: torch.dtype, last: bool = False) -> Tensor:
    x = (1 + 2 * torch.randn(size)).to(dtype)
    return surrounded(x.contiguous(memory_format=LAST) if last else x, (1, 4, 1, 9), 1e4)


def random_parameters(module: Layer, dtype: torch.dtype) -> Layer:
    """Values that keep the maps of the order of 1, rounded to the dtype."""
    for p in module.parameters():
        nn.init.normal_(p, std=p[0].numel() ** -0.5 if p.dim() > 1 else 1.0)
    return module.to(dtype).eval()


def report(
    case: object,
    dtype: torch.dtype,
    got: Tensor,
    want: Tensor,
    wrong: Tensor,
    eager: Tensor | None = None,
    mean: int = 0,
) -> None:
    """The largest differences from what is wanted, from a mistake, and of PyTorch's operators in the same dtype."""
    found = {"difference": difference(got.double(), want), "wrong": difference(got.double(), wrong)}
    if eager is not None:
        found["eager"] = difference(eager.double(), want)
    print(json.dumps({"case": str(case), "dtype": str(dtype), "mean": mean, **found}), flush=True)


def check_affine() -> None:
    for case in (
        # size, enlarged to, neighbours, channels, groups, mean, dtype, channels-last
        ((5, 7), None, "fine", 12, 4, 0, FP32, False),
        ((5, 7), None, "fine", 6, 1, 1000, FP32, True),
        ((9, 9), None, "fine", 80, 1, 0, FP32, False),
        ((1, 1), None, "fine", 8, 4, 0, FP32, False),
        ((3, 4), (6, 8), "fine", 12, 4, 0, FP32, True),
        ((3, 4), (7, 9), "fine", 12, 4, 30, FP32, False),
        ((3, 4), (7, 9), "coarse", 12, 4, 0, FP32, False),
        ((3, 4), (7, 9), "coarse", 12, 4, 0, BF16, True),
        ((5, 7), None, "fine", 12, 4, 0, FP16, True),
    ):
        low, size, neighbours, C, groups, mean, dtype, last = case
        x = surrounded(mean + random_map((2, C, *low), dtype, last), (1, 4, 1, 9), 1e4)
        norm = random_parameters(nn.GroupNorm(groups, C), dtype)
        factor, summand = layers.group_affine(
            x, groups, (norm.weight, norm.bias), norm.eps, size, neighbours
        ).unbind(1)  # fmt: skip
        got = x.double() * factor[:, :, None, None] + summand[:, :, None, None]
        weights = norm.weight.double(), norm.bias.double(), norm.eps
        want = reference.upsampled_group_norm(x.double(), size or low, groups, *weights, neighbours)
        wrong = reference.upsampled_group_norm(x.double() * x.double().cos(), size or low, groups, *weights, neighbours)
        if low != (1, 1):
            report(case, FP32, got, want, wrong, mean=mean)
        else:  # without variance the bias comes out
            report(case, FP32, got, want, want + 1)


def check_one_image_alone() -> None:
    """Not a number in one image is nobody else's, and one in a group leaves the groups beside it."""
    x = random_map((2, 8, 5, 6), FP32).contiguous()
    x[0, 0, 2, 3] = float("nan")
    norm = nn.GroupNorm(4, 8)
    affine = layers.group_affine(x, 4, (norm.weight, norm.bias), norm.eps)
    block = random_parameters(SimilarityBlock(16, 3, 2, 32), FP32)
    maps = torch.randn(2, 16, 4, 4)
    whole = normalised_scores(block, None, maps, (2, 2), "fine")
    maps[0, 3, 1, 1] = float("nan")
    scores = normalised_scores(block, None, maps, (2, 2), "fine")
    found = [
        affine[0].isnan().any(0).tolist() == [True, True] + 6 * [False],
        not affine[1].isnan().any().item(),
        scores[0].isnan().all().item(),
        torch.equal(scores[1], whole[1]),
    ]
    print(json.dumps({"case": "not a number", "found": found}))


def check_projection() -> None:
    for case in (
        # size, channels, groups, width, bias, mean, dtype, channels-last
        ((5, 7), 12, 4, 24, True, 0, FP32, False),
        ((5, 7), 40, 5, 8, False, 200, FP32, True),
        ((3, 50), 8, 8, 80, True, 0, FP32, False),
        ((1, 1), 8, 8, 8, True, 0, FP32, False),
        ((5, 7), 40, 5, 32, True, 3, BF16, True),
        ((5, 7), 12, 4, 24, True, 3, FP16, False),
    ):
        size, C, groups, D, bias, mean, dtype, last = case
        x = surrounded(mean + random_map((2, C, *size), dtype, last), (1, 4, 1, 9), 1e4)
        norm = random_parameters(GroupNorm(groups, C), dtype)
        convolution = random_parameters(nn.Conv2d(C, D, 1, bias=bias), dtype)
        eager = convolution(norm(x))
        got = layers.normalised_product(
            x, groups, (norm.weight, norm.bias), norm.eps, convolution.weight.flatten(1), convolution.bias, dtype
        )
        assert got.dtype == dtype
        assert got.is_contiguous(memory_format=LAST)
        want = convolution.double()(norm.double()(x.double()))
        wrong = convolution(x.double())
        report(case, dtype, got, want, wrong, None if dtype == FP32 else eager, mean)


def check_gaussian() -> None:
    for case in (
        # size, rows, columns, channels, dtype, channels-last
        ((5, 7), 2, 3, 5, FP32, False),
        ((1, 1), 1, 2, 40, FP32, True),
        ((6, 3), 0, 0, 8, BF16, True),
        ((3, 9), 4, 1, 8, FP16, False),
    ):
        size, rows, columns, C, dtype, last = case
        x = random_map((2, C, *size), dtype, last)
        want = pad(gaussian_filter(x.double()), rows, columns)
        wrong = pad(x.double(), rows, columns)
        eager = pad(gaussian_filter(x), rows, columns)
        got = padded_gaussian(x, rows, columns)
        report(case, dtype, got, want, wrong if size != (1, 1) else want + 1, eager)


def normalised_scores(
    block: SimilarityBlock, key: Tensor | None, query: Tensor, step: tuple, neighbours: str
) -> Tensor:
    norm = (block.norm.weight, block.norm.bias), block.norm.num_groups, block.norm.eps
    compressor = block._compressor()
    assert compressor is not None
    return kernels.normalised_scores(key, query, *norm, block.weight, block.bias, compressor, step, neighbours)


def check_scores() -> None:
    for case in (
        # key, low resolution, high resolution, K, groups, D, M, dtype, channels-last
        ("smoothed", (2, 3), (4, 6), 3, 4, 32, 128, FP32, False),
        ("smoothed", (1, 3), (4, 6), 5, 2, 16, 32, FP32, True),
        ("smoothed", (3, 5), (3, 5), 3, 1, 16, 48, FP32, False),
        ("high", (2, 2), (6, 4), 3, 2, 16, 48, FP32, True),
        ("fine", (2, 3), (4, 6), 3, 4, 32, 128, FP32, True),
        ("fine", (2, 3), (5, 7), 5, 2, 16, 32, FP32, False),
        ("coarse", (2, 3), (5, 7), 3, 2, 16, 48, FP32, False),
        ("smoothed", (2, 2), (4, 4), 3, 4, 32, 128, BF16, True),
        ("fine", (2, 3), (5, 7), 3, 4, 32, 128, BF16, True),
        ("smoothed", (2, 2), (4, 4), 3, 2, 16, 48, FP16, False),
        ("coarse", (3, 2), (4, 4), 3, 2, 16, 48, FP16, True),
    ):
        kind, low, high, K, groups, D, M, dtype, last = case
        block = random_parameters(SimilarityBlock(D, K, groups, M), dtype)
        query = random_map((2, D, *high), dtype, last)
        key = None if kind == "smoothed" else 3 * random_map((2, D, *(high if kind == "high" else low)), dtype, last)
        neighbours = "coarse" if kind == "coarse" else "fine"
        got = normalised_scores(block, key, query, low, neighbours)
        assert got.dtype == dtype
        eager = block(key, query, low, neighbours, "cpu")
        exact = None if key is None else key.double()
        want = block.double()(exact, query.double(), low, neighbours, "reference")
        wrong = query.double() if exact is None else exact.roll(1, -1)  # the query is not smoothed, a key is one off
        report(case, dtype, got, want, block(wrong, query.double(), low, neighbours, "reference"), eager)


def check_whole() -> None:
    """The scores that ReSFU's weights are made of, as its layers call the kernels."""
    for options in (
        {},
        {"neighbours": "coarse", "guided_query": False},
        {"smoothed_key": False, "normalize_guidance": False},
        {"kernel_size": 5, "guided_filter_stride": 2},
    ):
        up = ReSFU(24, 8, projection_dim=16, groups=2, hidden_channels=32, guided_filter_radius=2, **options)
        random_parameters(up, FP32)
        assert isinstance(up, ReSFU)
        x, y = random_map((2, 24, 2, 3), FP32), random_map((2, 8, 4, 6), FP32)
        got = up.scores(x, y)
        up.double().backend = "reference"
        want, wrong = up.scores(x.double(), y.double()), up.scores(x.double().roll(1, -1), y.double())
        report(options, FP32, got, want, wrong)


def check(what: Callable[[], None]) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        what()


if __name__ == "__main__":
    for what in (check_affine, check_projection, check_gaussian, check_scores, check_one_image_alone):
        check(what)
    as_on_a_gpu()
    check(check_whole)
