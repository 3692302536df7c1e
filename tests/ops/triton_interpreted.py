"""Runs the Triton kernels in the interpreter, on CPU tensors, beside the CPU operators. In a process of its own, since
Triton reads TRITON_INTERPRET when it is imported. Prints one line a case; test_triton.py reads them.
"""

import importlib
import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch

from resfu.ops import window_softmax
from resfu.ops.reassemble import cpu, windows

interpreter = importlib.import_module("triton.runtime.interpreter")
create_dot = interpreter.InterpreterBuilder.create_dot
kernels = importlib.import_module("resfu.ops.reassemble.triton")
torch.utils.deterministic.fill_uninitialized_memory = True
torch.use_deterministic_algorithms(True)  # torch.empty is full of NaN

CASES = [
    # neighbours, low resolution, high resolution, M, groups, channels
    ("fine", (2, 3), (4, 6), 4, 1, 5),
    ("fine", (3, 2), (5, 7), 4, 2, 6),
    ("fine", (1, 2), (3, 9), 6, 1, 3),
    ("coarse", (2, 3), (4, 9), 5, 1, 4),
    ("coarse", (3, 3), (4, 5), 3, 2, 4),
    ("dense", (4, 5), (4, 5), 3, 1, 7),
]


def dot(self, a, b, *rest):
    """The interpreter (3.8) keeps bf16 as its bits and multiplies those: widen them first."""
    tl = interpreter.tl
    for operand in (a, b):
        if operand.dtype == tl.bfloat16:
            operand.data = interpreter._convert_float(operand.data, tl.bfloat16, tl.float32, None).view("float32")
            operand.dtype = tl.float32
    return create_dot(self, a, b, *rest)


interpreter.InterpreterBuilder.create_dot = dot


def difference(got: torch.Tensor, want: torch.Tensor) -> float:
    assert got.shape == want.shape
    assert not got.isnan().any()
    return ((got - want).abs().max() / want.abs().max()).item()


def main() -> None:
    torch.manual_seed(0)
    if "mutate" in sys.argv:  # a wrong tap: the comparison must notice
        cpu_window = cpu._window
        cpu._window = lambda x, *rest: cpu_window(x.roll(1, 1), *rest)
    runs = [(torch.float32, case) for case in CASES]
    runs += [(dtype, CASES[1]) for dtype in (torch.float64, torch.bfloat16, torch.float16)]
    for dtype, (neighbours, (h, w), (H, W), M, groups, C) in runs:
        exact = torch.float64
        padded = torch.randn(2, C, h + 2 * (M // 2), w + 2 * (M // 2), dtype=dtype)
        weights = torch.randn(2, groups * M * M, H, W, dtype=dtype)
        grad = torch.randn(2, C, H, W, dtype=dtype)
        if neighbours == "coarse":
            padded, grad = (t.contiguous(memory_format=torch.channels_last) for t in (padded, grad))
        rest = (M, h, w, neighbours, groups)
        worst = 0.0
        for name, inputs in (
            ("window_sum", (padded, weights)),
            ("window_sum_to_features", (grad, weights)),
            ("window_sum_to_weights", (grad, padded)),
        ):
            got = getattr(kernels, name)(*inputs, *rest)
            want = getattr(cpu, name)(*(t.to(exact) for t in inputs), *rest)
            assert got.dtype == dtype
            worst = max(worst, difference(got.to(exact), want))
        K, low = M - (neighbours == "fine"), (h, w)
        mask = neighbours != "coarse"
        scores = 3 * weights[:, : groups * K * K]
        got = kernels.softmax_window_sum(padded, scores, K, h, w, neighbours, groups, mask)
        share = window_softmax(scores.to(exact), groups, low if mask else None)
        worst = max(
            worst, difference(got.to(exact), windows.reassemble(padded.to(exact), share, low, neighbours, groups))
        )
        print(json.dumps({"dtype": str(dtype), "case": str((neighbours, h, w, H, W, M, groups)), "difference": worst}))


if __name__ == "__main__":
    main()
