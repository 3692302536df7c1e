"""Predict label volumes slice by slice at the network's size, as TransUNet evaluates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor

from resfu.deploy.decisions import largest_class
from resfu.deploy.labels import upsample_labels
from resfu.evaluation.labels import few_classes
from resfu.files.atomic import replacing


class Slices(Protocol):
    """A volume that returns its slices one by one: an array [D, H, W], an h5py dataset, a lazily opened NIfTI file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def predict_slices(
    predict_slice: Callable[[Tensor], Tensor],
    volume: Slices,
    size: int = 224,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] | None = None,
    enlarge: Literal["labels", "logits"] = "labels",
) -> Iterator[NDArray[np.uint8]]:
    """Label the slices of a volume one after the other, with one slice in memory at a time.

    Each slice is resized to the network's size by cubic splines, and its labels back by nearest neighbour, as TransUNet
    evaluates; or its logits back linearly, which gives smoother borders.

    Args:
        predict_slice: the network: images [1, 3, size, size], float32, three equal channels with the volume's values
            -> logits [1, K, size, size]. The caller sets it to evaluation mode.
        volume: D slices [H, W], with values as in the network's training.
        size: height and width of the network's input.
        device: the device of the network.
        progress: called with (slices done, D) after each.
        enlarge: "labels" (the published rule) or "logits", by `resfu.upsample_labels`.

    Yields:
        [H, W] uint8, class ids, for each slice in order.

    Raises:
        ValueError: for a size below 1, a slice that is not [H, W], logits of another shape, NaN or infinite values, or
            NaN logits.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")
    if enlarge not in ("labels", "logits"):
        raise ValueError(f"enlarge must be labels or logits, got {enlarge!r}.")
    count = len(volume)
    for index in range(count):
        pixels = np.asarray(volume[index], dtype=np.float32)
        if pixels.ndim != 2:
            raise ValueError(f"slice {index} has shape {pixels.shape}; expected [H, W] from a volume [D, H, W].")
        if odd := pixels.size - int(np.count_nonzero(np.isfinite(pixels))):
            raise ValueError(f"{odd} voxels of slice {index} are NaN or infinite: replace them first.")
        shape = (pixels.shape[0], pixels.shape[1])
        image = torch.from_numpy(_zoomed(pixels, (size, size), order=3)).to(device).expand(1, 3, size, size)
        with torch.no_grad():
            logits = predict_slice(image)
        if logits.dim() != 4 or logits.shape[0] != 1 or tuple(logits.shape[2:]) != (size, size):
            raise ValueError(f"the network gave {list(logits.shape)}; expected logits [1, K, {size}, {size}].")
        few_classes(logits)
        if bool(logits.isnan().any()):
            raise ValueError(f"the network gave NaN for slice {index}: its weights are damaged.")
        if enlarge == "logits":
            yield upsample_labels(logits, shape)[0].to("cpu", torch.uint8).numpy()
        else:
            yield _zoomed(largest_class(logits)[0].to("cpu", torch.uint8).numpy(), shape, order=0)
        if progress is not None:
            progress(index + 1, count)


def predict_volume(
    predict_slice: Callable[[Tensor], Tensor],
    volume: Slices,
    size: int = 224,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] | None = None,
    enlarge: Literal["labels", "logits"] = "labels",
) -> NDArray[np.uint8]:
    """Label a whole volume with `predict_slices`; beyond one slice, the memory is that of the result.

    Returns:
        [D, H, W] uint8, class ids.

    Raises:
        ValueError: as in `predict_slices`, and for a volume without slices.
    """
    labels: NDArray[np.uint8] | None = None
    for index, found in enumerate(predict_slices(predict_slice, volume, size, device, progress, enlarge)):
        if labels is None:
            labels = np.empty((len(volume), *found.shape), dtype=np.uint8)
        labels[index] = found
    if labels is None:
        raise ValueError("the volume has no slices.")
    return labels


def write_nifti(labels: NDArray[np.integer[Any]], path: str | Path, affine: NDArray[np.floating[Any]]) -> None:
    """Write a label volume as a NIfTI file with the affine of its scan.

    Args:
        labels: [D, H, W] = [z, x, y], the order of a NIfTI file's slices; class ids 0 to 255.
        path: the path of the file, .nii or .nii.gz; it is stored as (x, y, z).
        affine: [4, 4], the scan's, from voxels (x, y, z) to the patient.

    Raises:
        ValueError: for labels or an affine of another shape, ids out of range, or another suffix.
    """
    import nibabel

    if labels.ndim != 3 or np.shape(affine) != (4, 4):
        raise ValueError(f"expected labels [D, H, W] and an affine [4, 4], got {labels.shape} and {np.shape(affine)}.")
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ValueError(f"labels must be 0 to 255, got {labels.min()} to {labels.max()}.")
    if not str(path).lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"a NIfTI file ends in .nii or .nii.gz, got {path}.")
    with replacing(path) as draft:
        nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8).transpose(1, 2, 0), affine), draft)


@contextmanager
def nifti_labels(path: str | Path, shape: tuple[int, int, int], affine: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    """A label volume in a NIfTI file, to be written part by part without keeping all of it in memory.

    Args:
        path: the path of the file, .nii: a compressed one cannot be written out of order.
        shape: (D, H, W) = (z, x, y), the order of a NIfTI file's slices.
        affine: [4, 4], from voxels (x, y, z) to the patient.

    Yields:
        uint8 [D, H, W], initially zeros, mapped to the file; an error in the block removes the file.

    Raises:
        ValueError: for an affine of another shape, or another suffix.
    """
    import nibabel

    if np.shape(affine) != (4, 4):
        raise ValueError(f"expected an affine [4, 4], got {np.shape(affine)}.")
    if not str(path).lower().endswith(".nii"):
        raise ValueError(f"a NIfTI file to be written in parts ends in .nii, got {path}.")
    D, H, W = shape
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine).header
    header.set_data_shape((H, W, D))
    header["vox_offset"] = offset = 352  # the header and an empty list of extensions
    with replacing(path) as draft:
        draft.write_bytes(header.binaryblock + bytes(4))
        voxels = np.memmap(draft, np.uint8, "r+", offset, (H, W, D), order="F")
        yield voxels.transpose(2, 0, 1)
        voxels.flush()


def _zoomed(pixels: NDArray[Any], shape: tuple[int, int], order: int) -> NDArray[Any]:
    """Resize by splines with aligned corners, the rule of `scipy.ndimage.zoom`."""
    if pixels.shape == shape:
        return pixels
    return np.asarray(zoom(pixels, (shape[0] / pixels.shape[0], shape[1] / pixels.shape[1]), order=order))
