"""The semantic head of Panoptic FPN and its loss, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.image_list import ImageList

from resfu.hosts.panoptic_fpn import SemanticHead, _semantic_loss

THINGS, STUFF, VOID = 4, 3, 255


def test_the_semantic_head_by_hand() -> None:
    torch.manual_seed(0)
    head = SemanticHead(5, in_channels=8, channels=32)
    assert abs(head.classifier.weight.std().item() - 0.01) < 0.002
    pyramid = {str(level): torch.randn(2, 8, 32 // 2**level, 48 // 2**level) for level in range(4)}
    pyramid["pool"] = torch.randn(2, 8, 2, 3)
    weights = {name: value + 0.1 * torch.randn_like(value) for name, value in head.state_dict().items()}
    head.load_state_dict(weights)
    total = torch.zeros(2, 32, 32, 48)
    for level, (convolutions, doublings) in enumerate([(1, 0), (1, 1), (2, 2), (3, 3)]):
        x = pyramid[str(level)]
        for step in range(convolutions):
            conv, scale, shift = (weights[f"levels.{level}.{step}.{n}"] for n in ("0.weight", "1.weight", "1.bias"))
            x = F.conv2d(x, conv, padding=1)  # 32 channels in 32 groups: each normalised by itself
            x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
            x = (x * scale[:, None, None] + shift[:, None, None]).clamp(min=0)
            if step < doublings:
                x = F.interpolate(x, size=[2 * n for n in x.shape[-2:]], mode="bilinear", align_corners=False)
        total += x
    expected = torch.einsum("bchw,kc->bkhw", total, weights["classifier.weight"][:, :, 0, 0])
    with torch.no_grad():
        found = head(pyramid)
    torch.testing.assert_close(found, expected + weights["classifier.bias"][:, None, None], rtol=1e-4, atol=1e-4)


def test_the_semantic_loss_by_hand() -> None:
    """Cell i of stride 4 takes pixel 4 i + 2 of the resized image, which takes its nearest original pixel."""
    torch.manual_seed(0)
    images = ImageList(torch.zeros(2, 3, 64, 64), [(64, 60), (32, 40)])
    labels = [torch.randint(STUFF + 1, (32, 30)), torch.randint(STUFF + 1, (32, 40))]
    labels[1][:20, :9] = VOID
    logits = torch.randn(2, STUFF + 1, 16, 16)
    total, counted = 0.0, 0
    for image, ((height, width), label) in enumerate(zip(images.image_sizes, labels, strict=True)):
        ratio = label.shape[0] / height
        for i in range(16):
            for j in range(16):
                y, x = 4 * i + 2, 4 * j + 2
                if y >= height or x >= width:
                    continue
                wanted = int(label[int((y + 0.5) * ratio), int((x + 0.5) * ratio)])
                if wanted != VOID:
                    scores = logits[image, :, i, j].tolist()
                    total += math.log(sum(math.exp(score) for score in scores)) - scores[wanted]
                    counted += 1
    loss = _semantic_loss(logits, images, [{"semantic": label} for label in labels])
    assert loss.item() == pytest.approx(total / counted, rel=1e-5)
    nothing = [{"semantic": torch.full_like(label, VOID)} for label in labels]
    assert _semantic_loss(logits, images, nothing).item() == 0
