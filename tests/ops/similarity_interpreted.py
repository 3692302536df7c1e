"""Runs the kernels of the similarity scores in Triton's interpreter, beside the definition in fp64. In a process of its
own, since Triton reads TRITON_INTERPRET when it is imported. Prints one line a case; test_similarity_triton.py reads
them.
"""

import importlib
import json
import math
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor
from triton_interpreted import difference  # new memory is full of NaN there, and bf16 multiplied as such

from resfu.ops.similarity import Compressor, operators, similarity_scores

kernels = importlib.import_module("resfu.ops.similarity.triton")
kernels._pixels = lambda area, N, dtype: 16  # several tiles, the last one not full

FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
CASES = [
    # key, low resolution, high resolution, K, groups, D, M, dtype, channels-last
    ("detail", (2, 3), (4, 6), 3, 4, 32, 128, FP32, False),
    ("detail", (1, 4), (4, 8), 5, 2, 16, 32, FP32, True),
    ("detail", (3, 5), (3, 5), 3, 1, 16, 64, FP32, False),
    ("detail", (2, 2), (4, 4), 3, 2, 16, 48, BF16, True),
    ("detail", (2, 2), (4, 4), 3, 4, 32, 64, FP16, False),
    ("fine", (2, 3), (4, 6), 3, 4, 32, 128, FP32, True),
    ("fine", (1, 2), (4, 8), 5, 2, 16, 32, FP32, False),
    ("fine", (2, 3), (5, 7), 3, 1, 16, 32, FP32, False),
    ("fine", (2, 3), (5, 7), 3, 4, 32, 128, BF16, True),
    ("fine", (3, 2), (4, 4), 3, 2, 16, 48, FP16, False),
    ("coarse", (2, 3), (5, 7), 3, 2, 16, 48, FP32, False),
    ("coarse", (2, 2), (4, 4), 5, 4, 32, 128, BF16, True),
]


def random_inputs(detail: bool, low: tuple, high: tuple, K: int, groups: int, D: int, M: int) -> list[Tensor]:
    """Key, query, weight, bias and the compressor's tensors, with values of the order of 1 all the way."""
    width = M // groups
    shapes = [(2, D, *(high if detail else low)), (2, D, *high), (M, D // groups, K, K), (M,)]
    shapes += [(M, width, 1, 1), (M,), (M,), (M,), (K * K, M, 1, 1), (K * K,)]
    tensors = [torch.randn(shape) for shape in shapes]
    for n in (2, 4, 8):
        tensors[n] /= math.prod(shapes[n][1:]) ** 0.5
    return tensors


def arguments(tensors: list[Tensor], low: tuple) -> tuple:
    return *tensors[:4], Compressor(*tensors[4:]), low


def check_scores() -> None:
    for kind, low, high, K, groups, D, M, dtype, last in CASES:
        tensors = [t.to(dtype) for t in random_inputs(kind == "detail", low, high, K, groups, D, M)]
        exact = [t.double() for t in tensors]
        if last:
            tensors[:2] = [t.contiguous(memory_format=torch.channels_last) for t in tensors[:2]]
        neighbours = "coarse" if kind == "coarse" else "fine"
        wanted = similarity_scores(*arguments(exact, low), neighbours=neighbours, backend="reference")
        exact[2] = exact[2].roll(1, -1)  # a wrong tap: the comparison must notice
        wrong = similarity_scores(*arguments(exact, low), neighbours=neighbours, backend="reference")
        eager = similarity_scores(*arguments(tensors, low), neighbours=neighbours)
        key, query, weight, _, compressor, _ = arguments(tensors, low)
        assert operators.takes(key, query, weight, compressor, low)
        got = operators.paired_scores(*arguments(tensors, low), neighbours)
        assert got.dtype == dtype
        errors = {"difference": difference(got.double(), wanted), "eager": difference(eager.double(), wanted)}
        errors["with a wrong tap"] = difference(got.double(), wrong)
        print(json.dumps({"case": str((kind, low, high, K, groups, D, M)), "dtype": str(dtype), **errors}))


def check_derivatives() -> None:
    """First and second ones through the operator, where the key is made from the query, as in ReSFU."""
    for detail in (True, False):
        low, high = (2, 2), (4, 4)
        tensors = random_inputs(detail, low, high, 3, 2, 16, 32)
        cotangent = torch.randn(2, 9, *high)
        found = []
        for dtype in (torch.float32, torch.float64):
            inputs = [t.to(dtype).requires_grad_() for t in tensors]
            key, *rest = inputs
            if detail:
                key = key + 0.5 * rest[0].roll(1, 2)
            if dtype == torch.float32:
                scores = operators.paired_scores(*arguments([key, *rest], low), "fine")
            else:
                scores = similarity_scores(*arguments([key, *rest], low), backend="reference")
            first = torch.autograd.grad(scores, inputs, cotangent.to(dtype), retain_graph=True)
            again = torch.autograd.grad(scores, inputs, cotangent.to(dtype), create_graph=True)
            second = torch.autograd.grad(again[0].square().sum() + again[1].square().sum(), inputs[:9])
            found.append([scores, *first, *again, *second])
        worst = max(difference(a.double(), b) for a, b in zip(*found, strict=True))
        print(json.dumps({"case": f"derivatives, detail={detail}", "dtype": "torch.float32", "difference": worst}))


def check_operator() -> None:
    """That what compilers are told about the operator is true."""
    tensors = [t.requires_grad_() for t in random_inputs(False, (2, 2), (4, 4), 3, 2, 16, 32)]
    torch.library.opcheck(operators.similarity_scores, (*tensors, 8, 1e-5, 2, 2, "fine"))
    print(json.dumps({"case": "opcheck", "dtype": "torch.float32", "difference": 0.0}))


if __name__ == "__main__":
    torch.manual_seed(0)
    check_scores()
    check_derivatives()
    check_operator()
