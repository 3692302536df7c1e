"""Replace the upsampling of a network."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from resfu.upgrading.building import SAME
from resfu.upgrading.choosing import AUTO, check_guidance, chosen, guide_of, started
from resfu.upgrading.finding import find_upsampling
from resfu.upgrading.in_training import orders_in_training
from resfu.upgrading.installing import FORMAT, install
from resfu.upgrading.network import MODULES, RECORD, is_upgraded
from resfu.upgrading.owner import Transposed
from resfu.upgrading.places import Place, Plan
from resfu.upgrading.running import evaluating, run
from resfu.upsamplers.options import check_given


def upgrade(
    model: nn.Module,
    upsampler: str | Mapping[str, str],
    *inputs: Any,
    where: str | Sequence[str] | None = None,
    guidance: str | Mapping[str, str] = AUTO,
    start: str | None = None,
    options: Mapping[str, Any] | None = None,
    named_inputs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Replace the upsampling in any PyTorch network.

    The network is copied; the original is not changed. Create the optimiser for the copy. Calls of `F.interpolate` and
    pixel shuffles are redirected inside the module's code. A transposed convolution becomes an upsampler and a 1 x 1
    convolution with the same numbers of channels. The new parameters get names of their own in `state_dict`: the path
    of the module in whose forward the call is, then `resfu` and the number of the call.

    Args:
        model: any network, before torch.compile, DistributedDataParallel and similar wrappers.
        upsampler: a key of `resfu.UPSAMPLERS`; "same" to keep what the network computes; or a mapping from places, with
            the names of `find_upsampling`, to upsamplers.
        *inputs: the positional arguments of the network; it runs a few times on them in evaluation mode, and a copy of
            it once in training mode.
        where: names of the places; "all" for all places that can be replaced. Default: the places where features are
            interpolated, but not the resampling of logits to the image, of masks or of position embeddings, and not
            layers that are learned themselves. If the network only upsamples logits, they are upsampled to the size of
            the encoder's largest map, guided by this map, and the old interpolation continues from there to the image.
        guidance: "auto" (the skip connection that is combined with the map, else the encoder's map, else the image),
            "image", the path of a module whose output is the guide, or a mapping from places to these.
        start: "as-before" (before training, the upgraded network gives the same results as the original) or "published"
            (the method's own initialisation). Default: "as-before" if the method and the place allow it.
        options: further arguments of the upsampler's constructor.
        named_inputs: the keyword arguments of the network.

    Returns:
        The upgraded network, in the mode (training or evaluation) of the original.

    Raises:
        ValueError: for a place, guide or upsampler that does not fit; the message says which would.

    Warns:
        UserWarning: for a place whose call does not run in training mode.

    >>> layers = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(8, 4, 1)
    >>> net = torch.nn.Sequential(*layers)
    >>> images = torch.rand(2, 3, 32, 32)
    >>> better = resfu.upgrade(net, "resfu", images)
    >>> better(images).shape
    torch.Size([2, 4, 32, 32])
    """
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        if is_upgraded(module):
            raise ValueError(
                f"{name or 'this network'} is upgraded already: upgrade the original, with a mapping of places to "
                "upsamplers."
            )
    check_given("options", options or {})
    plan = find_upsampling(model, *inputs, named_inputs=named_inputs)
    choices, exchanges = chosen(plan, upsampler, where), []
    check_guidance(plan, choices, guidance)
    for choice in choices:
        place, method = choice.place, choice.method
        exchange = {"owner": place.owner, "number": place.number, "upsampler": method, "options": {}}
        if method != SAME:
            exchange["options"] = started(place, method, options or {}, start)
        for role, guide in (("guide", guide_of(plan, choice, guidance)), ("by_way", choice.by_way)):
            exchange[role] = guide.to_json() if guide is not None else None
        exchanges.append(exchange)
    owners = {exchange["owner"] for exchange in exchanges}
    content = {
        "format": FORMAT,
        "owners": {path: _calls([place for place in plan if place.owner == path]) for path in sorted(owners)},
        "exchanges": exchanges,
    }
    named = dict(named_inputs or {})
    found = orders_in_training(model, plan, content, inputs, named)
    content["training"] = {path: order for path, (order, _) in found.items()}
    content["training_spots"] = {path: spots for path, (_, spots) in found.items()}
    upgraded = install(_copied(model), content)
    _check_all_run(upgraded, plan, content, (inputs, named))
    _warn_of_untrained(content)
    return upgraded


def _warn_of_untrained(content: dict[str, Any]) -> None:
    for exchange in content["exchanges"]:
        order = content["training"].get(exchange["owner"])
        if order is not None and exchange["number"] not in order and exchange["upsampler"] != SAME:
            warnings.warn(
                f"{exchange['owner']}#{exchange['number']} is not upsampled by the same call in training mode: its "
                "upsampler would not be trained.",
                stacklevel=3,
            )


def _copied(model: nn.Module) -> nn.Module:
    """A copy with the same training modes; deepcopy puts a torch.fx.GraphModule into training mode."""
    modes = {name: module.training for name, module in model.named_modules()}
    made = copy.deepcopy(model)
    for name, module in made.named_modules():
        module.training = modes.get(name, module.training)
    return made


def _calls(places: list[Place]) -> list[dict[str, Any]]:
    return [{"call": place.call.to_json(), "chain": list(place.chain), "spot": place.spot} for place in places]


def _check_all_run(model: nn.Module, plan: Plan, content: dict[str, Any], inputs: tuple[tuple, dict]) -> None:
    """Run the upgraded network once and make sure that every exchange took place."""
    state = model.__dict__[RECORD].root
    state.visited = set()
    try:
        with evaluating(model, inputs):
            try:
                run(model, *inputs)
            except AttributeError as error:
                if Transposed.__name__ not in str(error):
                    raise
                raise ValueError(
                    f"the network reads from a transposed convolution what its upsampler has not ({error}): leave that "
                    "place out (where=[...])."
                ) from error
            except NotImplementedError as error:
                if nn.ModuleDict.__name__ not in str(error):
                    raise
                raise ValueError(
                    "a module calls all its submodules one after another, and would call its upsamplers "
                    f"({MODULES!r}) too: leave its places out (where=[...])."
                ) from error
        wanted = {f"{exchange['owner']}#{exchange['number']}" for exchange in content["exchanges"]}
        if missing := sorted(wanted - state.visited):
            chains = [" > ".join(plan.find(name).chain) for name in missing]
            raise ValueError(
                f"{', '.join(missing)} could not be redirected: the call is reached through {', '.join(chains)}. Leave "
                "it out (where=[...])."
            )
    finally:
        state.visited = None
