"""Voxels that are NaN or infinite: an error that counts them, or one value in their place."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resfu.data.unreadable import UnreadableFileError

OnNonfinite = Literal["error", "fill"]


@dataclass(frozen=True)
class Nonfinite:
    """What to do about voxels that are NaN or infinite.

    Args:
        action: "error", or "fill".
        value: what "fill" puts there, in the values of the file; None: the lowest there is, which is the low end of the
            window of CT, the least finite value of MRI and 0 of prepared data.

    Raises:
        ValueError: for another action, or a value that is not finite or that nothing asks for.
    """

    action: OnNonfinite = "error"
    value: float | None = None

    def __post_init__(self) -> None:
        if self.action not in ("error", "fill"):
            raise ValueError(f"nonfinite must be 'error' or 'fill', got {self.action!r}.")
        if self.value is not None and (self.action == "error" or not np.isfinite(self.value)):
            raise ValueError(
                f"the fill value {self.value} needs nonfinite 'fill', and must be finite; got {self.action!r}."
            )

    def by_default(self, value: float) -> "Nonfinite":
        """The same, filling with this value where none is given."""
        return Nonfinite("fill", value) if self.action == "fill" and self.value is None else self

    def found(self, path: Path, count: int, total: int, value: float) -> None:
        """Say that a file holds such voxels.

        Args:
            path: of the file.
            count: how many they are.
            total: how many voxels there are.
            value: that "fill" takes.

        Raises:
            UnreadableFileError: with "error".
        """
        message = f"{count} of the {total} voxels of {path} are NaN or infinite"
        if self.action == "error":
            raise UnreadableFileError(
                f"cannot read the volume {path}: {message}. Mend them, or fill them by nonfinite='fill' (on the "
                "command line --nonfinite fill)."
            )
        warnings.warn(f"{message}: they are taken as {value:g}.", stacklevel=4)


REFUSED = Nonfinite()


def as_float32(stored: NDArray[Any]) -> NDArray[np.float32]:
    """The values in single precision; what is too large for it becomes infinite, without a warning of its own."""
    with np.errstate(over="ignore", invalid="ignore"):
        return stored.astype(np.float32)


def count_nonfinite(values: NDArray[np.float32]) -> int:
    """How many values are NaN or infinite."""
    return values.size - int(np.count_nonzero(np.isfinite(values)))


def filled(values: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    """The values, with another in the place of those that are not finite."""
    return np.where(np.isfinite(values), values, np.float32(value))
