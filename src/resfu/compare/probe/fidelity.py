"""What tells of pixel features without labels."""

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

_DOWN = 8  # images that are averaged down
_KINDS: dict[str, Pairs] = {"": "scales", "pooled_": "pooled"}


def pairs_of(encoder: FrozenEncoder, measured: Sequence[Seen]) -> dict[str, list[Pair]]:
    """The pairs of all images, which are the same for every upsampler: of two scales "", and of averages "pooled_"."""
    return {name: [feature_pair(encoder, seen.image, kind) for seen in measured] for name, kind in _KINDS.items()}


@torch.no_grad()
def fidelity(pf: PixelFeatures, measured: Sequence[Seen], pairs: dict[str, list[Pair]]) -> dict[str, float]:
    """Agreement with the features of the whole image, from those of half of it and from their averages, and more.

    Args:
        pf: whose upsampler is asked.
        measured: images.
        pairs: of `pairs_of`.

    Returns:
        "cos" and "r2" in percent of pairs of two scales; "pooled_cos", "pooled_r2" of averaged features; "down_cos", of
        the upsampled map averaged down, and "constant", the largest error where all features are 1.
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
    """What has the pairs' ratio: the upsampler itself, or the first step of a stack with its correction at the end."""
    if not isinstance(up, StackJBU) or up.ratio == 2:
        return up
    first = StackJBU(up.fixup.in_channels, up.guidance_channels or 3, steps=1)
    first.stages = nn.ModuleDict({"1": up.stages["1"]})
    first.fixup = up.fixup
    return first.eval()
