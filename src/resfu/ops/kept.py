"""Tables that depend on sizes alone, made once and kept."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch

R = TypeVar("R")


def kept(maxsize: int = 64) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Keep the latest results of a function of sizes, which makes tensors.

    A tensor made in inference mode may not be saved for backward later. So they are made outside of it, whoever asks
    first.

    Args:
        maxsize: number of results.
    """

    def keeping(make: Callable[..., R]) -> Callable[..., R]:
        @lru_cache(maxsize=maxsize)
        @wraps(make)
        def made(*arguments: Any, **options: Any) -> R:
            with torch.inference_mode(False), torch.no_grad():
                return make(*arguments, **options)

        return made

    return keeping
