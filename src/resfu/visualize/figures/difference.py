"""How far two maps of features lie apart, and where to look closer."""

import torch.nn.functional as F
from torch import Tensor

from resfu.visualize.figures.frame import Window

DIFFERENCE = "difference (features' spread = 1)"


def relative_difference(one: Tensor, other: Tensor, features: Tensor) -> Tensor:
    """Distance of two maps at every pixel, in units of how much the features vary.

    Args:
        one: [C, H, W].
        other: [C, H, W].
        features: [C, h, w], the features that both maps were made from.

    Returns:
        [H, W]: the Euclidean norm of the difference, divided by the root mean square distance of the features from
        their mean.
    """
    spread = (features - features.mean((1, 2), keepdim=True)).square().sum(0).mean().sqrt()
    return (one - other).norm(dim=0) / spread.clamp_min(1e-12)


def busiest_window(values: Tensor, share: float = 0.3) -> Window:
    """Find the window whose values have the largest sum.

    Args:
        values: [H, W], at least 0.
        share: height and width of the window, as a share of the map's.

    Returns:
        The rows and columns of the window.
    """
    size = [max(1, round(n * share)) for n in values.shape]
    sums = F.avg_pool2d(values[None, None].double(), (size[0], size[1]), stride=1)[0, 0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return slice(top, top + size[0]), slice(left, left + size[1])
