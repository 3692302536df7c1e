"""Compiles every Triton kernel for sm_80 and sm_90, which needs no GPU. The interpreter sees no errors of lowering."""

import importlib
import inspect
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

kernels = importlib.import_module("resfu.ops.reassemble.triton")
POINTERS = {"x", "w", "s", "out", "grad", "guide"}
SUMS = {"m", "n"}
TABLES = {"row_start", "column_start", "first_row", "first_column"}
FRACTIONS = {"row_fraction", "column_fraction"}


def compile_kernel(kernel, dtype: str, channels_last: bool, capability: int, softmax: bool = False, **chosen) -> None:
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {
        "M": 4, "K": 3 if softmax else 4, "SOFTMAX": softmax, "MASK": softmax, "ROWS": 4, "COLUMNS": 16,
        "SPAN_Y": 4, "SPAN_X": 7, "TAPS": 32, "PIXELS": 32, "CHANNELS": 64,
        "SUM": tl.float64 if dtype == "fp64" else tl.float32,
    }  # fmt: skip
    constants = {name: value for name, value in (constants | chosen).items() if name in names}
    ones = {n for n in names if n in ({"xc", "gc", "oc", "mc"} if channels_last else {"xw", "gw", "ow", "mw"})}
    signature = {}
    for name in names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in ones:  # a stride of 1 is known at compile time
            signature[name], constants[name] = "constexpr", 1
        else:
            kinds = (
                (f"*{dtype}", POINTERS),
                ("*fp64" if dtype == "fp64" else "*fp32", SUMS),
                ("*i64", TABLES),
                ("*fp64", FRACTIONS),
            )
            signature[name] = next((kind for kind, of in kinds if name in of), "i32")
    binary = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=constants), target=GPUTarget("cuda", capability, 32)
    )
    if dtype in ("bf16", "fp16"):
        assert "mma" in binary.asm["ptx"], "not on the tensor cores"
    print(
        kernel.fn.__name__, dtype, f"sm_{capability}", "channels-last" if channels_last else "", binary.metadata.shared
    )


def compile_filters(dtype: str, channels_last: bool, capability: int) -> None:
    filters = importlib.import_module("resfu.ops.filters_triton")
    tile = {"ROWS": 16, "COLUMNS": 128, "CHANNELS": 4} if channels_last else {"ROWS": 16, "COLUMNS": 256, "CHANNELS": 1}
    small = dict.fromkeys(
        ("C", "H", "W", "h", "w_low", "chunks", "blocks", "parts"), 1
    )  # known at compile time as well
    for resized in ({"RESIZED": False}, {"RESIZED": True}, {"RESIZED": True} | small):
        tile |= {"EPS": 1e-3, "INDEX": tl.int32} | resized
        compile_kernel(filters.coefficients_kernel, dtype, channels_last, capability, **tile)
    compile_kernel(filters.line_kernel, dtype, channels_last, capability, **tile)


FILTERS = "filters" in sys.argv
for dtype, channels_last in (("fp32", False), ("bf16", True), ("fp16", False), ("fp64", False)):
    for capability in (80, 90):
        if FILTERS:
            compile_filters(dtype, channels_last, capability)
            continue
        compile_kernel(kernels.window_sum_kernel, dtype, channels_last, capability)
        compile_kernel(kernels.window_sum_kernel, dtype, channels_last, capability, softmax=True)
        compile_kernel(kernels.to_weights_kernel, dtype, channels_last, capability)
        compile_kernel(kernels.to_features_kernel, dtype, channels_last, capability)
