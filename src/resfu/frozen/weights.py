"""Load the weights of an upsampler from a file with our parameter names or those of the method's authors."""

import os

from torch import Tensor

from resfu.hosts.weights import check_keys, read_weights
from resfu.upsamplers import UPSAMPLERS, Upsampler
from resfu.upsamplers.jbu import StackJBU
from resfu.upsamplers.official import convert_state_dict


def load_weights(up: Upsampler, path: str | os.PathLike[str]) -> None:
    """Load weights by name.

    A Stack-JBU that was fitted at ratio 2 has one step. Every step of a longer stack gets the weights of this step.

    Args:
        up: the upsampler.
        path: a file with our parameter names, or with those of the method's authors.

    Raises:
        ValueError: if they do not fit; the message names the first missing or unexpected ones.
    """
    weights = read_weights(path, "give the path of a file, or of a folder that holds one")
    own = up.state_dict()
    if not own.keys() & weights.keys():
        name = next((name for name, method in UPSAMPLERS.items() if type(up) is method), "")
        weights = convert_state_dict(name, weights)
    if isinstance(up, StackJBU):
        weights = _in_every_step(weights, up)
    check_keys(
        path,
        missing=[key for key in own if key not in weights],
        unexpected=[key for key in weights if key not in own],
        misshapen=[key for key in own if key in weights and own[key].shape != weights[key].shape],
    )
    up.load_state_dict(weights)


def _in_every_step(weights: dict[str, Tensor], up: StackJBU) -> dict[str, Tensor]:
    """Weights of a single step, copied to the names of all steps; weights of several steps are returned unchanged."""
    first = {key: value for key, value in weights.items() if key.startswith("stages.")}
    if any(not key.startswith("stages.1.") for key in first):
        return weights
    rest = {key: value for key, value in weights.items() if key not in first}
    return rest | {
        key.replace("stages.1.", f"stages.{n}.", 1): value for n in up.stages for key, value in first.items()
    }
