"""Damaged files in a dataset: raise an error that names them, or use the next sample instead."""

import warnings
from collections.abc import Callable
from typing import Literal, TypeVar

OnError = Literal["raise", "skip"]
T = TypeVar("T")


class UnreadableFileError(ValueError):
    """A file exists but cannot be read as expected; the message names it."""


class FirstReadable:
    """Reads the sample at an index or, with "skip", the first readable one from there on.

    Args:
        on_error: "raise": an error that names the file. "skip": one warning for each damaged sample.
        what: the word for a sample in messages.

    Raises:
        ValueError: for an unknown `on_error`.
    """

    def __init__(self, on_error: OnError, what: str = "sample") -> None:
        self.on_error = check_on_error(on_error)
        self.what = what
        self._unreadable: set[int] = set()

    def read(self, read: Callable[[int], T], index: int, count: int, where: str) -> T:
        """Read a sample.

        Args:
            read: reads the sample at an index.
            index: index of the sample, 0 <= index < count.
            count: number of samples.
            where: which samples these are, for the message if none can be read.

        Raises:
            UnreadableFileError: with "raise".
            ValueError: if no sample can be read.
        """
        for step in range(count):
            place = (index + step) % count
            if place in self._unreadable:
                continue
            try:
                return read(place)
            except UnreadableFileError as error:
                if self.on_error == "raise":
                    raise UnreadableFileError(f"{error} Replace the file, or skip it with on_error='skip'.") from error
                self._unreadable.add(place)
                warnings.warn(f"{error} The next readable {self.what} takes its place.", stacklevel=4)
        raise ValueError(f"no {self.what} can be read, of {count}, {where}.")


def check_on_error(on_error: OnError) -> OnError:
    """Return `on_error`, or raise a ValueError if it is neither "raise" nor "skip"."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    return on_error
