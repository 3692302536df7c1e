"""Agreement of upsampled features with the encoder's features at the higher resolution, without labels."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Fidelity:
    """Cosine, squared error and R² of predicted features, over all pixels of a set of images.

    Features are centred by their mean over the set, channel by channel, before the cosine: a common mean would make any
    two pixels alike. R² = 1 - sum of squared errors / sum of squares of the centred features. All features are kept in
    memory, in fp32.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Discard all features."""
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add maps [B, C, H, W]."""
        if prediction.shape != target.shape:
            raise ValueError(f"prediction and target differ in shape: {prediction.shape} and {target.shape}.")
        self._pairs.append((_pixels(prediction), _pixels(target)))

    def compute(self) -> dict[str, float]:
        """Return "cos", "mse" and "r2" over all features that were added, in all processes."""
        prediction, target = (torch.cat(each) for each in zip(*self._gathered(), strict=True))
        mean = target.double().mean(0).float()
        error = (prediction - target).double().square().sum()
        spread = (target - mean).double().square().sum()
        cosine = F.cosine_similarity(prediction - mean, target - mean, dim=1).double().mean()
        return {"cos": float(cosine), "mse": float(error / target.numel()), "r2": float(1 - error / spread)}

    def _gathered(self) -> list[tuple[Tensor, Tensor]]:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._pairs
        shares: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(shares, self._pairs)
        return [pair for share in shares for pair in share]


def consistency(upsampled: Tensor, low: Tensor) -> dict[str, float]:
    """Mean cosine and squared error between the low-resolution map and the upsampled one, averaged down to its size."""
    down = F.adaptive_avg_pool2d(upsampled.float(), (low.shape[-2], low.shape[-1]))
    low = low.float()
    return {"cos": float(F.cosine_similarity(down, low).mean()), "mse": float((down - low).square().mean())}


def _pixels(x: Tensor) -> Tensor:
    return x.detach().float().movedim(1, -1).flatten(0, 2).cpu()
