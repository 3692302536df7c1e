"""Cross entropy over labelled pixels."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.evaluation.inference import resize_logits
from resfu.hosts.ignored import IGNORE_INDEX
from resfu.hosts.processes import mean_over_processes


def segmentation_loss(
    logits: Tensor, label: Tensor, ignore_index: int = IGNORE_INDEX, average: Literal["valid", "all"] = "valid"
) -> Tensor:
    """Softmax cross entropy with ignored pixels, of logits that are resized to the label's size.

    In a distributed run all processes divide by the same number. So the mean of their losses is the loss of the joint
    batch, however the ignored pixels are distributed.

    Args:
        logits: [B, num_classes, h, w], any floating dtype; resized bilinearly (align_corners=False) if the sizes
            differ. The loss is computed in fp32.
        label: [B, H, W] int64.
        ignore_index: label of the ignored pixels.
        average: "valid" divides by the number of labelled pixels, "all" by the number of all pixels (mmsegmentation's
            default). The loss of a batch without labelled pixels is 0.

    Returns:
        The mean, a scalar in fp32 (fp64 for fp64 logits).

    Raises:
        ValueError: for an unknown `average`.
    """
    if average not in ("valid", "all"):
        raise ValueError(f"average must be 'valid' or 'all', got {average!r}.")
    if logits.dtype != torch.float64:
        logits = logits.float()
    logits = resize_logits(logits, (label.shape[-2], label.shape[-1]))
    total = F.cross_entropy(logits, label, ignore_index=ignore_index, reduction="sum")
    counted = label != ignore_index if average == "valid" else torch.ones_like(label, dtype=torch.bool)
    return total / mean_over_processes(counted.sum().to(total.dtype)).clamp(min=1)
