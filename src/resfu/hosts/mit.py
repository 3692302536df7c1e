"""The Mix Transformer encoders of SegFormer, MiT-B0 to B5, by transformers."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import transformers
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerModel

from resfu.hosts.weights import check_keys, read_weights

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "b0": (2, 2, 2, 2),
    "b1": (2, 2, 2, 2),
    "b2": (3, 4, 6, 3),
    "b3": (3, 4, 18, 3),
    "b4": (3, 8, 27, 3),
    "b5": (3, 6, 40, 3),
}

# Published checkpoints carry a classifier or a segmentation head beside the encoder.
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
        # transformers leaves PyTorch's 1e-5, whatever its configuration says; the published networks have 1e-6.
        for module in self.mit.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, H, W] -> four maps at strides 4, 8, 16, 32, their sizes rounded up."""
        return self.mit(images, output_hidden_states=True).hidden_states

    def load(self, source: bool | str | os.PathLike[str]) -> None:
        """Load ImageNet weights.

        Args:
            source: True fetches `nvidia/mit-<variant>` (or takes it from transformers' cache); a path reads a file or
                folder in that checkpoint's naming, old or new. False does nothing.

        Raises:
            ValueError: when they cannot be fetched or do not fit; the message names the missing or unexpected ones.
        """
        if source is False:
            return
        if source is True:
            where = f"nvidia/mit-{self.variant}"
            arguments: dict[str, object] = {"pretrained_model_name_or_path": where}
        else:
            where = os.fspath(source)
            weights = {name: value for name, value in read_weights(where).items() if not name.startswith(_OTHER_PARTS)}
            arguments = {"pretrained_model_name_or_path": None, "state_dict": weights}
        loaded, report = self._from_pretrained(where, arguments)
        check_keys(
            where,
            missing=sorted(report["missing_keys"]),
            unexpected=sorted(name for name in report["unexpected_keys"] if not name.startswith(_OTHER_PARTS)),
            misshapen=sorted(report["mismatched_keys"]),
        )
        self.mit.load_state_dict(loaded.state_dict())

    def _from_pretrained(self, where: str, arguments: dict[str, object]) -> tuple[nn.Module, Mapping[str, list]]:
        # transformers renames the published weights to whatever its own version calls them.
        try:
            with _quiet():
                return SegformerModel.from_pretrained(  # pyright: ignore[reportReturnType, reportCallIssue]
                    config=self.mit.config,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                    **arguments,  # pyright: ignore[reportArgumentType]
                )
        except OSError as error:
            raise ValueError(
                f"the weights {where} could not be fetched and are not in the cache. Without a network, give the path "
                "of a downloaded file or folder as pretrained, or pretrained=False for random weights."
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what `check_keys` says better."""
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
