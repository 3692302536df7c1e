"""The trained networks that a comparison left behind."""

from pathlib import Path

import torch

from resfu.compare.folder import RunFolder
from resfu.hosts.base import SegmentationHost
from resfu.training.task import SegmentationTask


def load_host(weights: Path) -> SegmentationHost:
    """The trained network of a run, in evaluation mode on the CPU.

    Args:
        weights: `weights.ckpt` of a run, or another checkpoint of a `SegmentationTask`.

    Returns:
        The network.

    Raises:
        ValueError: for a file that is no such checkpoint.
    """
    try:
        checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
        # The checkpoint holds the encoder too: fetching its first weights again would be for nothing.
        task = SegmentationTask(**{**checkpoint["hyper_parameters"], "pretrained": False})
        task.load_state_dict(checkpoint["state_dict"])
    except FileNotFoundError:
        raise
    except Exception as error:  # a file of another kind fails in many ways
        raise ValueError(f"{weights} is not a checkpoint of resfu that can be loaded ({error}).") from error
    return task.host.eval()


def find_weights(place: Path) -> dict[str, Path]:
    """The trained weights of a comparison, or of one checkpoint.

    Args:
        place: the output folder of `resfu compare`, or a `.ckpt` file.

    Returns:
        Files by upsampler; of several seeds the first.

    Raises:
        FileNotFoundError: when there is nothing at `place`.
        ValueError: for a file that is no checkpoint of a network with an upsampler.
    """
    if not place.exists():
        raise FileNotFoundError(f"there is no checkpoint or comparison at {place}.")
    if place.is_dir():
        found: dict[str, Path] = {}
        for _, name, run in sorted(_runs(place), key=lambda entry: entry[0]):
            if run.finished:
                found.setdefault(name, run.weights)
        return found
    try:
        checkpoint = torch.load(place, map_location="cpu", weights_only=True, mmap=True)
        return {checkpoint["hyper_parameters"]["upsampler"]: place}
    except Exception as error:
        raise ValueError(f"{place} is not a checkpoint of resfu that can be loaded ({error}).") from error


def _runs(place: Path) -> list[tuple[int, str, RunFolder]]:
    split = [(folder, *folder.name.rpartition("-seed")) for folder in (place / "runs").glob("*-seed*")]
    return [(int(seed), name, RunFolder(folder)) for folder, name, _, seed in split if seed.isdecimal()]
