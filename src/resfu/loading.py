"""A trained network back in Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resfu.training.module import TrainingModule


def load(path: str | Path) -> TrainingModule:
    """Load a trained network with its weights, classes and normalisation.

    Args:
        path: the folder of a run of `resfu fit` (its best checkpoint, else the last) or of one run of `resfu compare`,
            or a `.ckpt` file.

    Returns:
        The task's module in evaluation mode on the CPU: `predict(image)` takes a photo, by path or as an array;
        `host` is the network; `classes` (or `categories`) and `palette` say what it predicts.

    Raises:
        FileNotFoundError: when there is nothing at `path`.
        ValueError: for a file that is no checkpoint, or a folder with several networks.

    >>> net = load("runs/scenes")  # doctest: +SKIP
    >>> labels = net.predict("photo.jpg")  # doctest: +SKIP
    """
    from resfu.tasks.loading import find_weights, load_module  # the extra `train`

    found = find_weights(Path(path))
    if len(found) != 1:
        raise ValueError(
            f"{path} holds {len(found)} trained networks ({', '.join(found) or 'none is finished'}): give one of its "
            "runs/ or a .ckpt file."
        )
    return load_module(next(iter(found.values())))
