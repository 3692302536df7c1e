"""The soft Dice loss of medical segmentation."""

import torch
from torch import Tensor

from resfu.hosts.ignored import IGNORE_INDEX

_SMOOTHING = 1e-5


def dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Mean over the classes, background included, of 1 - (2 sum(p g) + 1e-5) / (sum(p^2) + sum(g^2) + 1e-5).

    p is the softmax, g the one-hot label. The sums run over all labelled pixels of the batch; in a distributed run,
    over those of each process by itself. A class that is neither labelled nor predicted has no loss. Source: the loss
    with which TransUNet (arXiv 2102.04306) is trained; squares in the denominator as in V-Net (arXiv 1606.04797).

    Args:
        logits: [B, num_classes, H, W], any floating dtype. The loss is computed in fp32 (fp64 for fp64 logits).
        label: int64 [B, H, W], 255 = ignored.

    Returns:
        A scalar in fp32 (fp64 for fp64 logits).

    Raises:
        ValueError: for a label of another size or outside the classes.
    """
    B, num_classes, H, W = logits.shape
    if label.shape != (B, H, W):
        raise ValueError(f"the label must be [B, H, W] = {[B, H, W]} like the logits, got {list(label.shape)}.")
    labelled = label != IGNORE_INDEX
    outside = labelled & ((label < 0) | (label >= num_classes))
    if outside.any():
        strange = label[outside].unique().tolist()
        raise ValueError(f"labels must lie in 0..{num_classes - 1} or be {IGNORE_INDEX} (ignored), got {strange}.")
    if logits.dtype != torch.float64:
        logits = logits.float()
    p = logits.softmax(1) * labelled[:, None]
    classes = torch.arange(num_classes, device=label.device)[:, None, None]
    g = ((label[:, None] == classes) & labelled[:, None]).to(p.dtype)
    overlap, predicted, present = ((a * b).sum((0, 2, 3)) for a, b in ((p, g), (p, p), (g, g)))
    return (1 - (2 * overlap + _SMOOTHING) / (predicted + present + _SMOOTHING)).mean()
