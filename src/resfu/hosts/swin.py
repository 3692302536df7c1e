"""The Swin Transformer encoders of MaskFormer, built by transformers."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from transformers import SwinBackbone, SwinConfig

from resfu.hosts.hub import from_transformers
from resfu.hosts.weights import check_keys


class SwinVariant(NamedTuple):
    """Size of a Swin Transformer.

    Args:
        embed_dim: width of the first stage; each further stage doubles it.
        depths: numbers of blocks of the four stages.
        num_heads: numbers of attention heads of the four stages.
        window_size: side of an attention window, in patches.
        weights: name of the ImageNet weights on the hub; "" if there are none.
    """

    embed_dim: int
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    window_size: int = 12
    weights: str = ""


VARIANTS = {
    "b": SwinVariant(128, (2, 2, 18, 2), (4, 8, 16, 32), weights="microsoft/swin-base-patch4-window12-384-in22k"),
    "l": SwinVariant(192, (2, 2, 18, 2), (6, 12, 24, 48), weights="microsoft/swin-large-patch4-window12-384-in22k"),
}

# Published encoders also contain a classifier, and the normalisation before it.
_CLASSIFIER = ("classifier.", "swin.layernorm.")
_OUTPUT_NORMS = "hidden_states_norms."


class SwinEncoder(nn.Module):
    """Hierarchical transformer with shifted windows (Liu et al., ICCV 2021) and a LayerNorm on each of four outputs.

    Args:
        variant: "b", "l" or a size of your own.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.

    Raises:
        ValueError: for an unknown variant.
    """

    def __init__(self, variant: str | SwinVariant, drop_path_rate: float = 0.3) -> None:
        super().__init__()
        if isinstance(variant, str):
            if variant not in VARIANTS:
                raise ValueError(f"unknown Swin variant {variant!r}; choose one of {', '.join(VARIANTS)}.")
            variant = VARIANTS[variant]
        self.variant = variant
        self.channels = tuple(variant.embed_dim * 2**stage for stage in range(4))
        self.backbone = SwinBackbone(
            SwinConfig(
                image_size=384,
                embed_dim=variant.embed_dim,
                depths=variant.depths,
                num_heads=variant.num_heads,
                window_size=variant.window_size,
                drop_path_rate=drop_path_rate,
                out_features=["stage1", "stage2", "stage3", "stage4"],  # pyright: ignore[reportCallIssue]
            )
        )
        # It belongs to the classifier, which is missing here, so it would never get a gradient.
        self.backbone.swin.layernorm = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def output_norms(self) -> list[nn.Module]:
        """The normalisations of the four outputs."""
        return list(self.backbone.hidden_states_norms.values())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, H, W] -> four maps at strides 4, 8, 16, 32, their sizes rounded up."""
        return self.backbone(images).feature_maps

    def fetch(self) -> None:
        """Load the ImageNet-22k weights of the variant, from the hub or from transformers' cache.

        Raises:
            ValueError: when they cannot be fetched, or there are no published weights for the variant.
        """
        if not self.variant.weights:
            raise ValueError("this Swin variant has no published weights: give a path or pretrained=False.")
        self.load(self.variant.weights, None)

    def load(self, where: str, weights: Mapping[str, Tensor] | None) -> None:
        """Load weights with the names of any version of transformers.

        Args:
            where: the source of the weights, for messages, or their name on the hub.
            weights: tensors by name; None fetches them. ImageNet weights have no output norms; these then are not
                changed.

        Raises:
            ValueError: when they cannot be fetched or do not fit; the message names the missing or unexpected ones.
        """
        loaded, report = from_transformers(SwinBackbone, self.backbone.config, where, weights)
        norms = [name for name in self.backbone.state_dict() if name.startswith(_OUTPUT_NORMS)]
        without_norms = set(norms) <= set(report["missing_keys"])
        check_keys(
            where,
            missing=sorted(set(report["missing_keys"]) - set(norms if without_norms else ())),
            unexpected=sorted(name for name in report["unexpected_keys"] if not name.startswith(_CLASSIFIER)),
            misshapen=sorted(report["mismatched_keys"]),
        )
        left_out = (*_CLASSIFIER, _OUTPUT_NORMS) if without_norms else _CLASSIFIER
        own = {name: value for name, value in loaded.state_dict().items() if not name.startswith(left_out)}
        self.backbone.load_state_dict(own, strict=False)
