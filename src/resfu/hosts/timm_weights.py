"""Encoder weights with timm's names."""

import os

import timm.models
from torch import Tensor, nn

from resfu.hosts.offline import offline_if_unreachable
from resfu.hosts.weights import check_keys, read_weights


def timm_weights(source: bool | str | os.PathLike[str], name: str | None) -> dict[str, Tensor]:
    """Fetch the weights of a backbone, or read them from disk.

    Args:
        source: True fetches `timm/<name>` (or takes it from huggingface_hub's cache); anything else is a path.
        name: name of the published weights; None if there are none.

    Returns:
        Tensors by timm's names.

    Raises:
        ValueError: when they cannot be found.
    """
    if not isinstance(source, bool):
        return read_weights(source)
    if name is None:
        raise ValueError("there are no published weights of this encoder: give a path as pretrained, or False.")
    try:
        with offline_if_unreachable():
            return timm.models.load_state_dict_from_hf(f"timm/{name}")
    except OSError as error:
        raise ValueError(
            f"the weights timm/{name} (model.safetensors) could not be fetched and are not in the cache. Without a "
            "network, give the path of a downloaded file or folder as pretrained, or pretrained=False for random "
            "weights."
        ) from error


def load_timm_weights(module: nn.Module, weights: dict[str, Tensor], classifier: str, where: object) -> None:
    """Load all weights except the classifier's.

    Args:
        module: a backbone without a classifier.
        weights: tensors by timm's names, with or without the classifier.
        classifier: timm's name of the classifier.
        where: the source of the weights, for the message.

    Raises:
        ValueError: when they do not fit; the message names the missing, unexpected or misshapen ones.
    """
    weights = {key: value for key, value in weights.items() if not key.startswith(f"{classifier}.")}
    own = module.state_dict()
    # Old files lack the counters of batch normalisation, which are not used here.
    needed = [key for key in own if not key.endswith(".num_batches_tracked")]
    check_keys(
        where,
        missing=[key for key in needed if key not in weights],
        unexpected=[key for key in weights if key not in own],
        misshapen=[key for key in own if key in weights and own[key].shape != weights[key].shape],
    )
    module.load_state_dict(weights, strict=False)
