"""Find which calls a network has in training mode, where many networks have other outputs than in evaluation mode."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import nn

from resfu.upgrading.places import Place
from resfu.upgrading.recording import Recorder
from resfu.upgrading.running import restoring, run

Order = list[int | None]


def orders_in_training(
    trial: nn.Module, places: Iterable[Place], args: tuple, kwargs: dict[str, Any]
) -> dict[str, Order]:
    """For every module, the order of its calls in training mode.

    Args:
        trial: a copy of the network that is used for nothing else; it runs once in training mode, with its batch norms
            in evaluation mode, because they refuse some small batches.
        places: the calls of the pass in evaluation mode.
        args: the positional arguments of the network.
        kwargs: its keyword arguments.

    Returns:
        For every module, for each of its calls the number of the same call in evaluation mode, or None for a call that
        only exists in training mode. Empty if the network does not run in this way, as one that wants targets.
    """
    trial.train()
    for module in trial.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    recorder = Recorder(trial)
    try:
        with restoring(trial, (args, kwargs)), recorder:
            run(trial, args, kwargs)
    except Exception:  # whatever a network in training misses
        return {}
    numbers = {key: place.number for key, place in _told_apart(places)}
    orders: dict[str, Order] = {path: [] for path in {owner for owner, *_ in numbers}}
    for key, place in _told_apart(recorder.places):
        orders.setdefault(place.owner, []).append(numbers.get(key))
    return orders


def _told_apart(places: Iterable[Place]) -> Iterable[tuple[tuple, Place]]:
    """Every call with what identifies it: its place in the code, and how many calls were made from there before."""
    times: Counter[tuple] = Counter()
    for place in places:
        spot = (place.owner, place.chain, place.site)
        yield (*spot, times[spot]), place
        times[spot] += 1
