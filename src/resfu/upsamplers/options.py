"""Checks of constructor arguments that several upsamplers share."""

import math
from collections.abc import Iterable
from numbers import Real


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ValueError: that lists the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")


def check_given(name: str, options: Iterable[str]) -> None:
    """Refuse options that the place of an upsampler in a network decides.

    Raises:
        ValueError: that names the option.
    """
    taken = [option for option in ("channels", "guidance_channels", "scale_factor") if option in options]
    if taken:
        raise ValueError(f"{name} must not hold {', '.join(taken)}: the network sets it by itself.")


def check_flags(**values: object) -> None:
    """Refuse anything but a bool: the text "False" would count as true.

    Raises:
        ValueError: that names the argument.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false (a bool), got {value!r}.")


def check_number(name: str, value: object, least: int) -> None:
    """Refuse anything but a finite number of at least `least`.

    Raises:
        ValueError: that says what came.
    """
    if not _is_number(value, least):
        raise ValueError(f"{name} must be a number from {least}, got {value!r}.")


def check_whole(name: str, value: int | float) -> int:
    """Refuse anything but a whole number from 1; 2.0 counts as 2.

    Raises:
        ValueError: that says what came.
    """
    if not _is_number(value, 1) or value != int(value):
        raise ValueError(f"{name} must be a whole number from 1, got {value!r}.")
    return int(value)


def check_dims(dims: object) -> int:
    """Refuse anything but maps (2) and volumes (3).

    Raises:
        ValueError: that says what came.
    """
    if dims not in (2, 3) or isinstance(dims, bool):
        raise ValueError(f"dims must be 2 for maps or 3 for volumes, got {dims!r}.")
    return int(dims)  # pyright: ignore[reportArgumentType]


def check_fraction(name: str, value: object) -> None:
    """Refuse anything but a number from 0 to 1.

    Raises:
        ValueError: that says what came.
    """
    if not _is_number(value, 0) or value > 1:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}.")


def _is_number(value: object, least: int) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) and math.isfinite(value)
