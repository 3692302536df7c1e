"""The Dice loss, by hand."""

import pytest
import torch

from resfu.hosts.dice_loss import dice_loss


def test_the_dice_loss_by_hand() -> None:
    """Probabilities (3/4, 1/4) or (1/4, 3/4) at four pixels in two images; the fifth and sixth are ignored."""
    three = torch.tensor(3.0).log()
    logits = torch.zeros(2, 2, 1, 3)
    logits[0, 0, 0] = torch.stack([three, three, 9 * three])
    logits[1, 0, 0] = torch.stack([-three, three, -9 * three])
    label = torch.tensor([[[0, 1, 255]], [[1, 0, 255]]])
    # Class 0: p g = 3/4 + 3/4, p^2 = (9 + 9 + 1 + 9)/16, g^2 = 2. Class 1: p g = 1/4 + 3/4, p^2 = (1 + 1 + 9 + 1)/16.
    expected = 1 - 0.5 * ((3 + 1e-5) / (1.75 + 2 + 1e-5) + (2 + 1e-5) / (0.75 + 2 + 1e-5))
    torch.testing.assert_close(dice_loss(logits, label).item(), expected, rtol=1e-5, atol=0)
    half = dice_loss(logits.bfloat16(), label)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(expected, abs=5e-3)


def test_the_dice_loss_of_classes_that_nobody_sees() -> None:
    logits = torch.full((1, 3, 2, 2), -50.0, requires_grad=True)
    with torch.no_grad():
        logits[:, 0] = 50.0
    assert dice_loss(logits, torch.zeros(1, 2, 2, dtype=torch.long)).item() == pytest.approx(0, abs=1e-6)
    nothing = dice_loss(logits, torch.full((1, 2, 2), 255))
    assert nothing.item() == 0
    nothing.backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_gradients_of_the_dice_loss() -> None:
    g = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 3, 2, 3, dtype=torch.float64, generator=g, requires_grad=True)
    label = torch.randint(3, (2, 2, 3), generator=g)
    label[0, 0, 0] = label[1, 1, 2] = 255
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, label), logits)
    (gradient,) = torch.autograd.grad(dice_loss(logits, label), logits)
    assert gradient[0, :, 0, 0].abs().max() == gradient[1, :, 1, 2].abs().max() == 0
    assert (gradient.abs().amax(1) > 0).sum() == 10


def test_bad_labels() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    with pytest.raises(ValueError, match=r"\[1, 2, 2\] like the logits, got \[1, 4, 4\]"):
        dice_loss(logits, torch.zeros(1, 4, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"must lie in 0\.\.2 or be 255 \(ignored\), got \[-1, 3\]"):
        dice_loss(logits, torch.tensor([[[0, 3], [255, -1]]]))
