"""Damaged files in a dataset: an error that names them, or the next sample in their place."""

import warnings
from collections.abc import Callable
from typing import Literal, TypeVar

OnError = Literal["raise", "skip"]
T = TypeVar("T")


class UnreadableFileError(ValueError):
    """A file that is there but cannot be read as what it should be; the message names it."""


class FirstReadable:
    """Reads the sample at a place, or with "skip" the first readable one from there on, so that the length stays.

    Args:
        on_error: "raise": an error that names the file. "skip": one warning for each damaged sample.
        what: a sample's name, for the messages.

    Raises:
        ValueError: for another `on_error`.
    """

    def __init__(self, on_error: OnError, what: str = "sample") -> None:
        self.on_error = check_on_error(on_error)
        self.what = what
        self._unreadable: set[int] = set()

    def read(self, read: Callable[[int], T], index: int, count: int, where: str) -> T:
        """Read.

        Args:
            read: of a place.
            index: the place wanted, 0 <= index < count.
            count: number of places.
            where: which samples these are, for the message when none can be read.

        Raises:
            UnreadableFileError: with "raise".
            ValueError: when no sample can be read.
        """
        for step in range(count):
            place = (index + step) % count
            if place in self._unreadable:
                continue
            try:
                return read(place)
            except UnreadableFileError as error:
                if self.on_error == "raise":
                    raise UnreadableFileError(
                        f"{error} Replace the file, or go on without it by on_error='skip'."
                    ) from error
                self._unreadable.add(place)
                warnings.warn(f"{error} The next readable {self.what} takes its place.", stacklevel=4)
        raise ValueError(f"no {self.what} can be read, of {count}, {where}.")


def check_on_error(on_error: OnError) -> OnError:
    """The option as it is.

    Raises:
        ValueError: for anything but the two.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    return on_error
