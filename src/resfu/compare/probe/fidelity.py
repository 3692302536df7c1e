"""Measures of pixel features that need no labels."""

from collections.abc import Sequence

import torch
from torch import nn

from resfu.compare.probe.photos import Seen, upsampled
from resfu.evaluation.fidelity import Fidelity, consistency
from resfu.frozen.encoder import FrozenEncoder
from resfu.frozen.pairs import Pair, Pairs, feature_pair
from resfu.frozen.pixel_features import PixelFeatures
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.jbu import StackJBU

_DOWN = 8  # the number of images for "down_cos"
_KINDS: dict[str, Pairs] = {"": "scales", "pooled_": "pooled"}


def pairs_of(encoder: FrozenEncoder, measured: Sequence[Seen]) -> dict[str, list[Pair]]:
    """The pairs of all images, the same for every upsampler: "" for pairs of two scales, "pooled_" for averages."""
    return {name: [feature_pair(encoder, seen.image, kind) for seen in measured] for name, kind in _KINDS.items()}


@torch.no_grad()
def fidelity(pf: PixelFeatures, measured: Sequence[Seen], pairs: dict[str, list[Pair]]) -> dict[str, float]:
    """How well upsampled features agree with the encoder's own features.

    Args:
        pf: its upsampler is measured.
        measured: images to measure on.
        pairs: from `pairs_of`.

    Returns:
        "cos" and "r2": agreement of the upsampled low-resolution features of each pair with its high-resolution ones,
        in percent, for pairs of two scales. "pooled_cos" and "pooled_r2": the same for pairs whose low-resolution
        features are averages. "down_cos": the cosine, in percent, between the upsampled map averaged down and the
        features it was made from. "constant": the largest error on features that are 1 everywhere.
    """
    double, found = _doubling(pf.upsampler), {}
    for name, several in pairs.items():
        agreement = Fidelity()
        for pair in several:
            size = (pair.high.shape[-2], pair.high.shape[-1])
            agreement.update(double(pair.low, pair.guidance, size=size), pair.high)
        values = agreement.compute()
        found |= {f"{name}{key}": 100 * values[key] for key in ("cos", "r2")}
    down = [consistency(upsampled(pf, seen), seen.low)["cos"] for seen in measured[:_DOWN]]
    one, seen = torch.ones_like(measured[0].low), measured[0]
    flat = pf.upsampler(one, pf.guide(seen.image, one), size=tuple(seen.image.shape[-2:]))
    return found | {"down_cos": 100 * sum(down) / len(down), "constant": float((flat - 1).abs().max())}


def _doubling(up: Upsampler) -> Upsampler:
    """An upsampler that doubles the size: the given one, or a stack's first step followed by its final correction."""
    if not isinstance(up, StackJBU) or up.ratio == 2:
        return up
    first = StackJBU(up.fixup.in_channels, up.guidance_channels or 3, steps=1)
    first.stages = nn.ModuleDict({"1": up.stages["1"]})
    first.fixup = up.fixup
    return first.eval()
