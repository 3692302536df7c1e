"""An upsampler with constructor arguments, in one argument: `resfu+alignment=semantic+guided_query=false`."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch

from resfu.evaluation.published import option_from
from resfu.upsamplers import UPSAMPLERS, create_upsampler

# The network sets these later. They fit every method, because only the other arguments are checked here.
_GIVEN = {"channels": 64, "guidance_channels": 64, "scale_factor": 2}


def variant_name(upsampler: str, options: Mapping[str, object]) -> str:
    """Write an upsampler and its constructor arguments as one name, without default values.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        options: constructor arguments.
    """
    parameters = inspect.signature(UPSAMPLERS[upsampler]).parameters
    own = {key: value for key, value in options.items() if key not in parameters or parameters[key].default != value}
    return "+".join([upsampler, *(f"{key}={_text(value)}" for key, value in own.items())])


def parse_variant(name: str) -> tuple[str, dict[str, Any]]:
    """Read an upsampler and its constructor arguments from a name.

    Raises:
        ValueError: for an unknown upsampler or argument, or a bad value.
    """
    upsampler, *arguments = name.split("+")
    if upsampler not in UPSAMPLERS:
        raise ValueError(f"unknown upsampler {upsampler!r}; choose from {', '.join(UPSAMPLERS)}.")
    options = dict(option_from(argument) for argument in arguments)
    checked: dict[str, Any] = {key: value for key, value in options.items() if key != "iterative"}  # the network's own
    given = {key: value for key, value in _GIVEN.items() if key != "scale_factor" or "steps" not in checked}
    with torch.device("meta"):
        create_upsampler(upsampler, **{**given, **checked})
    return upsampler, options


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
