"""Apply a network's classifier before upsampling, where the two commute."""

import copy
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.upsamplers.base import Size, Upsampler
from resfu.upsamplers.iterative import Iterative
from resfu.upsamplers.starts import PUBLISHED

Host = TypeVar("Host", bound=nn.Module)
_PROBE = (1, 3, 64, 64)  # an image on which both orders are compared
_ROUNDING = 1e-2  # of the largest score, in fp32: TF32 stays below


class Classified(Upsampler):
    """An upsampler and the 1 x 1 classifier after it, in the opposite order.

    A weighted sum of features and a linear map of the channels commute: W sum_n k_n x_n + b = sum_n k_n W x_n + b. So
    the class scores are upsampled instead of the features, with the weights computed from the features, and the bias is
    added at the end. The weights need not sum to 1. If groups of channels have different weights, each group has class
    scores of its own, which are summed.

    Args:
        up: an upsampler whose weights apply to other values too, see `Upsampler.carry`.
        classifier: a 1 x 1 convolution.
    """

    def __init__(self, up: Upsampler, classifier: nn.Conv2d) -> None:
        super().__init__(up.channels, up.guidance_channels, up.scale_factor)
        self.guided, self.image_guided, self.ratios = up.guided, up.image_guided, up.ratios  # pyright: ignore
        self.upsampler = up
        self.classifier = classifier
        self.groups = up.groups if type(up).__name__ in ("CARAFE", "DySample") else 1
        self.start = getattr(up, "start", PUBLISHED)

    def upsample(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Features [B, C, h, w] -> class scores [B, K, H, W]."""
        bias = self.classifier.bias
        out = self._summed(self.upsampler.carry(features, self._scores(features), guidance, size))
        return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)

    def _scores(self, features: Tensor) -> Tensor:
        """Class scores of each group of channels, [B, G K, h, w]."""
        weight, G = self.classifier.weight, cast("int", self.groups)
        by_group = weight.unflatten(1, (G, -1)).movedim(1, 0).flatten(0, 1)  # [G K, C / G, 1, 1]
        return F.conv2d(features, by_group, groups=G)

    def _summed(self, scores: Tensor) -> Tensor:
        G = cast("int", self.groups)
        return scores if G == 1 else scores.unflatten(1, (G, -1)).sum(1)

    def _started_at(self, size: Size, out: Tensor, features: Tensor, whole: Size) -> Tensor:
        return super()._started_at(size, out, self._summed(self._scores(features)), whole)


def fuse_classifier(host: Host) -> Host:
    """Copy a network so that it classifies at low resolution and upsamples the class scores.

    The result is the same up to rounding. This works for networks in which the classifier directly follows the
    upsampler: PSPNet, Segmenter, EfficientNet-Lite0. It is cheaper if there are fewer classes than channels. In a chain
    of upsampling steps only the last step is fused, because each other step computes the features from which the next
    one predicts its weights. Both networks are run on a small image of noise, and must agree.

    Args:
        host: in evaluation mode, with `head.slot` and a 1 x 1 convolution `head.classifier`.

    Returns:
        The copy, for inference.

    Raises:
        ValueError: for a network in training mode, with an upsampler that does not commute with the classifier, or
            with something else than the upsampled features before the classifier (a skip connection, an activation).

    >>> host = resfu.create_host("efficientnet-lite0", "resfu", num_classes=20).eval()
    >>> resfu.fuse_classifier(host)(torch.randn(1, 3, 64, 64)).shape
    torch.Size([1, 20, 64, 64])
    """
    if hasattr(host, "host"):
        raise ValueError(f"this {type(host).__name__} holds a network: give that, as module.host.")
    head = getattr(host, "head", None)
    slot, classifier = getattr(head, "slot", None), getattr(head, "classifier", None)
    if slot is None or not _classifies_pixels(classifier):
        raise ValueError(
            f"{type(host).__name__} has no upsampler that a 1 x 1 classifier follows: PSPNet, Segmenter and "
            "EfficientNet-Lite0 have."
        )
    if host.training:
        raise ValueError("dropout before the classifier does not commute with upsampling: call .eval() first.")
    fused = copy.deepcopy(host)
    head = cast("nn.Module", fused.head)
    slot, classifier = cast("nn.Module", head.slot), cast("nn.Conv2d", head.classifier)
    chain = slot.upsampler
    last = chain.steps[-1] if isinstance(chain, Iterative) else chain
    if (
        not isinstance(last, Upsampler)
        or type(last).carry is Upsampler.carry
        or getattr(last, "gate", None) is not None
    ):
        raise ValueError(f"{type(last).__name__} does not commute with a classifier: choose another upsampler.")
    classified = Classified(last, classifier)
    if isinstance(chain, Iterative):
        chain.steps[-1] = classified
    else:
        slot.upsampler = classified
    head.classifier = nn.Identity()
    if not _agree(host, fused):
        raise ValueError(
            f"{type(host).__name__} does not give its upsampled features straight to the classifier: what is between "
            "them, a skip connection or an activation, does not commute with the classifier."
        )
    return fused


def _classifies_pixels(classifier: nn.Module | None) -> bool:
    """Whether a classifier is one linear map of the channels of each pixel."""
    if not isinstance(classifier, nn.Conv2d) or classifier.groups != 1:
        return False
    return classifier.kernel_size == classifier.stride == (1, 1) and classifier.padding in ((0, 0), "valid", "same")


@torch.no_grad()
def _agree(host: nn.Module, fused: nn.Module) -> bool:
    if next(host.parameters()).dtype in (torch.bfloat16, torch.float16):
        host, fused = (copy.deepcopy(each).float() for each in (host, fused))
    like = next(host.parameters())
    images = torch.randn(_PROBE, generator=torch.Generator().manual_seed(0)).to(like)
    try:
        found, expected = fused(images), host(images)
    except RuntimeError:  # a concatenation of scores and features
        return False
    return bool((found - expected).abs().max() <= _ROUNDING * expected.abs().max())
