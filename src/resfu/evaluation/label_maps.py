"""Checks and histograms of label maps, the basis of all pixel counts by class."""

import torch
from torch import Tensor


def merge_ignored(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Check a pair of maps, and set the label's ignored pixels to the id `num_classes`.

    Args:
        prediction: [B, H, W], integer, ids 0..K-1.
        label: [B, H, W], integer, ids 0..K-1 or `ignore_index`.
        num_classes: K.
        ignore_index: id of the ignored pixels.

    Returns:
        Prediction (ids 0..K-1) and label (ids 0..K), [B, H, W] int32: half the memory traffic of int64.

    Raises:
        ValueError: unless both are integer maps of the same shape with known ids.
    """
    _check_map("prediction", prediction, ": call logits.argmax(1) first")
    _check_map("label", label, "")
    if prediction.shape != label.shape:
        raise ValueError(
            f"prediction and label must have the same shape, got {list(prediction.shape)} and {list(label.shape)}: "
            "resize the logits to the label's size (resize_logits) before argmax."
        )
    if prediction.device != label.device:
        raise ValueError(f"prediction is on {prediction.device} and label on {label.device}: move one of them.")
    known = f"0..{num_classes - 1}"
    _check_ids("prediction", prediction, num_classes, known)
    ignored = label == ignore_index
    _check_ids("label", label.masked_fill(ignored, 0), num_classes, f"{known} or {ignore_index} (ignored)")
    return prediction.int(), label.int().masked_fill_(ignored, num_classes)


def joint_histogram(rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """Count the pixels of every pair of ids, for each image.

    Args:
        rows: [B, H, W], int32 or int64, ids 0..size-1.
        columns: [B, H, W], the same.
        size: number of ids.

    Returns:
        [B, size, size] int64; entry (b, i, j) counts the pixels of image b with row id i and column id j.
    """
    batch = rows.shape[0]
    offset = torch.arange(batch, device=rows.device, dtype=rows.dtype).view(-1, 1, 1) * size
    pairs = (rows + offset) * size + columns
    return torch.bincount(pairs.flatten(), minlength=batch * size * size).view(batch, size, size)


def _check_map(name: str, labels: Tensor, hint: str) -> None:
    if labels.dim() != 3:
        raise ValueError(f"{name} must be [B, H, W], got shape {list(labels.shape)}{hint}.")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must hold integer class ids, got {labels.dtype}{hint}.")


def _check_ids(name: str, labels: Tensor, num_classes: int, expected: str) -> None:
    if labels.numel() == 0:
        return
    low, high = torch.aminmax(labels)
    if low < 0 or high >= num_classes:
        wrong = torch.unique(labels[(labels < 0) | (labels >= num_classes)]).tolist()
        shown = ", ".join(map(str, wrong[:10])) + (", ..." if len(wrong) > 10 else "")
        raise ValueError(
            f"{name} holds class ids out of range: {shown}; expected {expected}. "
            "Check num_classes, ignore_index and the mapping of the labels."
        )
