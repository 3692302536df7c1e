"""Find which calls a network makes in training mode, where many networks have other outputs than in evaluation mode."""

import copy
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from resfu.upgrading.building import SAME
from resfu.upgrading.installing import install
from resfu.upgrading.passing import Pass
from resfu.upgrading.places import Place, Spot
from resfu.upgrading.recording import spot_of
from resfu.upgrading.running import restoring, run

Order = list[int | None]


def orders_in_training(
    model: nn.Module, places: Sequence[Place], content: dict[str, Any], args: tuple, kwargs: dict[str, Any]
) -> dict[str, tuple[Order, list[Spot]]]:
    """For every module with redirected calls, the order of these calls in training mode.

    A copy of the network runs once in training mode, with redirected calls that still interpolate. Its batch norms stay
    in evaluation mode, because they refuse some small batches.

    Args:
        model: the network.
        places: the calls of the pass in evaluation mode.
        content: the plan, see `install`.
        args: the positional arguments of the network.
        kwargs: its keyword arguments.

    Returns:
        For every module, for each of its calls the number of the same call in evaluation mode, or None for a call that
        only exists in training mode, and the spots of these calls. Empty if the network does not run in this way, as
        one that wants targets.
    """
    redirected = [
        e for e in content["exchanges"] if not isinstance(model.get_submodule(e["owner"]), nn.ConvTranspose2d)
    ]
    same = [{"owner": e["owner"], "number": e["number"], "upsampler": SAME, "options": {}} for e in redirected]
    state = _Trace()
    trial = install(copy.deepcopy(model), {**content, "exchanges": same}, state)
    trial.train()
    for module in trial.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    try:
        with restoring(trial, (args, kwargs)):
            run(trial, args, kwargs)
    except Exception:  # whatever a network in training misses
        return {}
    return {
        owner: (_order([p for p in places if p.owner == owner], spots := state.spots.get(owner, [])), spots)
        for owner in sorted({e["owner"] for e in redirected})
    }


class _Trace(Pass):
    """A pass that notes from where in the code the redirected calls come."""

    def __init__(self) -> None:
        super().__init__()
        self.spots: dict[str, list[Spot]] = {}

    def next(self, owner: str, calls: int, all_of_them: bool = True) -> int:
        """Note a call; none has an upsampler here, so any number will do."""
        self.spots.setdefault(owner, []).append(spot_of(sys._getframe(1)))
        return 0


def _order(calls: Sequence[Place], in_training: Sequence[Spot]) -> Order:
    """The numbers of one module's calls in training mode."""
    spots = [place.spot for place in calls]
    order = _matched([*spots], in_training, [None] * len(in_training))
    # A part that is checkpointed in training mode alone is called from elsewhere in the code, and calls the same.
    return _matched([_inside(spot) for spot in spots], [_inside(spot) for spot in in_training], order)


def _inside(spot: Spot) -> Spot:
    chain, site, _ = spot
    return chain, site[-1:], False


def _matched(calls: Iterable[Spot], in_training: Sequence[Spot], order: Order) -> Order:
    """Fill the gaps of an order with unused calls from the same spots, the n-th with the n-th."""
    found, used = list(order), set(order)
    unused = [(spot, number) for number, spot in enumerate(calls) if number not in used]
    taken: Counter[Spot] = Counter()
    for n, spot in enumerate(in_training):
        if found[n] is None:
            same = [number for other, number in unused if other == spot][taken[spot] :]
            found[n] = same[0] if same else None
            taken[spot] += 1
    return found
