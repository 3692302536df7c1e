"""Load a trained network from its run folder or checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resfu.training.module import TrainingModule


def load(path: str | Path) -> TrainingModule:
    """Load a trained network with its weights, classes and normalisation.

    Args:
        path: the folder of a run of `resfu fit` or of one run of `resfu compare`, or a `.ckpt` file. From a folder, the
            best checkpoint is loaded; if there is none, the last one.

    Returns:
        The task's module, in evaluation mode and on the CPU. Its method `predict(image)` takes a photo, as a path or
        as an array. `host` is the network itself. `classes` (or `categories`) and `palette` give the names and colours
        of what it predicts.

    Raises:
        FileNotFoundError: when there is nothing at `path`.
        ValueError: for a file that is not a checkpoint, or a folder that does not hold exactly one trained network.

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
