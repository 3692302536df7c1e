"""The hot loop of a sum at ratio 2: the four pixels of a low-resolution pixel read the same neighbours."""

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from resfu.ops.compiled.registers import AVX512, parts
from resfu.ops.compiled.tile import LANES, store_vector

CHANNELS = 4  # of a block
PHASES = 4  # pixels of a low-resolution pixel: top left, top right, bottom left, bottom right
# Of these so many channels and low-resolution pixels at once: their sums stay in registers.
_CHANNELS_AT_ONCE, _AT_ONCE = (4, 16) if AVX512 else (2, 8)

_FLOAT, _INT = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, _AT_ONCE)


def doubled_product(streaming: bool = False) -> Callable[..., Any]:
    """A function for kernels: the pixels of 16 low-resolution pixels in a row, of 4 channels i, in flat fp32 arrays.

    product(out, o, so, width, w, a, x, b, sx, K, table, bias, c):
    out[o + so i + width y + 2 p + z] = bias[c + i] + sum over k < K of w[a + 64 k + 16 (2 y + z) + p] x[b + sx i +
    table[k] + p], for p < 16 and y, z < 2. With c < 0 there is no bias.

    Args:
        streaming: store past the cache, where a large result would be read into it first. All its rows of 16 numbers
            have to begin at multiples of 64 bytes, and `memory.fence` follows.
    """

    @intrinsic
    def run(typingctx, out, o, so, width, w, a, x, b, sx, K, table, bias, c):  # pyright: ignore
        integer = types.intp
        signature = types.void(
            out, integer, integer, integer, w, integer, x, integer, integer, integer, table, bias, integer
        )
        return signature, lambda *given: _generate(given, streaming)

    return run


def _generate(given: tuple[Any, ...], streaming: bool) -> Any:
    for channels in parts(CHANNELS, _CHANNELS_AT_ONCE):
        for start in range(0, LANES, _AT_ONCE):
            _generate_part(given, streaming, channels, start)
    return given[0].get_dummy_value()


def _generate_part(given: tuple[Any, ...], streaming: bool, channels: range, start: int) -> None:
    context, b, signature, args = given

    def data(i: int) -> Any:
        return cgutils.create_struct_proxy(signature.args[i])(context, b, args[i]).data

    out, w, x, table, bias = (data(i) for i in (0, 4, 6, 10, 11))
    _, o, so, width, _, a, _, begin, sx, K, _, _, c = args
    name = f"llvm.fma.v{_AT_ONCE}f32"
    fma = cgutils.get_or_insert_function(b.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), name)
    begins = [b.gep(x, [b.add(begin, b.add(b.mul(sx, _number(i)), _number(start)))]) for i in channels]
    first = [_splat(b, _bias(b, bias, c, i)) for i in channels]
    targets = [
        [b.gep(out, [b.add(b.add(o, b.mul(so, _number(i))), b.mul(width, _number(y)))]) for y in range(2)]
        for i in channels
    ]
    before, loop, after = b.block, b.append_basic_block("sum"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    k = b.phi(_INT)
    k.add_incoming(_number(0), before)
    running = [[b.phi(_VECTOR) for _ in range(PHASES)] for _ in channels]
    place = b.gep(w, [b.add(a, b.mul(k, _number(PHASES * LANES)))])
    weights = [_load(b, b.gep(place, [_number(q * LANES + start)])) for q in range(PHASES)]
    tap, added = b.load(b.gep(table, [k])), []
    for channel, sums in zip(begins, running, strict=True):
        value = _load(b, b.gep(channel, [tap]))
        added.append([b.call(fma, [weight, value, total]) for weight, total in zip(weights, sums, strict=True)])
    following = b.add(k, _number(1))
    k.add_incoming(following, loop)
    for sums, bias_of_channel, results in zip(running, first, added, strict=True):
        for total, result in zip(sums, results, strict=True):
            total.add_incoming(bias_of_channel, before)
            total.add_incoming(result, loop)
    b.cbranch(b.icmp_signed("<", following, K), loop, after)
    b.position_at_end(after)
    for rows, results in zip(targets, added, strict=True):
        for y, target in enumerate(rows):
            for p in range(0, 2 * _AT_ONCE, LANES):
                lanes = [(p + i) // 2 + i % 2 * _AT_ONCE for i in range(LANES)]
                pixels = b.shuffle_vector(results[2 * y], results[2 * y + 1], _lanes(lanes))
                store_vector(b, pixels, b.gep(target, [_number(2 * start + p)]), streaming)


def _bias(b: Any, bias: Any, c: Any, i: int) -> Any:
    there = b.icmp_signed(">=", c, _number(0))
    value = b.load(b.gep(bias, [b.select(there, b.add(c, _number(i)), _number(0))]))
    return b.select(there, value, ir.Constant(_FLOAT, 0.0))


def _splat(b: Any, scalar: Any) -> Any:
    anything = ir.Constant(_VECTOR, ir.Undefined)
    first = b.insert_element(anything, scalar, ir.Constant(ir.IntType(32), 0))
    return b.shuffle_vector(first, anything, _lanes([0] * _AT_ONCE))


def _load(b: Any, place: Any) -> Any:
    value = b.load(b.bitcast(place, _VECTOR.as_pointer()))
    value.align = 4
    return value


def _lanes(indices: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), indices)


def _number(n: int) -> Any:
    return ir.Constant(_INT, n)
