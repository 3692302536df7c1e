"""Load the weights of an upsampler, with our names or its authors'."""

import os

from resfu.hosts.weights import check_keys, read_weights
from resfu.upsamplers import UPSAMPLERS, Upsampler
from resfu.upsamplers.official import convert_state_dict


def load_weights(up: Upsampler, path: str | os.PathLike[str]) -> None:
    """Load weights by name.

    Args:
        up: the upsampler.
        path: a file with our names, or with its authors'.

    Raises:
        ValueError: if they do not fit; the message names the first missing or unexpected ones.
    """
    weights = read_weights(path)
    own = up.state_dict()
    if not own.keys() & weights.keys():
        name = next((name for name, method in UPSAMPLERS.items() if type(up) is method), "")
        weights = convert_state_dict(name, weights)
    check_keys(
        path,
        missing=[key for key in own if key not in weights],
        unexpected=[key for key in weights if key not in own],
        misshapen=[key for key in own if key in weights and own[key].shape != weights[key].shape],
    )
    up.load_state_dict(weights)
