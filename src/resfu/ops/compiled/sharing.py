"""A kernel's work shared out among threads by compiled code: no thread but the caller's enters Python."""

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INT, _NUMBER, _BYTES = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()

# Of `team`: the address of GOMP_parallel or 0 for the calling thread alone, threads, pieces of work, shares of them.
ADDRESS, THREADS, COUNT, SHARES = range(4)
# Of `counters`, which begin at 0: shares that are taken, threads that have begun, whether a kernel failed.
TAKEN, BEGUN, FAILED = range(3)


@intrinsic
def share(typingctx, kernel, team, counters, arguments):
    """For launchers: each thread calls kernel(first, last, thread, *arguments) for shares until none is left.

    team, four numbers, and counters [3] of int64, as above. The arguments lie on the caller's stack, so this returns
    when all threads have.
    """
    integer = types.int64
    kinds = (integer, integer, integer, *arguments.types)
    typed = typingctx.resolve_function_type(kernel, kinds, {})

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        compiled = kernel.dispatcher.get_compile_result(typed)
        context.active_code_library.add_linking_library(compiled.library)
        _, numbers, shared, given = args
        team_of = [builder.extract_value(numbers, i) for i in range(4)]
        counted = cgutils.create_struct_proxy(counters)(context, builder, shared).data
        values = [counted, team_of[COUNT], team_of[SHARES]]
        values += [builder.extract_value(given, i) for i in range(len(arguments.types))]
        data = cgutils.alloca_once(builder, ir.LiteralStructType([v.type for v in values]))
        for i, value in enumerate(values):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, i))
        work, address = _work(context, builder.module, compiled, data.type), team_of[ADDRESS]
        with builder.if_else(builder.icmp_signed("==", address, _number(0))) as (alone, together):
            with alone:
                builder.call(work, [builder.bitcast(data, _BYTES)])
            with together:
                kind = ir.FunctionType(ir.VoidType(), [work.type, _BYTES, _NUMBER, _NUMBER])
                threads, nothing = builder.trunc(team_of[THREADS], _NUMBER), ir.Constant(_NUMBER, 0)
                parallel = builder.inttoptr(address, kind.as_pointer())
                builder.call(parallel, [work, builder.bitcast(data, _BYTES), threads, nothing])
        return context.get_dummy_value()

    return types.void(kernel, team, counters, arguments), generate


def _work(context: Any, module: Any, compiled: Any, kind: Any) -> Any:
    """The function of one thread: void (bytes of the arguments)."""
    work = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES]), module.get_unique_name("work"))
    work.linkage = "internal"
    b = ir.IRBuilder(work.append_basic_block("begin"))
    data = b.bitcast(work.args[0], kind)
    counters, count, shares, *values = (
        b.load(cgutils.gep_inbounds(b, data, 0, i)) for i in range(len(kind.pointee.elements))
    )
    thread = _added(b, counters, BEGUN)
    following, inside, end = (b.append_basic_block(name) for name in ("next", "share", "end"))
    b.branch(following)
    b.position_at_end(following)
    taken = _added(b, counters, TAKEN)
    b.cbranch(b.icmp_signed("<", taken, shares), inside, end)
    b.position_at_end(inside)
    first, last = (b.sdiv(b.mul(count, n), shares) for n in (taken, b.add(taken, _number(1))))
    function, kinds = context.declare_function(module, compiled.fndesc), compiled.signature
    arguments = [first, last, thread, *values]
    status, _ = context.call_conv.call_function(b, function, kinds.return_type, kinds.args, arguments)
    with b.if_then(status.is_error):
        b.store(_number(1), b.gep(counters, [_number(FAILED)]))
    b.branch(following)
    b.position_at_end(end)
    b.ret_void()
    return work


def _added(builder: Any, counters: Any, i: int) -> Any:
    """What a counter held before it went up by 1."""
    return builder.atomic_rmw("add", builder.gep(counters, [_number(i)]), _number(1), "seq_cst")


def _number(n: int) -> Any:
    return ir.Constant(_INT, n)
