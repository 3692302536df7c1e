"""Sixteen fp32 numbers as a value of the compiled kernels.

Numba makes vectors of loops by itself, but leaves the last pixels of each to a loop of single numbers, and asks at
every short loop whether its arrays overlap. A kernel that names its vectors has neither, and keeps sums in registers.
"""

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from resfu.ops.compiled.tile import LANES, store_vector

_LLVM = ir.VectorType(ir.FloatType(), LANES)


class Vector(types.Type):
    """Numba's type of them: `a + b`, `a - b`, `a * b` and `a / b` work on all numbers at once."""

    def __init__(self) -> None:
        super().__init__("Vector")


_VECTOR = Vector()


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LLVM)


@intrinsic
def load(typingctx, x, i):
    """For kernels: x[i .. i + 15] of a flat fp32 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.bitcast(_place(context, builder, signature, args), _LLVM.as_pointer()))
        value.align = 4
        return value

    return _VECTOR(x, types.intp), generate


@intrinsic
def store(typingctx, x, i, v):
    """For kernels: x[i .. i + 15] = v."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store_vector(builder, args[2], _place(context, builder, signature, args))
        return context.get_dummy_value()

    return types.void(x, types.intp, _VECTOR), generate


@intrinsic
def store_past_the_cache(typingctx, x, i, v):
    """For kernels: the same without reading into the cache what lay there.

    x[i] is at a multiple of 64 bytes, and `memory.fence` has to follow.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store_vector(builder, args[2], _place(context, builder, signature, args), streaming=True)
        return context.get_dummy_value()

    return types.void(x, types.intp, _VECTOR), generate


@intrinsic
def splat(typingctx, value):
    """For kernels: sixteen times an fp32 number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.insert_element(ir.Constant(_LLVM, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, first, _lanes([0] * LANES))

    return _VECTOR(types.float32), generate


@intrinsic
def fma(typingctx, a, b, c):
    """For kernels: a b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_LLVM, [_LLVM] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32"), args)

    return _VECTOR(_VECTOR, _VECTOR, _VECTOR), generate


@intrinsic
def total(typingctx, v):
    """For kernels: the sum of the sixteen, in pairs, then pairs of pairs."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, name = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _LLVM]), f"llvm.vector.reduce.fadd.v{LANES}f32"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [ir.Constant(ir.FloatType(), -0.0), args[0]], fastmath=("reassoc",))

    return types.float32(_VECTOR), generate


@intrinsic
def where_positive(typingctx, sign, v):
    """For kernels: v where `sign` is above 0, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(_LLVM, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], zero)

    return _VECTOR(_VECTOR, _VECTOR), generate


def beside(count: int) -> Callable[..., Any]:
    """A function for kernels: what lies `count` numbers further on in two vectors that follow each other."""

    @intrinsic
    def run(typingctx, a, b):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.shuffle_vector(*args, _lanes(list(range(count, count + LANES))))

        return _VECTOR(_VECTOR, _VECTOR), generate

    return run


def _arithmetic(function: Any, name: str) -> None:
    @intrinsic
    def run(typingctx, a, b):
        return _VECTOR(_VECTOR, _VECTOR), lambda context, builder, signature, args: getattr(builder, name)(*args)

    @overload(function)
    def typed(a, b):
        if isinstance(a, Vector) and isinstance(b, Vector):
            return lambda a, b: run(a, b)  # pyright: ignore[reportCallIssue]
        return None


_OPERATORS = ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"))
for _function, _name in _OPERATORS:
    _arithmetic(_function, _name)


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    data = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]], inbounds=True)


def _lanes(indices: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), indices)
