"""Whether a module may be computed from its parameters without being called.

Some operations are faster when they fold a module into the one before it. Hooks, wrappers and parametrizations live in
the call, and a module that has any of them must be called.
"""

from typing import TypeGuard

from torch import nn
from torch.nn.modules import module as torch_module

from resfu.upsamplers.normalization import GroupNorm, UpsampledGroupNorm

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_plain(module: nn.Module, *classes: type[nn.Module]) -> bool:
    """Whether a module is of one of these classes, and calling it comes to no more than their arithmetic.

    Wrappers and parametrizations are of another class; hooks, and with them `prune` and the old `weight_norm`, are
    registered in the module or for all modules; quantised weights are tensors that hold others.
    """
    own = vars(module)
    return (
        type(module) in classes
        and not any(own[hooks] for hooks in _HOOKS)
        and not torch_module._has_any_global_hook()
        and "forward" not in own  # replaced in this object alone
        and own.get("_compiled_call_impl") is None  # set by module.compile()
        and not any(hasattr(type(p), "__tensor_flatten__") for p in own["_parameters"].values())
    )


def all_plain(module: nn.Module) -> bool:
    """Whether nothing below a module is hooked, wrapped or parametrized, so that it may be read past."""
    parts = [part for part in module.modules() if part is not module]
    ours = ("resfu.upsamplers.", "torch.nn.modules.")
    return all(is_plain(part, type(part)) and type(part).__module__.startswith(ours) for part in parts)


def is_plain_convolution(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a plain 1 x 1 convolution, with groups or without."""
    if not isinstance(module, nn.Conv2d) or not is_plain(module, nn.Conv2d):
        return False
    return module.kernel_size == module.stride == (1, 1) and module.padding == (0, 0)


def is_plain_group_norm(module: nn.Module) -> TypeGuard[nn.GroupNorm]:
    """Whether it is a plain GroupNorm with an affine."""
    if not isinstance(module, nn.GroupNorm) or not is_plain(module, nn.GroupNorm, GroupNorm, UpsampledGroupNorm):
        return False
    return module.weight is not None and module.bias is not None
