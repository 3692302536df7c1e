"""NaN or infinite voxels: raise an error that counts them, or replace them by a value."""

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
    """What to do about NaN or infinite voxels.

    Args:
        action: "error", or "fill".
        value: for "fill", in the values of the file; None: the lowest value, which is the lower end of the window for
            CT, the smallest finite value for MRI, and 0 for prepared data.

    Raises:
        ValueError: for an unknown action, or a value that is not finite or given with "error".
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
        """The same policy with `value` as its default for "fill"."""
        return Nonfinite("fill", value) if self.action == "fill" and self.value is None else self

    def found(self, path: Path, count: int, total: int, value: float) -> None:
        """Warn about `count` of `total` voxels, which are filled with `value`.

        Raises:
            UnreadableFileError: with "error".
        """
        message = f"{count} of the {total} voxels of {path} are NaN or infinite"
        if self.action == "error":
            raise UnreadableFileError(
                f"cannot read the volume {path}: {message}. Correct them, or replace them with nonfinite='fill' (on "
                "the command line --nonfinite fill)."
            )
        warnings.warn(f"{message}: they are replaced by {value:g}.", stacklevel=4)


REFUSED = Nonfinite()


def as_float32(stored: NDArray[Any]) -> NDArray[np.float32]:
    """The values in single precision; too large ones become infinite without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return stored.astype(np.float32)


def count_nonfinite(values: NDArray[np.float32]) -> int:
    """Number of NaN or infinite values."""
    return values.size - int(np.count_nonzero(np.isfinite(values)))


def filled(values: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    """Replace the values that are not finite."""
    return np.where(np.isfinite(values), values, np.float32(value))
