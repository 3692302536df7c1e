"""Find the tensors of one upsampler in a file: bare, in a training checkpoint, or inside a whole network."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

# The keys under which training loops save the model's tensors, beside the optimiser's state and others.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "anyup")
# The prefixes that DistributedDataParallel and torch.compile put before every name.
_SHELLS = ("module.", "_orig_mod.")


def upsampler_tensors(
    content: Mapping[str, Any], name: str, known: Callable[[str], bool], sign: str, prefix: str | None = None
) -> dict[str, Tensor]:
    """Find one upsampler in a file's content.

    Args:
        content: tensors by name, or a checkpoint that holds them.
        name: the upsampler, for messages.
        known: tells whether a name, without its prefix, belongs to the upsampler.
        sign: regular expression for the beginning of a parameter name that every such upsampler has.
        prefix: the beginning of the upsampler's names in a network. Default: the only prefix with such an upsampler.

    Returns:
        The tensors under their names without the prefix. Tensors without this prefix are left out.

    Raises:
        ValueError: for anything but tensors, a prefix that no name has, or several upsamplers and no prefix.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"expected tensors by name, got {type(content).__name__}.")
    tensors = _unwrapped(content)
    if not tensors:
        raise ValueError(f"there is no tensor, and so no {name}, in what was given.")
    prefixes = {found[1] for key in tensors if (found := re.match(rf"((?:.*\.)?)(?:{sign})", key))}
    if prefix is None:
        prefix = _only(name, prefixes, lambda one: all(map(known, _behind(one, tensors))))
    elif prefix:
        prefix = prefix.removesuffix(".") + "."
    chosen = _behind(prefix, tensors) or _behind(_without_shells(prefix), tensors)
    if not chosen:
        choice = f"a published {name} lies behind {_listed(prefixes)}" if prefixes else f"there is no {name} in it"
        raise ValueError(f"no name begins with the prefix {prefix!r}; {choice}.")
    return chosen


def _unwrapped(content: Mapping[str, Any]) -> dict[str, Tensor]:
    while wrapper := next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None):
        content = content[wrapper]
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"expected tensors by name, got {type(value).__name__} under {key!r}.")
    if content and all(key.startswith(_SHELLS) for key in content):
        return {_without_shells(key): value for key, value in content.items()}
    return dict(content)


def _without_shells(name: str) -> str:
    while shell := next((shell for shell in _SHELLS if name.startswith(shell)), None):
        name = name.removeprefix(shell)
    return name


def _behind(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _only(name: str, prefixes: set[str], complete: Callable[[str], bool]) -> str:
    candidates = {prefix for prefix in prefixes if complete(prefix)} or prefixes
    if len(candidates) > 1:
        raise ValueError(
            f"the names of {len(candidates)} parts could be a published {name}: convert one at a time, with prefix = "
            f"{_listed(candidates)}."
        )
    return next(iter(candidates), "")


def _listed(prefixes: set[str], count: int = 8) -> str:
    more = f" or one of {len(prefixes) - count} more" if len(prefixes) > count else ""
    return ", ".join(map(repr, sorted(prefixes)[:count])) + more
