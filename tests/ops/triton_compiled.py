"""Compiles every Triton kernel for sm_80 and sm_90, which needs no GPU. The interpreter sees no errors of lowering."""

import importlib
import inspect
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

kernels = importlib.import_module("resfu.ops.reassembly.triton_kernels")
POINTERS = {"x", "w", "s", "out", "grad", "guide", "key", "query", "paired", "reduce", "score"}
POINTERS |= {"weight", "bias", "reduce_bias", "score_bias"}
SUMS = {"m", "n", "affine", "key_affine", "query_affine", "hidden_affine", "sums"}
LAST, FIRST = {"xc", "gc", "oc", "mc", "kc", "qc"}, {"xw", "gw", "ow", "mw", "kw", "qw"}
LEAST = 99 << 10  # bytes of shared memory that a program may have on every GPU from sm_80 on: that of sm_86 and sm_89


def compile_kernel(
    kernel, dtype: str, channels_last: bool, capability: int, softmax: bool = False, products: bool = True,
    exact: tuple[str, ...] = (), **chosen
) -> None:  # fmt: skip
    """`exact`: the maps in fp32 that have a name of others. Constants are chosen; "i32" leaves one to the launch."""
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {
        "READ": 1, "M": 4, "K": 3 if softmax else 4, "SOFTMAX": softmax, "MASK": softmax, "ROWS": 4, "COLUMNS": 16,
        "SPAN_Y": 4, "SPAN_X": 7, "TAPS": 32, "PIXELS": 32, "CHANNELS": 64,
        "SUM": tl.float64 if dtype == "fp64" else tl.float32,
    }  # fmt: skip
    constants = {name: value for name, value in (constants | chosen).items() if name in names and value != "i32"}
    ones = {n for n in names if n in (LAST if channels_last else FIRST)}
    signature = {}
    for name in names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in ones:  # a stride of 1 is known at compile time
            signature[name], constants[name] = "constexpr", 1
        else:
            sums = SUMS.union(exact)
            kinds = (("*fp64" if dtype == "fp64" else "*fp32", sums), (f"*{dtype}", POINTERS))
            signature[name] = next((kind for kind, of in kinds if name in of), "i32")
    binary = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=constants), target=GPUTarget("cuda", capability, 32)
    )
    assert binary.metadata.shared <= LEAST, f"{kernel.fn.__name__} {dtype} {chosen}: {binary.metadata.shared} bytes"
    if products and dtype in ("bf16", "fp16"):
        assert "mma" in binary.asm["ptx"], "not on the tensor cores"
    print(
        kernel.fn.__name__, dtype, f"sm_{capability}", "channels-last" if channels_last else "", binary.metadata.shared
    )


def compile_filters(dtype: str, channels_last: bool, capability: int) -> None:
    filters = importlib.import_module("resfu.ops.filters.triton")
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
    for reading, normalised, scores, sizes in (
        ("dilated", False, True, {}), ("dilated", False, False, ones), ("fine", False, True, {}),
        ("coarse", False, False, ones), ("dilated", True, True, {}), ("dilated", True, False, ones),
        ("fine", True, True, ones), ("coarse", True, False, {}),
    ):  # fmt: skip
        compile_kernel(
            similarity.similarity_kernel, dtype, channels_last, capability,
            READING=reading, K=3, D=8, M=32, GROUPS=4, COUNT=9, N=32, S=16, PIXELS=64 if dtype == "fp32" else 128,
            BLOCK=16, PRECISION=precision, NORMALISED=normalised, SCORES=scores, **sizes,
        )  # fmt: skip


def compile_inference(dtype: str, channels_last: bool, capability: int) -> None:
    """What the scores and `normalised_product` launch beside the passes."""
    parts = importlib.import_module("resfu.ops.similarity.triton_parts")
    layers = importlib.import_module("resfu.ops.layers.triton")
    gaussian = importlib.import_module("resfu.ops.filters.triton_gaussian")
    sizes = ("C", "width", "area", "H", "W", "h", "w_low", "rows", "columns", "wide", "tiles", "count")
    ones = dict.fromkeys(sizes, 1) if dtype == "fp16" else {}  # known at compile time, too
    precision = "tf32x3" if dtype == "fp32" else "ieee"
    product = {"N": 32, "PIXELS": 64, "PRECISION": precision, "M": 32, "D": 8, "K": 3, "GROUPS": 4, **ones}
    alone = {"products": False, "EPS": 1e-5, **ones}
    where = dtype, channels_last, capability
    for reading, index in (("own", tl.int32), ("fine", tl.int32), ("coarse", tl.int64)):
        chosen = {"READING": reading, "INDEX": index, "PIXELS": 2048, "CHANNELS": 4}
        compile_kernel(layers.affine_kernel, *where, exact=("out",), **chosen, **alone)
    compile_kernel(layers.projection_kernel, *where, BLOCK=32, BIASED=True, **product | {"PIXELS": 128, "D": "i32"})
    compile_kernel(layers.projection_kernel, *where, BLOCK=32, BIASED=False, **product | {"N": 128, "D": "i32"})
    for normalised in (False, True):
        compile_kernel(parts.convolved_key_kernel, *where, BLOCK=16, NORMALISED=normalised, **product)
    compile_kernel(parts.hidden_affine_kernel, *where, exact=("out",), TILES=128, CHANNELS=16, M="i32", **alone)
    compile_kernel(parts.paired_kernel, *where, TAPS=9, T=16, N=32, M="i32", **alone)
    shares = {"CENTRE": 0.4519, "BESIDE": 0.2741}
    compile_kernel(gaussian.gaussian_kernel, *where, PIXELS=64, CHANNELS=32, **shares, **alone)


def compile_reassembly(dtype: str, channels_last: bool, capability: int) -> None:
    ones = dict.fromkeys(("h", "w_low", "H", "W"), 1) if dtype == "fp16" else {}  # known at compile time, too
    compile_kernel(kernels.window_sum_kernel, dtype, channels_last, capability, **ones)
    compile_kernel(kernels.window_sum_kernel, dtype, channels_last, capability, softmax=True, **ones)
    compile_kernel(kernels.to_weights_kernel, dtype, channels_last, capability, READ=0, **ones)
    compile_kernel(kernels.to_features_kernel, dtype, channels_last, capability, **ones)


def compile_large_windows(dtype: str, channels_last: bool, capability: int) -> None:
    """JBU's windows, and those of ReSFU where several cells make a tile: as large as the launches choose them."""
    chosen = importlib.import_module("resfu.ops.reassembly.triton_tiles")
    size = {"fp32": 4, "bf16": 2}[dtype]
    for neighbours, low, high, M in (("dense", 64, 64, 7), ("fine", 32, 64, 6), ("fine", 32, 32, 4)):
        tiles = chosen.tiling(high, high, low, low, M, neighbours, channels_last, size)
        options = {"READ": {"dense": 0, "fine": 1}[neighbours], "M": M, "K": M, **tiles.constants()}
        for kernel, channels in (
            (kernels.window_sum_kernel, chosen.summed_channels),
            (kernels.to_weights_kernel, chosen.correlated_channels),
        ):
            options["CHANNELS"] = channels(256, tiles.pixels, tiles.taps, size)
            compile_kernel(kernel, dtype, channels_last, capability, **options)


FILTERS, SIMILARITY, INFERENCE, LARGE = (word in sys.argv for word in ("filters", "similarity", "inference", "large"))
if LARGE:
    for dtype in ("fp32", "bf16"):
        compile_large_windows(dtype, False, 86)
    sys.exit()
for dtype, channels_last in (("fp32", False), ("bf16", True), ("fp16", False), ("fp64", False)):
    for capability in (80, 90):
        if FILTERS:
            compile_filters(dtype, channels_last, capability)
            continue
        if INFERENCE:
            if dtype != "fp64":
                compile_inference(dtype, channels_last, capability)
            continue
        if SIMILARITY:
            if dtype != "fp64":
                compile_similarity(dtype, channels_last, capability)
            continue
        compile_reassembly(dtype, channels_last, capability)
