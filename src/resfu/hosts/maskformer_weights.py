"""Published weights for MaskFormer: of its encoder, or of the whole network."""

import os
import re
import warnings
from collections.abc import Iterable

from torch import Tensor, nn

from resfu.hosts.swin import SwinEncoder
from resfu.hosts.weights import check_keys, read_weights

# Names of the whole network in old and present versions of transformers, and ours; transformers renames the encoder's.
_ENCODER = "model.pixel_level_module.encoder."
_RENAMED = (
    (r"^model\.pixel_level_module\.decoder\.", "pixel_decoder."),
    (r"^model\.transformer_module\.", "transformer."),
    (r"\.out_proj\.", ".o_proj."),
    (r"(layers\.\d+)\.(fc[12])\.", r"\1.mlp.\2."),
)
# Not a weight of the network, but the weight of "no object" in the loss.
_LOSS = "criterion."


def load_pretrained(encoder: SwinEncoder, head: nn.Module, source: bool | str | os.PathLike[str]) -> None:
    """Load weights into the encoder, or into encoder and head.

    Args:
        encoder: the encoder.
        head: the network's head; its slots keep their weights.
        source: True fetches the encoder's ImageNet weights. A path reads a file or folder with the encoder's weights or
            with those of a whole MaskFormer. False does nothing.

    Raises:
        ValueError: when there are none or they do not fit; the message names the missing or unexpected ones.

    Warns:
        UserWarning: when the weights of a whole network leave an upsampler untrained.
    """
    if source is False:
        return
    if source is True:
        encoder.fetch()
        return
    where = os.fspath(source)
    weights = read_weights(where)
    if any(name.startswith(_ENCODER) for name in weights):
        _load_network(encoder, head, weights, where)
    else:
        encoder.load(where, weights)


def _load_network(encoder: SwinEncoder, head: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    encoder.load(where, {_encoder_name(key): value for key, value in weights.items() if key.startswith(_ENCODER)})
    given = {_name(key): value for key, value in weights.items() if not key.startswith((_ENCODER, _LOSS))}
    own = head.state_dict()
    slots = _slots(own)
    check_keys(
        where,
        missing=[name for name in own if name not in given and name not in slots],
        unexpected=[name for name in given if name not in own],
        misshapen=[name for name in own if name in given and own[name].shape != given[name].shape],
    )
    head.load_state_dict(given, strict=False)
    if slots:
        warnings.warn(
            f"{where} is a whole network, but has no weights for its upsamplers ({len(slots)} tensors, "
            f"{slots[0]} and so on): they start untrained.",
            stacklevel=2,
        )


def _slots(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("pixel_decoder.slots.")]


def _encoder_name(key: str) -> str:
    key = re.sub(r"^model\.", "swin.", key.removeprefix(_ENCODER))
    return re.sub(r"^hidden_states_norms\.(\d)\.", lambda found: f"hidden_states_norms.stage{int(found[1]) + 1}.", key)


def _name(key: str) -> str:
    for pattern, replacement in _RENAMED:
        key = re.sub(pattern, replacement, key)
    return key
