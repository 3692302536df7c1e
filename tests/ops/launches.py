"""Counts what ReSFU launches on the GPU path at inference, without a GPU. In a process of its own, since Triton reads
TRITON_INTERPRET when it is imported. Prints one line of JSON a case: the launches in order, by name.

A launch is a Triton kernel, or one operator of PyTorch that is neither a view nor an allocation. That is what PyTorch's
dispatcher sees, inside the library's own operators too: an operator may start several CUDA kernels (GroupNorm three,
some copies none). Kernels are counted and not run, so values mean nothing here.
"""

import importlib
import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

from resfu import ReSFU
from resfu.ops import backends
from resfu.ops.reassembly import operators as reassembly
from resfu.ops.reassembly import triton as reassembly_kernels
from resfu.ops.similarity import normalization

interpreter = importlib.import_module("triton.runtime.interpreter")
_ALLOCATE = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "detach", "lift_fresh")
_FREE = ("_unsafe_view", "alias", "promote_types")


class Launches(TorchDispatchMode):
    """Names of what is launched while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        interpreter.GridExecutor.__call__ = lambda executor, *_, **__: self.names.append(executor.fn.__name__)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        namespace, name = func._schema.name.split("::")
        if namespace == "resfu" and func._schema.name in OPDEFS:
            with self:  # what an operator of the library is made of
                return OPDEFS[func._schema.name]._init_fn(*args, **(kwargs or {}))
        if not func.is_view and name not in _ALLOCATE + _FREE:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def as_on_a_gpu() -> None:
    """Every module takes the Triton kernels for CPU tensors, and does not see the mode that counts."""
    backends._get_current_dispatch_mode_stack = list
    reassembly._kernels = lambda _: reassembly_kernels
    normalization._moments = normalization.moments  # the CPU keeps these
    chosen = backends.which_backend
    for module in list(sys.modules.values()):
        if getattr(module, "which_backend", None) is chosen:
            module.which_backend = lambda _, backend="auto": "triton" if backend == "auto" else backend  # pyright: ignore[reportAttributeAccessIssue]


def launched(up: torch.nn.Module, *inputs: torch.Tensor) -> list[str]:
    with Launches() as launches:
        up(*inputs)  # tiles are chosen once and kept
        launches.names.clear()
        up(*inputs)
    return launches.names


def hooked(layer: torch.nn.Module) -> None:
    layer.register_forward_hook(lambda *_: None)


def another_class(parent: torch.nn.Module, name: str) -> None:
    layer = getattr(parent, name)
    layer.__class__ = type("Another", (type(layer),), {})


# What the fused path must see, and leave alone.
SEEN = {
    "plain": lambda up: None,
    "a hook on the guidance's norm": lambda up: hooked(up.guidance_norm),
    "a hook on the query's projection": lambda up: hooked(up.query),
    "a hook on the block's norm": lambda up: hooked(up.semantic_similarity.norm),
    "a hook on the last layer": lambda up: hooked(up.detail_similarity.score),
    "a hook on a block": lambda up: hooked(up.detail_similarity),
    "a norm of another class": lambda up: another_class(up, "guidance_norm"),
    "a projection of another class": lambda up: another_class(up, "key"),
    "a block's norm of another class": lambda up: another_class(up.semantic_similarity, "norm"),
    "a compressor of another class": lambda up: another_class(up.detail_similarity, "reduce"),
}


def main() -> None:
    as_on_a_gpu()
    for dtype in (torch.float32, torch.bfloat16):
        features, guidance = torch.randn(1, 384, 4, 4, dtype=dtype), torch.randn(1, 32, 16, 16, dtype=dtype)
        for name, change in SEEN.items():
            up = ReSFU(384, 32).to(dtype).eval()
            change(up)
            with torch.no_grad():
                print(json.dumps({"case": name, "dtype": str(dtype), "launches": launched(up, features, guidance)}))
        up = ReSFU(384, 32).to(dtype).eval()
        print(json.dumps({"case": "gradients", "dtype": str(dtype), "launches": launched(up, features, guidance)}))
        up.requires_grad_(False)
        print(json.dumps({"case": "frozen", "dtype": str(dtype), "launches": launched(up, features, guidance)}))


if __name__ == "__main__":
    main()
