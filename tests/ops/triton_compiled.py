"""Compiles every Triton kernel for sm_80 and sm_90, which needs no GPU. The interpreter sees no errors of lowering."""

import importlib
import inspect

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

kernels = importlib.import_module("resfu.ops.reassemble.triton")
POINTERS = {"x", "w", "s", "out", "grad"}
TABLES = {"row_start", "column_start", "first_row", "first_column"}
FRACTIONS = {"row_fraction", "column_fraction"}


def compile_kernel(kernel, dtype: str, channels_last: bool, capability: int) -> None:
    names = list(inspect.signature(kernel.fn).parameters)
    sizes = {"M": 4, "K": 3, "FINE": True, "MASK": True}
    constants = {name: size for name, size in sizes.items() if name in names}
    constants |= {"PIXELS": 16, "CHANNELS": 64, "SUM": tl.float64 if dtype == "fp64" else tl.float32}
    ones = {n for n in names if n in ({"xc", "gc", "oc"} if channels_last else {"xw", "gw", "ow"})}
    signature = {}
    for name in names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in ones:  # a stride of 1 is known at compile time
            signature[name], constants[name] = "constexpr", 1
        else:
            kinds = ((f"*{dtype}", POINTERS), ("*i64", TABLES), ("*fp64", FRACTIONS))
            signature[name] = next((kind for kind, of in kinds if name in of), "i32")
    binary = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=constants), target=GPUTarget("cuda", capability, 32)
    )
    print(
        kernel.fn.__name__, dtype, f"sm_{capability}", "channels-last" if channels_last else "", binary.metadata.shared
    )


for kernel in (
    kernels.window_sum_kernel,
    kernels.softmax_window_sum_kernel,
    kernels.to_weights_kernel,
    kernels.to_features_kernel,
):
    for dtype, channels_last in (("fp32", False), ("bf16", True), ("fp16", False), ("fp64", False)):
        for capability in (80, 90):
            compile_kernel(kernel, dtype, channels_last, capability)
