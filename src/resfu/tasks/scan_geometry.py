"""How scans must be oriented for a network: as the slices of its training, which data and checkpoint record."""

import warnings

from resfu.data import SegmentationDataset
from resfu.data.medical.base import SliceDataset
from resfu.data.medical.geometry import Geometry

SETTINGS = "data.scan_orientation and data.scan_spacing"


def of_data(given: Geometry, data: SliceDataset, root: str | None) -> Geometry:
    """What the settings and the data say together.

    Raises:
        ValueError: where they contradict one another.
    """
    return given.agreed(data.geometry, SETTINGS, f"the data in {root}" if root else "the generated data")


def of_checkpoint(given: Geometry, kept: Geometry, predicting: bool) -> Geometry:
    """What a checkpoint adds. In prediction a setting takes precedence; elsewhere the data must be as in training.

    Raises:
        ValueError: where they contradict one another.
    """
    return given.over(kept) if predicting else given.agreed(kept, f"the data or {SETTINGS}", "the checkpoint")


def for_scans(known: Geometry, dataset: type[SegmentationDataset], flip: bool) -> Geometry:
    """What scans are brought to; with a warning where neither the checkpoint nor a setting says an orientation.

    Args:
        known: what they say.
        dataset: that the network was trained on.
        flip: whether that was prepared with its second axis reversed, in a time when nothing kept its orientation.
    """
    if known.orientation is not None or not issubclass(dataset, SliceDataset):
        return known
    assumed = dataset.assumed.flipped() if flip else dataset.assumed
    warnings.warn(
        f"the checkpoint does not say how the scans of its training lay: {assumed.orientation} is assumed. Say it by "
        "--data.scan_orientation (three letters, or 'stored' for the axes of the files as they are).",
        stacklevel=2,
    )
    return known.over(assumed)
