import math

import pytest
import torch

from resfu.training.losses import segmentation_loss

# Two classes, one row of four pixels; the log-odds are 0 (p = 1/2) and log 3 (p = 3/4 of class 1).
LOGITS = torch.tensor([[[[0.0, 0.0, 0.0, 0.0]], [[0.0, math.log(3), math.log(3), 0.0]]]])
LABEL = torch.tensor([[[0, 1, 0, 255]]])
SUM = math.log(2) - math.log(3 / 4) - math.log(1 / 4)  # of the three labelled pixels


def test_ignored_pixels_by_hand():
    assert segmentation_loss(LOGITS, LABEL).item() == pytest.approx(SUM / 3)
    assert segmentation_loss(LOGITS, LABEL, average="all").item() == pytest.approx(SUM / 4)


def test_ignored_pixels_have_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    segmentation_loss(logits, LABEL).backward()
    assert logits.grad is not None
    assert logits.grad[..., 3].abs().max() == 0
    torch.testing.assert_close(logits.grad[0, :, 0, 2], torch.tensor([1 / 4 - 1, 3 / 4]) / 3)


def test_logits_are_brought_to_the_label_by_half_pixel_centres():
    # One row of two pixels, 0 and 4, becomes 0, 1, 3, 4.
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 1, 0, 1] = 4.0
    label = torch.tensor([[[1, 1, 1, 1]]])
    expected = sum(math.log(1 + math.exp(-x)) for x in (0.0, 1.0, 3.0, 4.0)) / 4
    assert segmentation_loss(logits, label).item() == pytest.approx(expected)


@pytest.mark.parametrize("average", ["valid", "all"])
def test_nothing_labelled_costs_nothing(average):
    logits = LOGITS.clone().requires_grad_()
    loss = segmentation_loss(logits, torch.full_like(LABEL, 255), average=average)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_fp32(dtype):
    loss = segmentation_loss(LOGITS.to(dtype).expand(-1, -1, 300, -1), LABEL.expand(-1, 300, -1))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(SUM / 3, rel=2e-3)


def test_an_unknown_average_is_refused():
    with pytest.raises(ValueError, match="'valid' or 'all', got 'mean'"):
        segmentation_loss(LOGITS, LABEL, average="mean")  # pyright: ignore[reportArgumentType]
