"""Functions that build the named networks; the network's class is only imported when the function is called."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def named_host(name: str, factory: str, summary: str, task: str | None = None, **fixed: object) -> Callable[..., Any]:
    """Make a function that builds one network.

    Args:
        name: name of the network, a key of `resfu.HOSTS`.
        factory: name in `resfu.hosts` of the network's class, or of a function that builds it.
        summary: a sentence about the network, for `help`.
        task: the task for which it is trained, one of the `host_tasks` of `resfu.tasks.TASKS`. Default: semantic
            segmentation.
        **fixed: arguments of the class that belong to the name.

    Returns:
        The function.
    """

    def build(
        upsampler: str = "resfu",
        num_classes: int | None = None,
        pretrained: bool | str = False,
        upsampler_options: Mapping[str, object] | None = None,
        **host_options: object,
    ) -> Any:
        check_host_options(host_options, fixed)
        create = getattr(importlib.import_module("resfu.hosts"), factory)
        known = inspect.signature(create).parameters
        unknown = [option for option in host_options if option not in known]
        if unknown and all(parameter.kind is not parameter.VAR_KEYWORD for parameter in known.values()):
            raise ValueError(f"{factory} has no option {', '.join(unknown)}; its options are {', '.join(known)}.")
        if num_classes is not None:
            host_options["num_classes"] = num_classes
        return create(
            upsampler=upsampler, pretrained=pretrained, upsampler_options=upsampler_options, **fixed, **host_options
        )

    settings = ", ".join(f"{key}={value!r}" for key, value in fixed.items())
    vars(build)["task"] = task
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""{summary}

    The same as `resfu.hosts.{factory}({settings})` with the arguments given here.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`; it sits in every slot of the network.
        num_classes: number of classes. Default: that of `{factory}`.
        pretrained: False starts from random weights, True finds the encoder's ImageNet weights, a path loads weights
            from there.
        upsampler_options: further constructor arguments of the upsampler.
        **host_options: further arguments of `{factory}`, see `help(resfu.hosts.{factory})`.

    Raises:
        ValueError: for an unknown option or a bad value.
    """
    return build


def check_host_options(options: Mapping[str, object], taken: Mapping[str, object]) -> None:
    """Refuse options that are set elsewhere.

    Args:
        options: options given for the network's class.
        taken: options that the name of the network, or another argument, sets.

    Raises:
        ValueError: if there are such options; the message names them.
    """
    twice = [option for option in options if option in taken]
    if twice:
        raise ValueError(f"host_options must not hold {', '.join(twice)}: the name and the other arguments set it.")
