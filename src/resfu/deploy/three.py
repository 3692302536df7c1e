"""Compute the labels of one box of a map with three classes, with the same rounding as PyTorch.

On one thread PyTorch has a special interpolation kernel for three channels, made for pictures. It first multiplies the
weights of both axes, in fp32 whatever the maps' dtype, and then sums four corners:
fma(D, w11, fma(C, w10, fma(A, w00, B w01))).
"""

import torch
from torch import Tensor

from resfu.deploy.boxes import Box
from resfu.deploy.decisions import Decision
from resfu.deploy.linear import Taps

_BLOCK = 1 << 18  # number of elements that stay in the cache from pass to pass


def label_box_of_three(logits: Tensor, taps: list[Taps], box: Box, decision: Decision) -> tuple[Tensor, Tensor | None]:
    """As `bands.label_box`, for logits [3, h, w] and linear taps along both axes."""
    (rows, columns), (n, m) = (tap.part(*span) for tap, span in zip(taps, box, strict=True)), (b - a for a, b in box)
    top, bottom = rows.span()
    rows = rows.shifted(top)
    x = logits[:, top:bottom].movedim(1, 0).to(torch.promote_types(logits.dtype, torch.float32))  # [p, 3, w]
    before, after, left_weight, right_weight = columns.pairs()
    left, right = x.index_select(2, before), x.index_select(2, after)
    labels = torch.empty((n, m), dtype=torch.long, device=x.device)
    found = []
    step = max(1, _BLOCK // (3 * m))
    for first in range(0, n, step):
        low, high, low_weight, high_weight = rows.part(first, first + step).pairs()
        above, below = low_weight[:, None, None], high_weight[:, None, None]
        block = right.index_select(0, low).mul_(above * right_weight)
        block.addcmul_(left.index_select(0, low), above * left_weight)
        block.addcmul_(left.index_select(0, high), below * left_weight)
        block.addcmul_(right.index_select(0, high), below * right_weight)
        labels[first : first + step], probability = decision(block.to(logits.dtype).to(block.dtype))
        found.append(probability)
    return labels, None if found[0] is None else torch.cat(found)
