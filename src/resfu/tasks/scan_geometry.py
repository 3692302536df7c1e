"""The orientation of scans for a network, which must be that of its training data.

The data and the checkpoint record it.
"""

import warnings

from resfu.data import SegmentationDataset
from resfu.data.medical.base import SliceDataset
from resfu.data.medical.geometry import Geometry

SETTINGS = "data.scan_orientation and data.scan_spacing"


def of_data(given: Geometry, data: SliceDataset, root: str | None) -> Geometry:
    """Combine the geometry of the settings with that of the data.

    Raises:
        ValueError: if they contradict each other.
    """
    return given.agreed(data.geometry, SETTINGS, f"the data in {root}" if root else "the generated data")


def of_checkpoint(given: Geometry, kept: Geometry, predicting: bool) -> Geometry:
    """Combine a geometry with that of a checkpoint.

    In prediction the settings take precedence; otherwise the data must have the geometry of the training.

    Raises:
        ValueError: if they contradict each other.
    """
    return given.over(kept) if predicting else given.agreed(kept, f"the data or {SETTINGS}", "the checkpoint")


def for_scans(known: Geometry, dataset: type[SegmentationDataset], flip: bool) -> Geometry:
    """The geometry to which scans are brought, with a warning if neither the checkpoint nor a setting defines it.

    Args:
        known: the geometry from checkpoint and settings.
        dataset: the data set on which the network was trained.
        flip: whether it was prepared with its second axis reversed, by a version that did not record orientations.
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
