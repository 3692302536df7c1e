"""Compiles every Triton kernel for sm_80 and sm_90, which needs no GPU. The interpreter sees no errors of lowering."""

import importlib
import inspect
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

kernels = importlib.import_module("resfu.ops.reassemble.triton")
POINTERS = {"x", "w", "s", "out", "grad", "guide", "key", "query", "paired", "reduce", "score"}
SUMS = {"m", "n", "bias", "reduce_bias", "score_bias"}
LAST, FIRST = {"xc", "gc", "oc", "mc", "kc", "qc"}, {"xw", "gw", "ow", "mw", "kw", "qw"}
TABLES = {"row_start", "column_start", "first_row", "first_column"}
FRACTIONS = {"row_fraction", "column_fraction"}


def compile_kernel(
    kernel, dtype: str, channels_last: bool, capability: int, softmax: bool = False, products: bool = True, **chosen
) -> None:
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {
        "M": 4, "K": 3 if softmax else 4, "SOFTMAX": softmax, "MASK": softmax, "ROWS": 4, "COLUMNS": 16,
        "SPAN_Y": 4, "SPAN_X": 7, "TAPS": 32, "PIXELS": 32, "CHANNELS": 64,
        "SUM": tl.float64 if dtype == "fp64" else tl.float32,
    }  # fmt: skip
    constants = {name: value for name, value in (constants | chosen).items() if name in names}
    ones = {n for n in names if n in (LAST if channels_last else FIRST)}
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
    assert binary.metadata.shared <= 163 << 10, "more shared memory than an A100 has"
    if products and dtype in ("bf16", "fp16"):
        assert "mma" in binary.asm["ptx"], "not on the tensor cores"
    print(
        kernel.fn.__name__, dtype, f"sm_{capability}", "channels-last" if channels_last else "", binary.metadata.shared
    )


def compile_filters(dtype: str, channels_last: bool, capability: int) -> None:
    filters = importlib.import_module("resfu.ops.filters_triton")
    chosen = {"products": False, "EPS": 1e-3, "INDEX": tl.int32, "ROWS": 16}
    chosen |= {"COLUMNS": 128, "CHANNELS": 4} if channels_last else {"COLUMNS": 256, "CHANNELS": 1}
    ones = dict.fromkeys(("C", "H", "W", "h", "w_low", "chunks", "blocks", "parts"), 1)  # known at compile time, too
    for sizes in ({}, ones) if dtype == "fp32" else ({},):
        for resized in (False, True):
            compile_kernel(
                filters.coefficients_kernel, dtype, channels_last, capability, RESIZED=resized, **chosen, **sizes
            )
        compile_kernel(filters.line_kernel, dtype, channels_last, capability, **chosen, **sizes)


def compile_similarity(dtype: str, channels_last: bool, capability: int) -> None:
    similarity = importlib.import_module("resfu.ops.similarity.triton")
    precision = "tf32x3" if dtype == "fp32" else "ieee"
    ones = dict.fromkeys(("H", "W", "h", "w_low", "rows", "columns", "tiles"), 1)  # known at compile time, too
    for reading, scores, sizes in (
        ("dilated", True, {}), ("dilated", False, ones), ("fine", True, {}), ("coarse", False, ones),
    ):  # fmt: skip
        compile_kernel(
            similarity.similarity_kernel, dtype, channels_last, capability,
            READING=reading, K=3, D=8, M=32, GROUPS=4, COUNT=9, LENGTH=80 if reading == "dilated" else 16, N=32, S=16,
            PIXELS=64 if dtype == "fp32" else 128, BLOCK=16, PRECISION=precision, SCORES=scores,
            **sizes,
        )  # fmt: skip


def compile_reassembly(dtype: str, channels_last: bool, capability: int) -> None:
    compile_kernel(kernels.window_sum_kernel, dtype, channels_last, capability)
    compile_kernel(kernels.window_sum_kernel, dtype, channels_last, capability, softmax=True)
    compile_kernel(kernels.to_weights_kernel, dtype, channels_last, capability)
    compile_kernel(kernels.to_features_kernel, dtype, channels_last, capability)
    size = {"fp32": 4, "bf16": 2, "fp16": 2, "fp64": 8}[dtype]  # JBU's windows are the largest
    tiles = importlib.import_module("resfu.ops.reassemble.triton_tiles").tiling(
        64, 64, 64, 64, 7, "dense", channels_last, size
    )
    channels = kernels._channels(256, tiles.rows * tiles.columns, tiles.taps * size)
    chosen = {"M": 7, "K": 7, "ROWS": tiles.rows, "COLUMNS": tiles.columns, "TAPS": tiles.taps}
    chosen |= {"SPAN_Y": tiles.span[0], "SPAN_X": tiles.span[1]}
    compile_kernel(kernels.window_sum_kernel, dtype, channels_last, capability, CHANNELS=channels, **chosen)
    compile_kernel(kernels.to_weights_kernel, dtype, channels_last, capability, CHANNELS=min(64, channels), **chosen)


FILTERS, SIMILARITY = "filters" in sys.argv, "similarity" in sys.argv
for dtype, channels_last in (("fp32", False), ("bf16", True), ("fp16", False), ("fp64", False)):
    for capability in (80, 90):
        if FILTERS:
            compile_filters(dtype, channels_last, capability)
            continue
        if SIMILARITY:
            if dtype != "fp64":
                compile_similarity(dtype, channels_last, capability)
            continue
        compile_reassembly(dtype, channels_last, capability)
