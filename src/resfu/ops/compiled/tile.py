"""The one hot loop of the compiled kernels: a product of matrices whose sums stay in registers.

    out[i, p] = start[i] + sum_k w[i, k] x[k, p]        8 rows i (or `rows`), 32 columns p (or 16)

A convolution, its gradients and the weighted sum of neighbours are all this product, with rows that lie anywhere in
memory. Numba's own loops keep no sums in registers, so this one is written in LLVM's instructions (see `registers`).
"""

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from resfu.ops.compiled.registers import ROWS_AT_ONCE, VECTORS_AT_ONCE, parts

LANES = 16  # fp32 numbers of a vector; a processor with shorter ones takes several for each
PIXELS = 2 * LANES  # of a tile
ROWS = 8

_FLOAT, _INT = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)
_ANYTHING = ir.Constant(_VECTOR, ir.Undefined)


def product(
    rows: int = ROWS,
    vectors: int = 2,
    start: str = "zero",
    relu: bool = False,
    tables: str = "",
    streaming: bool = False,
    halves: bool = False,
) -> Callable[..., Any]:
    """A function for kernels: product(out, o, so, w, a, sw, kw, x, b, sx, K, bias, c, table, t).

    out[o + so i + p] = start[i] + sum over k < K of w[a + sw i + kw k] x[b + sx k + p], of flat fp32 arrays, K >= 1. If
    `tables` names "o", "w" or "x", the rows of that array start at table[t + row] instead of so i, sw i, sx k. Rows of
    out may overlap: each is written over the end of the one before.

    Args:
        rows: i < rows.
        vectors: p < 16 vectors.
        start: "zero", "bias" (bias[c + i]), or "out" to add to what is there.
        relu: of the result; NaN stays.
        tables: which arrays have their rows in the table of int64.
        streaming: store past the cache, where a large result would be read into it first. All rows of 16 numbers begin
            at multiples of 64 bytes then, and `memory.fence` has to follow.
        halves: the function takes one more number, and where that is at most 16 only 16 columns are computed.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any, vectors: int) -> None:
        emitter = _Emitter(context, builder, signature, args)
        emitter.product(rows, vectors, start, relu, tables, streaming)

    @intrinsic
    def run(typingctx, out, o, so, w, a, sw, kw, x, b, sx, K, bias, c, table, t):  # pyright: ignore
        integer = types.intp
        signature = types.void(
            out, integer, integer, w, integer, integer, integer, x, integer, integer, integer, bias, integer, table,
            integer,
        )  # fmt: skip

        def generate(context, builder, signature, args):
            emit(context, builder, signature, args, vectors)
            return context.get_dummy_value()

        return signature, generate

    @intrinsic
    def run_either(typingctx, out, o, so, w, a, sw, kw, x, b, sx, K, bias, c, table, t, count):  # pyright: ignore
        integer = types.intp
        signature = types.void(
            out, integer, integer, w, integer, integer, integer, x, integer, integer, integer, bias, integer, table,
            integer, integer,
        )  # fmt: skip

        def generate(context, builder, signature, args):
            with builder.if_else(builder.icmp_signed(">", args[-1], _number(LANES))) as (whole, half):
                with whole:
                    emit(context, builder, signature, args[:-1], 2)
                with half:
                    emit(context, builder, signature, args[:-1], 1)
            return context.get_dummy_value()

        return signature, generate

    return run_either if halves else run


def window_product(rows: int = ROWS, apart: bool = False) -> Callable[..., Any]:
    """A function for kernels: window_product(out, o, so, w, a, x, b, sx, K, table, t).

    out[o + so i + p] = sum over k < K of w[a + 32 k + p] x[b + sx i + table[t + k] + p], i < rows, p < 32: weights of
    their own for every pixel, shared by the rows. `product` with the vectors on the other side. With `apart` the
    function takes one more number, u, and weights begin at w[a + table[u + k]].
    """

    def signature_of(out, w, x, table, *more):
        integer = types.intp
        return types.void(out, integer, integer, w, integer, x, integer, integer, integer, table, integer, *more)

    def generate(context, builder, signature, args):
        out, o, so, w, a, x, b, sx, K, table, t, *u = args
        nothing = (out, o, so, w, a, a, a, x, b, sx, K, x, a, table, t)
        kinds = types.void(*(signature.args[i] for i in (0, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 5, 4, 9, 10)))
        _Emitter(context, builder, kinds, nothing).window_product(rows, *u)
        return context.get_dummy_value()

    @intrinsic
    def run(typingctx, out, o, so, w, a, x, b, sx, K, table, t):  # pyright: ignore
        return signature_of(out, w, x, table), generate

    @intrinsic
    def run_apart(typingctx, out, o, so, w, a, x, b, sx, K, table, t, u):  # pyright: ignore
        return signature_of(out, w, x, table, types.intp), generate

    return run_apart if apart else run


def layer_product(streaming: bool = False) -> Callable[..., Any]:
    """A function for kernels: a product that begins with what is there, and sums up its columns.

    out[o + so i + p] = first[f + sf i + p] + sum over k < K of w[a + sw i + k] x[b + sx k + p], i < 8, p < 32. The
    results of all rows are added to sums[s + p], and their squares to sums[s + further + p].
    `streaming` as in `product`.
    """

    @intrinsic
    def run(typingctx, out, o, so, w, a, sw, x, b, sx, K, first, f, sf, sums, s, further):  # pyright: ignore
        integer = types.intp
        signature = types.void(
            out, integer, integer, w, integer, integer, x, integer, integer, integer, first, integer, integer, sums,
            integer, integer,
        )  # fmt: skip

        def generate(context, builder, signature, args):
            out, o, so, w, a, sw, x, b, sx, K, first, f, sf, sums, s, further = args
            given = (out, o, so, w, a, sw, _number(1), x, b, sx, K, first, f, x, f)
            kinds = types.void(*(signature.args[i] for i in (0, 1, 2, 3, 4, 5, 1, 6, 7, 8, 9, 10, 11, 6, 11)))
            emitter = _Emitter(context, builder, kinds, given)
            data = cgutils.create_struct_proxy(signature.args[13])(context, builder, sums).data

            def add(v: int, column: list[Any]) -> None:
                emitter.add_moments(builder.gep(data, [builder.add(s, _number(v * LANES))]), further, column)

            emitter.product(ROWS, 2, sf, False, "", streaming, add)
            return context.get_dummy_value()

        return signature, generate

    return run


class _Emitter:
    """LLVM instructions of one product."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.b = builder

        def data(i: int) -> Any:
            return cgutils.create_struct_proxy(signature.args[i])(context, builder, args[i]).data

        self.out, self.w, self.x, self.bias, self.table = (data(i) for i in (0, 3, 7, 11, 13))
        _, self.o, self.so, _, self.a, self.sw, self.kw, _, self.xb, self.sx, self.K, _, self.c, _, self.t = args
        self.fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )

    def product(
        self, rows: int, vectors: int, start: Any, relu: bool, tables: str, streaming: bool,
        add: Callable[[int, list[Any]], None] | None = None,
    ) -> None:  # fmt: skip
        for i in parts(rows, ROWS_AT_ONCE):
            for v in reversed(parts(vectors, VECTORS_AT_ONCE)):  # rows may overlap: what counts is written last
                results = self._block(i, v, start, relu, tables, streaming)
                if add is not None:
                    for n, column in zip(v, zip(*results, strict=True), strict=True):
                        add(n, list(column))

    def _block(
        self, rows: range, vectors: range, start: Any, relu: bool, tables: str, streaming: bool
    ) -> list[list[Any]]:
        b = self.b
        places = [self._row(self.out, self.o, self.so, _number(i), "o" in tables) for i in rows]
        weights = [self._row(self.w, self.a, self.sw, _number(i), "w" in tables) for i in rows]
        sums = [[self._start(start, i, v, place) for v in vectors] for i, place in zip(rows, places, strict=True)]
        before, loop, after = b.block, b.append_basic_block("sum"), b.append_basic_block("summed")
        b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(_INT)
        k.add_incoming(_number(0), before)
        running = [[b.phi(_VECTOR) for _ in row] for row in sums]
        place = self._row(self.x, self.xb, self.sx, k, "x" in tables)
        columns = [self._load(b.gep(place, [_number(v * LANES)])) for v in vectors]
        along, added = b.mul(k, self.kw), []
        for begin, phis in zip(weights, running, strict=True):
            weight = self._splat(b.load(b.gep(begin, [along])))
            added.append([b.call(self.fma, [weight, c, r]) for c, r in zip(columns, phis, strict=True)])
        following = b.add(k, _number(1))
        k.add_incoming(following, loop)
        for phis, first, last in zip(running, sums, added, strict=True):
            for phi, one, other in zip(phis, first, last, strict=True):
                phi.add_incoming(one, before)
                phi.add_incoming(other, loop)
        b.cbranch(b.icmp_signed("<", following, self.K), loop, after)
        b.position_at_end(after)
        for target, results in zip(places, added, strict=True):
            if relu:
                results = [b.select(b.fcmp_ordered("<", value, _ZERO), _ZERO, value) for value in results]
            for v, value in zip(vectors, results, strict=True):
                self._store(value, b.gep(target, [_number(v * LANES)]), streaming)
        return added

    def window_product(self, rows: int, weights_table: Any = None) -> None:
        for i in parts(rows, ROWS_AT_ONCE):
            for v in parts(2, VECTORS_AT_ONCE):
                self._window_block(i, v, weights_table)

    def _window_block(self, rows: range, vectors: range, weights_table: Any) -> None:
        b = self.b
        places = [b.gep(self.out, [b.add(self.o, b.mul(self.so, _number(i)))]) for i in rows]
        begins = [b.gep(self.x, [b.add(self.xb, b.mul(self.sx, _number(i)))]) for i in rows]
        before, loop, after = b.block, b.append_basic_block("sum"), b.append_basic_block("summed")
        b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(_INT)
        k.add_incoming(_number(0), before)
        running = [[b.phi(_VECTOR) for _ in vectors] for _ in rows]
        if weights_table is None:
            along = b.mul(k, _number(PIXELS))
        else:
            along = b.load(b.gep(self.table, [b.add(weights_table, k)]))
        weights = b.gep(self.w, [b.add(self.a, along)])
        weight = [self._load(b.gep(weights, [_number(v * LANES)])) for v in vectors]
        tap, added = b.load(b.gep(self.table, [b.add(self.t, k)])), []
        for begin, phis in zip(begins, running, strict=True):
            values = [self._load(b.gep(begin, [b.add(tap, _number(v * LANES))])) for v in vectors]
            added.append([b.call(self.fma, [w, x, r]) for w, x, r in zip(weight, values, phis, strict=True)])
        following = b.add(k, _number(1))
        k.add_incoming(following, loop)
        for phis, results in zip(running, added, strict=True):
            for phi, result in zip(phis, results, strict=True):
                phi.add_incoming(_ZERO, before)
                phi.add_incoming(result, loop)
        b.cbranch(b.icmp_signed("<", following, self.K), loop, after)
        b.position_at_end(after)
        for place, results in zip(places, added, strict=True):
            for v, result in zip(vectors, results, strict=True):
                self._store(result, b.gep(place, [_number(v * LANES)]))

    def add_moments(self, place: Any, further: Any, values: list[Any]) -> None:
        b, squares = self.b, self.b.gep(place, [further])
        total, square = self._load(place), self._load(squares)
        for value in values:
            total, square = b.fadd(total, value), b.call(self.fma, [value, value, square])
        self._store(total, place)
        self._store(square, squares)

    def _row(self, base: Any, offset: Any, stride: Any, i: Any, tabled: bool) -> Any:
        b = self.b
        place = b.load(b.gep(self.table, [b.add(self.t, i)])) if tabled else b.mul(stride, i)
        return b.gep(base, [b.add(offset, place)])

    def _start(self, start: Any, i: int, v: int, row: Any) -> Any:
        if start == "zero":
            return _ZERO
        if not isinstance(start, str):  # the distance of the rows of `bias`
            place = self.b.add(self.c, self.b.mul(start, _number(i)))
            return self._load(self.b.gep(self.bias, [self.b.add(place, _number(v * LANES))]))
        if start == "out":
            return self._load(self.b.gep(row, [_number(v * LANES)]))
        return self._splat(self.b.load(self.b.gep(self.bias, [self.b.add(self.c, _number(i))])))

    def _load(self, place: Any) -> Any:
        value = self.b.load(self.b.bitcast(place, _VECTOR.as_pointer()))
        value.align = 4
        return value

    def _store(self, value: Any, place: Any, streaming: bool = False) -> None:
        store_vector(self.b, value, place, streaming)

    def _splat(self, scalar: Any) -> Any:
        first = self.b.insert_element(_ANYTHING, scalar, ir.Constant(ir.IntType(32), 0))
        return self.b.shuffle_vector(first, _ANYTHING, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _number(n: int) -> Any:
    return ir.Constant(_INT, n)


def store_vector(builder: Any, value: Any, place: Any, streaming: bool = False) -> None:
    """Write 16 numbers, past the cache if asked: these must begin at a multiple of 64 bytes."""
    store = builder.store(value, builder.bitcast(place, _VECTOR.as_pointer()))
    store.align = 4 * LANES if streaming else 4
    if streaming:
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
