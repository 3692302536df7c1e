"""Inductor without its slowest parts: each function patches the process that calls it."""

from types import SimpleNamespace

import torch
from torch._inductor import async_compile, config
from torch._inductor.graph import GraphLowering


def stop_after_lowering() -> None:
    """Lower forward and backward, then run the graphs that were lowered by PyTorch's own operators."""

    def compile_to_module(graph: GraphLowering) -> SimpleNamespace:
        graph.scheduler = SimpleNamespace(nodes=[])
        return SimpleNamespace(call=lambda inputs: torch.fx.Interpreter(graph.orig_gm).run(*inputs))

    config.force_disable_caches = True
    GraphLowering.compile_to_module = compile_to_module


def without_kernels() -> None:
    """Generate all code, then run it with C++ kernels that do nothing: it checks sizes and strides, and no values."""
    config.force_disable_caches = True
    config.cpp.vec_isa_ok = True  # no compiler to ask
    async_compile.AsyncCompile.cpp_pybinding = lambda *_, **__: lambda *_: None
