"""An upsampler together with constructor arguments, in one word: `resfu+alignment=semantic+guided_query=false`."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch

from resfu.evaluation.published import option_from
from resfu.upsamplers import UPSAMPLERS, create_upsampler

# What the network will set. These fit every method: only the arguments are to be checked.
_GIVEN = {"channels": 64, "guidance_channels": 64, "scale_factor": 2}


def variant_name(upsampler: str, options: Mapping[str, object]) -> str:
    """The word for an upsampler with arguments; those that it has by default are left out.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        options: constructor arguments.
    """
    parameters = inspect.signature(UPSAMPLERS[upsampler]).parameters
    own = {key: value for key, value in options.items() if key not in parameters or parameters[key].default != value}
    return "+".join([upsampler, *(f"{key}={_word(value)}" for key, value in own.items())])


def parse_variant(name: str) -> tuple[str, dict[str, Any]]:
    """The upsampler and the arguments of a word.

    Raises:
        ValueError: for an unknown upsampler or argument, or a bad value.
    """
    upsampler, *words = name.split("+")
    if upsampler not in UPSAMPLERS:
        raise ValueError(f"unknown upsampler {upsampler!r}; choose from {', '.join(UPSAMPLERS)}.")
    options = dict(option_from(word) for word in words)
    checked: dict[str, Any] = {key: value for key, value in options.items() if key != "iterative"}  # the network's own
    with torch.device("meta"):
        create_upsampler(upsampler, **{**_GIVEN, **checked})
    return upsampler, options


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
