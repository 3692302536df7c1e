"""Networks of the package transformers with published weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import transformers
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from resfu.hosts.offline import offline_if_unreachable


def from_transformers(
    kind: type[PreTrainedModel], config: PretrainedConfig, where: str, weights: Mapping[str, Tensor] | None = None
) -> tuple[PreTrainedModel, Mapping[str, list]]:
    """Build a network and load weights that have the names of any version of transformers.

    Args:
        kind: class of the network.
        config: its configuration; the hub's own is not fetched.
        where: name on the hub, whose weights are fetched (or taken from the cache) when none are given.
        weights: tensors by name.

    Returns:
        The network, and what transformers says about the loading: lists under "missing_keys", "unexpected_keys" and
        "mismatched_keys".

    Raises:
        ValueError: when the weights cannot be fetched.
    """
    # transformers renames the published weights to the names of its own version.
    arguments: dict[str, object] = {"pretrained_model_name_or_path": where}
    if weights is not None:
        arguments = {"pretrained_model_name_or_path": None, "state_dict": dict(weights)}
    try:
        with offline_if_unreachable() if weights is None else nullcontext(), _quiet(fetching=weights is None):
            return kind.from_pretrained(  # pyright: ignore[reportReturnType, reportCallIssue]
                config=config,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **arguments,  # pyright: ignore[reportArgumentType]
            )
    except OSError as error:
        raise ValueError(
            f"the weights {where} could not be fetched and are not in the cache. Without a network, give the path of a "
            "downloaded file or folder as pretrained, or pretrained=False for random weights."
        ) from error


@contextmanager
def _quiet(fetching: bool) -> Iterator[None]:
    """Silence transformers' reports about weights, which `check_keys` checks, and its progress bar without fetching."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if bars and not fetching:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
