"""Dilated ResNet-C encoders, built by timm."""

import os

import timm
from torch import Tensor, nn

from resfu.hosts.timm_weights import load_timm_weights, timm_weights

LAYERS: dict[int, tuple[int, int, int, int]] = {
    14: (1, 1, 1, 1),  # for experiments and tests; there are no published weights
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
_PUBLISHED = {50: "resnet50c.gluon_in1k", 101: "resnet101c.gluon_in1k"}


class DilatedResNet(nn.Module):
    """ResNet with a deep stem (three 3 x 3 convolutions) and dilation instead of stride in its last two stages.

    Residual networks: He et al., CVPR 2016. The form is "V1c" of mmsegmentation, which its PSPNet uses.

    Args:
        depth: a key of `LAYERS`.

    Raises:
        ValueError: for another depth.
    """

    channels = (64, 256, 512, 1024, 2048)

    def __init__(self, depth: int = 50) -> None:
        super().__init__()
        if depth not in LAYERS:
            raise ValueError(f"the depth must be one of {', '.join(map(str, LAYERS))}, got {depth}.")
        self.depth = depth
        self.resnet = timm.create_model("resnet50c", layers=LAYERS[depth], features_only=True, output_stride=8)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> the stem's map at stride 2 and four stages' at 4, 8, 8, 8, sizes rounded up."""
        return self.resnet(images)

    def load(self, source: bool | str | os.PathLike[str]) -> None:
        """Load ImageNet weights.

        Args:
            source: True fetches `timm/resnet<depth>c.gluon_in1k` (or takes it from the cache); a path reads a file or
                folder with timm's names, with or without the classifier. False does nothing.

        Raises:
            ValueError: when they cannot be found or do not fit; the message names the missing or unexpected ones.
        """
        if source is False:
            return
        name = _PUBLISHED.get(self.depth)
        weights = timm_weights(source, name)
        load_timm_weights(self.resnet, weights, classifier="fc", where=name if source is True else source)
