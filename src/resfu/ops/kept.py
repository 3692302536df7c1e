"""Cache for tensors that only depend on sizes."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch

R = TypeVar("R")


def kept(maxsize: int = 64) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorator that caches the latest results of a function that makes tensors from sizes.

    A tensor made in inference mode cannot be saved for a backward pass later. So the function always runs outside of
    inference mode, even if it is first called there.

    Args:
        maxsize: number of results to keep.
    """

    def keeping(make: Callable[..., R]) -> Callable[..., R]:
        @lru_cache(maxsize=maxsize)
        @wraps(make)
        def made(*arguments: Any, **options: Any) -> R:
            with torch.inference_mode(False), torch.no_grad():
                return make(*arguments, **options)

        return made

    return keeping
