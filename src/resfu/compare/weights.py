"""The trained networks that a comparison left behind."""

from pathlib import Path

from resfu.compare.folder import RunFolder
from resfu.hosts import DETECTION_HOSTS
from resfu.hosts.base import SegmentationHost
from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.training.checkpoint_files import read_checkpoint
from resfu.training.detection import DetectionTask
from resfu.training.task import SegmentationTask

Network = SegmentationHost | MaskRCNN
Task = SegmentationTask | DetectionTask


def load_task(weights: Path) -> Task:
    """The trained task of a run, in evaluation mode on the CPU.

    Args:
        weights: `weights.ckpt` of a run, or another checkpoint of a `SegmentationTask` or `DetectionTask`.

    Returns:
        The task, with the names and colours of its classes or categories.

    Raises:
        ValueError: for a file that is no such checkpoint.
    """
    checkpoint = read_checkpoint(weights)
    try:
        settings = checkpoint["hyper_parameters"]
        kind = DetectionTask if settings["host"] in DETECTION_HOSTS else SegmentationTask
        # The checkpoint holds the encoder too: fetching its first weights again would be for nothing.
        task = kind(**{**settings, "pretrained": False})
        task.load_state_dict(checkpoint["state_dict"])
        task.on_load_checkpoint(checkpoint)
    except Exception as error:  # a checkpoint of another kind fails in many ways
        raise ValueError(f"{weights} is not a checkpoint of resfu that can be loaded ({error}).") from error
    return task.eval()


def load_host(weights: Path) -> Network:
    """The network of `load_task`."""
    return load_task(weights).host


def find_weights(place: Path) -> dict[str, Path]:
    """The trained weights of a comparison, of a run of `resfu fit`, or of one checkpoint.

    Args:
        place: the output folder of `resfu compare`, the run's folder of `resfu fit`, or a `.ckpt` file.

    Returns:
        Files by upsampler; of several seeds the first, of a run the best checkpoint or else the last.

    Raises:
        FileNotFoundError: when there is nothing at `place`.
        ValueError: for a file that is no checkpoint of a network with an upsampler.
    """
    if not place.exists():
        raise FileNotFoundError(f"there is no checkpoint, run or comparison at {place}.")
    kept = [file for name in ("best", "last") if (file := place / "checkpoints" / f"{name}.ckpt").is_file()]
    if kept:
        place = kept[0]
    elif place.is_dir():
        found: dict[str, Path] = {}
        for _, name, run in sorted(_runs(place), key=lambda entry: entry[0]):
            if run.finished:
                found.setdefault(name, run.weights)
        return found
    try:
        return {read_checkpoint(place, mmap=True)["hyper_parameters"]["upsampler"]: place}
    except KeyError as error:
        raise ValueError(f"{place} is not a checkpoint of resfu.") from error


def _runs(place: Path) -> list[tuple[int, str, RunFolder]]:
    split = [(folder, *folder.name.rpartition("-seed")) for folder in (place / "runs").glob("*-seed*")]
    return [(int(seed), name, RunFolder(folder)) for folder, name, _, seed in split if seed.isdecimal()]
