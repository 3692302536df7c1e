"""The loss over a set of masks, by hand and beside transformers."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.hosts.set_loss import Prediction, set_losses

CLASSES = 4


# The loss, once more and by hand: formulas of the papers, matching by trying every assignment.
def focal(logits: Tensor, mask: Tensor) -> Tensor:
    p = torch.where(mask > 0, logits.sigmoid(), 1 - logits.sigmoid())
    return (torch.where(mask > 0, 0.25, 0.75) * (1 - p) ** 2 * -p.log()).mean()


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    p = logits.sigmoid()
    return 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)


def losses_by_hand(prediction: Prediction, label: Tensor) -> dict[str, Tensor]:
    """Class, mask and dice losses of a batch, in which every image shows something."""
    targets = [sorted(set(image.flatten().tolist()) - {255}) for image in label]
    number = sum(map(len, targets))
    size = label.shape[-2:]
    weighted, weights, mask_loss, dice_loss = 0.0, 0.0, 0.0, 0.0
    for classes, masks, image, present in zip(*prediction, label, targets, strict=True):
        small = F.interpolate(image[None, None].float(), size=masks.shape[-2:], mode="nearest")[0, 0]

        def cost(query: int, k: int, classes: Tensor = classes, masks: Tensor = masks, small: Tensor = small) -> float:
            mask = (small == k).float()
            terms = 20 * focal(masks[query], mask) + dice(masks[query], mask) - classes[query].softmax(-1)[k]
            return terms.item()

        assignments = itertools.permutations(range(len(classes)), len(present))
        best = min(assignments, key=lambda queries: sum(cost(q, k) for q, k in zip(queries, present, strict=True)))
        wanted = dict(zip(best, present, strict=True))
        for query, logits in enumerate(classes):
            weight = 1.0 if query in wanted else 0.1
            weighted -= weight * logits.log_softmax(-1)[wanted.get(query, CLASSES)]
            weights += weight
        for query, k in wanted.items():
            large = F.interpolate(masks[None, None, query], size=size, mode="bilinear", align_corners=False)[0, 0]
            mask_loss += 20 * focal(large, (image == k).float()) / number
            dice_loss += dice(large, (image == k).float()) / number
    return {"class": weighted / weights, "mask": mask_loss, "dice": dice_loss}


@pytest.fixture
def label() -> Tensor:
    label = torch.zeros(2, 16, 24, dtype=torch.long)
    label[0, 4:9, 3:20], label[0, 9:], label[1, :, 7:] = 2, 255, 3
    return label


@pytest.fixture
def predictions() -> list[Prediction]:
    g = torch.Generator().manual_seed(5)
    return [
        Prediction(torch.randn(2, 5, CLASSES + 1, generator=g), 2 * torch.randn(2, 5, 4, 6, generator=g))
        for _ in range(12)
    ]


def test_the_set_loss_is_the_published_one(predictions: list[Prediction], label: Tensor) -> None:
    losses = set_losses(predictions, label, CLASSES)
    *earlier, last = [losses_by_hand(prediction, label) for prediction in predictions]
    expected = last | {"auxiliary": sum(sum(layer.values()) for layer in earlier)}
    assert list(losses) == ["class", "mask", "dice", "auxiliary"]
    for name, value in losses.items():
        torch.testing.assert_close(value, torch.as_tensor(expected[name]), rtol=1e-5, atol=1e-6)
    assert list(set_losses(predictions[:1], label, CLASSES)) == ["class", "mask", "dice"]


def test_matching_does_not_overflow_under_autocast() -> None:
    masks = torch.tensor([-100.0, -80.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
    prediction, label = Prediction(torch.zeros(1, 2, CLASSES + 1), masks), torch.zeros(1, 64, 64, dtype=torch.long)
    with torch.autocast("cpu", torch.float16):
        losses = set_losses([prediction], label, CLASSES)
    # Focal loss of a logit of -80 where the mask is: 0.25 x 80, times the weight 20.
    torch.testing.assert_close(losses["mask"], torch.tensor(400.0))


def test_masks_are_counted_over_all_processes(
    monkeypatch: pytest.MonkeyPatch, predictions: list[Prediction], label: Tensor
) -> None:
    alone = set_losses(predictions, label, CLASSES)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(12))  # what the other one counted
    together = set_losses(predictions, label, CLASSES)
    # Four masks here (classes 0 and 2, 0 and 3), twelve there: eight a process.
    torch.testing.assert_close(together["mask"], alone["mask"] / 2)
    torch.testing.assert_close(together["dice"], alone["dice"] / 2)
    torch.testing.assert_close(together["class"], alone["class"])


def test_images_with_nothing_labelled_teach_no_object(predictions: list[Prediction], label: Tensor) -> None:
    losses = set_losses(predictions[:1], torch.full_like(label, 255), CLASSES)
    expected = -predictions[0].classes.log_softmax(-1)[..., CLASSES].mean()
    torch.testing.assert_close(losses["class"], expected)
    assert losses["mask"] == losses["dice"] == 0
