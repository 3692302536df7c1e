"""The Mix Transformer encoders of SegFormer, MiT-B0 to B5, built by transformers."""

import os

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerModel

from resfu.hosts.hub import from_transformers
from resfu.hosts.weights import check_keys, read_weights

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "b0": (2, 2, 2, 2),
    "b1": (2, 2, 2, 2),
    "b2": (3, 4, 6, 3),
    "b3": (3, 4, 18, 3),
    "b4": (3, 8, 27, 3),
    "b5": (3, 6, 40, 3),
}

# Published checkpoints also contain a classifier or a segmentation head.
_OTHER_PARTS = ("classifier.", "decode_head.")


class MixTransformer(nn.Module):
    """Hierarchical transformer encoder with overlapping patches (Xie et al., SegFormer, NeurIPS 2021).

    Args:
        variant: a key of `DEPTHS`.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.

    Raises:
        ValueError: for an unknown variant.
    """

    def __init__(self, variant: str, drop_path_rate: float = 0.1) -> None:
        super().__init__()
        if variant not in DEPTHS:
            raise ValueError(f"unknown MiT variant {variant!r}; choose one of {', '.join(DEPTHS)}.")
        self.variant = variant
        self.channels = (32, 64, 160, 256) if variant == "b0" else (64, 128, 320, 512)
        self.mit = SegformerModel(
            SegformerConfig(
                hidden_sizes=self.channels,
                depths=DEPTHS[variant],
                num_attention_heads=(1, 2, 5, 8),
                sr_ratios=(8, 4, 2, 1),
                drop_path_rate=drop_path_rate,
            )
        )
        # transformers uses PyTorch's 1e-5, whatever its configuration says; the published networks have 1e-6.
        for module in self.mit.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6

    @property
    def output_norms(self) -> list[nn.Module]:
        """The normalisations at the ends of the four stages."""
        return [stage.layer_norm for stage in self.mit.stages]  # pyright: ignore[reportReturnType]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, H, W] -> four maps at strides 4, 8, 16, 32, their sizes rounded up."""
        return self.mit(images, output_hidden_states=True).hidden_states

    def load(self, source: bool | str | os.PathLike[str]) -> None:
        """Load ImageNet weights.

        Args:
            source: True fetches `nvidia/mit-<variant>` (or takes it from transformers' cache); a path reads a file or
                folder with the names of that checkpoint, old or new. False does nothing.

        Raises:
            ValueError: when they cannot be fetched or do not fit; the message names the missing or unexpected ones.
        """
        if source is False:
            return
        where, weights = f"nvidia/mit-{self.variant}", None
        if source is not True:
            where = os.fspath(source)
            weights = {name: value for name, value in read_weights(where).items() if not name.startswith(_OTHER_PARTS)}
        loaded, report = from_transformers(SegformerModel, self.mit.config, where, weights)
        check_keys(
            where,
            missing=sorted(report["missing_keys"]),
            unexpected=sorted(name for name in report["unexpected_keys"] if not name.startswith(_OTHER_PARTS)),
            misshapen=sorted(report["mismatched_keys"]),
        )
        self.mit.load_state_dict(loaded.state_dict())
