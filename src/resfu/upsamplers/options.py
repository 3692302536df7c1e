"""Checks of constructor arguments that several upsamplers share."""


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ValueError: that lists the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")


def check_odd(name: str, value: int) -> None:
    """Refuse a window that has no centre.

    Raises:
        ValueError: for an even or negative size.
    """
    if value < 1 or value % 2 == 0:
        raise ValueError(f"{name} must be odd, got {value}.")


def check_whole(name: str, value: int | float) -> int:
    """Refuse anything but a whole number from 1; 2.0 counts as 2.

    Raises:
        ValueError: that says what came.
    """
    if not value >= 1 or value != int(value):
        raise ValueError(f"{name} must be a whole number from 1, got {value}.")
    return int(value)


def check_divides(divisor: str, groups: int, name: str, width: int) -> None:
    """Refuse groups that do not divide a width.

    Raises:
        ValueError: that names both.
    """
    if groups < 1 or width % groups:
        raise ValueError(f"{divisor} = {groups} must divide {name} = {width}.")
