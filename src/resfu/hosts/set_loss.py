"""MaskFormer's loss: every class in an image is matched with one query, which must predict its class and its mask."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher, MaskFormerLoss

from resfu.hosts.ignored import IGNORE_INDEX
from resfu.hosts.processes import mean_over_processes

_NO_OBJECT_WEIGHT = 0.1
_MASK_WEIGHT = 20.0


class Prediction(NamedTuple):
    """The predictions of the queries after a layer of the transformer decoder.

    Args:
        classes: logits [B, Q, num_classes + 1]; the last is "no object".
        masks: logits [B, Q, H, W].
    """

    classes: Tensor
    masks: Tensor


def set_losses(predictions: Sequence[Prediction], label: Tensor, num_classes: int) -> dict[str, Tensor]:
    """The losses of Cheng et al., MaskFormer, NeurIPS 2021, in fp32.

    The predictions of each layer are matched by themselves, with costs of 1 x class, 20 x focal and 1 x dice, and with
    the target resized to the prediction. The loss of a layer is 1 x cross entropy of the classes ("no object" counts
    0.1), 20 x focal and 1 x dice loss of the matched masks, which are upsampled to the label. The sums over masks are
    divided by the number of masks, which in a distributed run is averaged over the processes. As in the original,
    ignored pixels belong to no mask, so every matched mask must leave them out.

    Args:
        predictions: the predictions of each decoder layer, in order.
        label: int64 [B, H, W], 255 = ignored. An image without labelled pixels has no masks; all its queries are
            matched with "no object".
        num_classes: number of classes.

    Returns:
        "class", "mask" and "dice" of the last layer, and "auxiliary", the sum over the other layers, if there are any.

    Raises:
        ValueError: for a label outside the classes.
    """
    classes, masks = _targets(label, num_classes)
    matcher = MaskFormerHungarianMatcher(cost_class=1.0, cost_mask=_MASK_WEIGHT, cost_dice=1.0)
    criterion = MaskFormerLoss(num_classes, matcher, {}, _NO_OBJECT_WEIGHT).to(label.device)
    count = mean_over_processes(torch.tensor(float(sum(map(len, classes))), device=label.device)).clamp(min=1)
    losses = []
    # The matcher sums over all pixels before it divides; such sums overflow in half precision.
    with torch.autocast(label.device.type, enabled=False):
        for prediction in predictions:
            class_logits, mask_logits = prediction.classes.float(), prediction.masks.float()
            pairs = matcher(mask_logits, class_logits, masks, classes)
            found = criterion.loss_masks(mask_logits, masks, pairs, count)  # pyright: ignore[reportArgumentType]
            losses.append(
                {
                    "class": criterion.loss_labels(class_logits, classes, pairs)["loss_cross_entropy"],  # pyright: ignore[reportArgumentType]
                    "mask": _MASK_WEIGHT * found["loss_mask"],
                    "dice": found["loss_dice"],
                }
            )
    last = losses.pop()
    if losses:
        last["auxiliary"] = torch.stack([value for layer in losses for value in layer.values()]).sum()
    return last


def _targets(label: Tensor, num_classes: int) -> tuple[list[Tensor], list[Tensor]]:
    """For every image, the classes in its label, [n], and their masks, [n, H, W]."""
    classes = []
    for image in label:
        present = image.unique()
        present = present[present != IGNORE_INDEX]
        if len(present) and not 0 <= present[0] <= present[-1] < num_classes:
            raise ValueError(
                f"labels must lie in 0..{num_classes - 1} or be {IGNORE_INDEX} (ignored), got {present.tolist()}."
            )
        classes.append(present)
    masks = [(image == present[:, None, None]).float() for image, present in zip(label, classes, strict=True)]
    return classes, masks
