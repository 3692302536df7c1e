"""Turn a block of logits into labels: by the largest logit, a threshold, or overlapping regions.

A block is [n, K, m]: n rows, K classes and m pixels of a row, in at least fp32. A decision may overwrite it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Largest:
    """The class of the largest logit, like `argmax`: the first in a tie; the first NaN counts as the largest.

    Args:
        classes: K.
        confident: also return the largest softmax probability.
        ignore_below: pixels whose largest probability is smaller get the label `ignore_index`.
        ignore_index: the label of these pixels.
    """

    def __init__(self, classes: int, confident: bool, ignore_below: float | None, ignore_index: int) -> None:
        self.confident = confident
        self.ignore_below = ignore_below
        self.ignore_index = ignore_index
        self.highest = max(classes - 1, 0 if ignore_below is None else ignore_index)

    @property
    def of_corners(self) -> bool:
        """Whether a class that is the largest at all corners of a cell is the label of the whole cell."""
        return not self.confident and self.ignore_below is None

    def __call__(self, block: Tensor) -> tuple[Tensor, Tensor | None]:
        """Labels [n, m]; and their probabilities [n, m] in fp32 if `confident`, else None."""
        largest = block.amax(1)
        confidence = None
        if not self.of_corners:
            confidence = (block - largest[:, None]).exp_().sum(1).reciprocal_().float()
        label = first_largest(block, largest)
        if self.ignore_below is not None and confidence is not None:
            label.masked_fill_(~(confidence >= self.ignore_below), self.ignore_index)
        return label, confidence if self.confident else None


class Threshold:
    """Label 1 where the single logit is above a threshold, else 0."""

    of_corners, highest = False, 1

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, block: Tensor) -> tuple[Tensor, Tensor | None]:
        """Labels [n, m]."""
        return (block[:, 0] > self.threshold).long(), None


class Regions:
    """Overlapping regions: each channel writes its label where its sigmoid is above 1/2, the last channel on top.

    Args:
        labels: one label for each channel, in the order in which they are written.
    """

    of_corners = False

    def __init__(self, labels: Sequence[int]) -> None:
        self.labels = labels
        self.highest = max(labels)

    def __call__(self, block: Tensor) -> tuple[Tensor, Tensor | None]:
        """Labels [n, m], 0 outside all regions."""
        found = torch.zeros_like(block[:, 0], dtype=torch.long)
        for channel, label in enumerate(self.labels):
            found.masked_fill_(block[:, channel] > 0, label)
        return found, None


Decision = Largest | Threshold | Regions


def largest_class(logits: Tensor) -> Tensor:
    """`logits.argmax(1)`, ties and NaN included, and faster on the CPU, where PyTorch does not vectorise argmax."""
    return logits.max(1).indices


def first_largest(block: Tensor, largest: Tensor) -> Tensor:
    """`block.argmax(1)`, [n, m], from a block and its maxima over classes; overwrites the block.

    Each class gets a code, and codes decrease from class to class. The largest code among the maxima gives the first
    class. This takes four vectorised passes; argmax is not vectorised. Codes are integers, exact up to 2^24 classes.
    """
    classes = block.shape[1]
    damaged = largest != largest
    nan = block.isnan().to(torch.uint8).argmax(1) if damaged.any() else None
    code = torch.arange(classes, 0, -1, dtype=block.dtype, device=block.device)
    found = block.eq_(largest[:, None]).mul_(code[:, None]).amax(1)
    label = (classes - found).long()
    return label if nan is None else torch.where(damaged, nan, label)
