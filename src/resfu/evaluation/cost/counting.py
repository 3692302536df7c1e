"""Parameters and multiply-accumulates, counted on the operations that run."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resfu.evaluation.cost.formulas import FORMULAS


def count_parameters(module: nn.Module, trainable_only: bool = False) -> int:
    """Number of parameters, shared ones counted once; `trainable_only` leaves out those without a gradient."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)


def multiply_accumulates(module: Callable[..., Any], *inputs: Any, **options: Any) -> int:
    """Multiply-accumulates of one call without gradients, by the convention of `resfu.evaluation.cost.formulas`.

    Every PyTorch operation of the call is counted with its actual sizes, even inside custom operations of other
    libraries and of `resfu.ops`. Not counted: Triton and CUDA kernels that are launched directly (count on the CPU
    instead), and products inside a few composite operations of PyTorch (`cdist`, FFT, recurrent layers).

    Args:
        module: a module or function; a module runs in its current mode (call `.eval()` first).
        *inputs: its arguments.
        **options: its keyword arguments.
    """
    return sum(multiply_accumulates_by_operation(module, *inputs, **options).values())


def multiply_accumulates_by_operation(module: Callable[..., Any], *inputs: Any, **options: Any) -> dict[str, int]:
    """`multiply_accumulates` by the name of the operation ("convolution", "bmm", ...), largest first."""
    with torch.no_grad(), _plain_attention(), _OperationCounter() as counter:
        module(*inputs, **options)
    return dict(counter.counts.most_common())


class _OperationCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.rstrip("_")  # in-place (addmm_) like out-of-place
        if name in FORMULAS:
            output = func(*args, **kwargs)
            count = FORMULAS[name](args, output[0] if isinstance(output, tuple | list) else output)
            self.counts[name.removeprefix("aten::")] += count
            return output
        with self:
            output = func.decompose(*args, **kwargs)  # inference mode does not decompose composite operations
            if output is NotImplemented and func.namespace not in ("aten", "prim"):
                output = _run_kernel(func, args, kwargs)
        return func(*args, **kwargs) if output is NotImplemented else output


def _run_kernel(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a custom operation's own kernel under the counter, which then sees the operations inside."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    key = torch._C._dispatch_key_for_device(tensors[0].device.type) if tensors else None
    if key is None or not torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), key):
        return NotImplemented
    return func.redispatch(torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key)), *args, **kwargs)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Disable nn.TransformerEncoderLayer's one-kernel fast path, which hides its products."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
