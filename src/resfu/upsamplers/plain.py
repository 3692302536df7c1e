"""Whether a module may be computed from its parameters without being called.

Some operations are faster when they fold a module into the one before it. Hooks, wrappers and parametrizations only
take effect when the module is called, so a module that has any of them must be called.
"""

from collections.abc import Iterator
from typing import TypeGuard

from torch import nn
from torch.nn.modules import module as torch_module

from resfu.upsamplers.normalization import GroupNorm, UpsampledGroupNorm

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_plain(module: nn.Module, *classes: type[nn.Module]) -> bool:
    """Whether a module is of one of these classes, and calling it does nothing but their arithmetic.

    Wrapped and parametrized modules have another class. Hooks (also those of `prune` and of the old `weight_norm`) are
    registered in the module or for all modules. Quantised weights are tensors that contain other tensors.
    """
    own = vars(module)
    return (
        type(module) in classes
        and not any(own[hooks] for hooks in _HOOKS)
        and not torch_module._has_any_global_hook()
        and "forward" not in own  # the method was replaced in this object
        and own.get("_compiled_call_impl") is None  # set by module.compile()
        and not any(hasattr(type(p), "__tensor_flatten__") for p in own["_parameters"].values())
    )


def all_plain(module: nn.Module) -> bool:
    """Whether no submodule is hooked, wrapped or parametrized, so that their parameters may be used without a call."""
    return next(not_plain(module), None) is None


def not_plain(module: nn.Module) -> Iterator[str]:
    """The names of the submodules that are hooked, wrapped or parametrized."""
    ours = ("resfu.upsamplers.", "torch.nn.modules.")
    for name, part in module.named_modules():
        if name and not (is_plain(part, type(part)) and type(part).__module__.startswith(ours)):
            yield name


def is_plain_convolution(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a plain 1 x 1 convolution, with or without groups."""
    if not isinstance(module, nn.Conv2d) or not is_plain(module, nn.Conv2d):
        return False
    return module.kernel_size == module.stride == (1, 1) and module.padding == (0, 0)


def is_plain_group_norm(module: nn.Module) -> TypeGuard[nn.GroupNorm]:
    """Whether a module is a plain GroupNorm with weight and bias."""
    if not isinstance(module, nn.GroupNorm) or not is_plain(module, nn.GroupNorm, GroupNorm, UpsampledGroupNorm):
        return False
    return module.weight is not None and module.bias is not None
