"""Install upsamplers in a network according to a plan."""

from itertools import groupby
from typing import Any, cast

from torch import nn

from resfu.upgrading.building import SAME, Replacement, build
from resfu.upgrading.calls import Call
from resfu.upgrading.network import MODULES, Record, become_upgraded
from resfu.upgrading.owner import Owner, Spots, Transposed
from resfu.upgrading.passing import Pass, Tap
from resfu.upgrading.places import Guide, Spot

FORMAT = 1


def install(model: nn.Module, content: dict[str, Any], state: Pass | None = None) -> nn.Module:
    """Change a network in place.

    Args:
        model: the network.
        content: the plan: "owners" (all calls of each changed module), "exchanges" (the replacement of each call),
            "training" (the order of the calls of each changed module in training mode, if it is known) and
            "training_spots" (where in the code these calls stand).
        state: the state of its passes; None for a new one.

    Returns:
        The network.

    Raises:
        ValueError: if the plan was made for another network.
    """
    state = Pass() if state is None else state
    exchanges = sorted(content["exchanges"], key=lambda exchange: exchange["owner"])
    maps = (exchange.get(role) for exchange in exchanges for role in ("guide", "by_way"))
    for guide in dict.fromkeys(Guide.from_json(content) for content in maps if content):
        _listen(model, guide, state)
    root = None
    for path, group in groupby(exchanges, key=lambda exchange: exchange["owner"]):
        order, spots = ((content.get(key) or {}).get(path) for key in ("training", "training_spots"))
        owner, modules = _owner(model, path, content["owners"][path], list(group), state, order, spots)
        module = _part(model, path)
        if isinstance(module, nn.ConvTranspose2d) and modules:
            _exchange(model, module, Transposed(owner, module, modules))
            continue
        if modules and hasattr(module, MODULES):
            raise ValueError(f"{path or 'the network'} has a part named {MODULES!r}, where upsamplers go: rename it.")
        if modules:
            module.add_module(MODULES, modules)
        if path == "":
            root = owner
        else:
            become_upgraded(module, Record(owner))
    become_upgraded(model, Record(root, state, content))
    return model


def _owner(
    model: nn.Module,
    path: str,
    calls: list[dict[str, Any]],
    exchanges: list[dict[str, Any]],
    state: Pass,
    order: list[int | None] | None,
    spots: list[Any] | None,
) -> tuple[Owner, nn.ModuleDict]:
    module = _part(model, path)
    like = next((p for part in (module, model) for p in part.parameters() if p.is_floating_point()), None)
    modules, guides, middles = nn.ModuleDict(), {}, {}
    described = [Call.from_json(call["call"]) for call in calls]
    for exchange in exchanges:
        number = exchange["number"]
        if exchange["upsampler"] == SAME:
            continue
        guide, by_way = (_guide(exchange.get(role)) for role in ("guide", "by_way"))
        if guide:
            guides[number] = guide.name
        if by_way:
            middles[number] = by_way.name
        width, middle = guide.channels if guide else None, by_way.size if by_way else None
        replacement = build(exchange["upsampler"], described[number], width, exchange["options"], middle)
        if like is not None:
            replacement.to(like.device, like.dtype)
        modules[str(number)] = replacement
    modules.train(module.training)
    chains = [tuple(call["chain"]) for call in calls]
    replacements = {int(number): cast("Replacement", part) for number, part in modules.items()}
    owner = Owner(path, state, chains, described, replacements, guides, middles, order)
    if not isinstance(module, nn.ConvTranspose2d) and all("spot" in call for call in calls):
        owner.spots[False] = Spots([_spot(*call["spot"]) for call in calls], range(len(calls)))
        if order is not None and spots is not None:
            owner.spots[True] = Spots([_spot(*spot) for spot in spots], order, owner.spots[False])
    return owner, modules


def _spot(chain: list[str], site: list[list[int | None]], checkpointed: bool) -> Spot:
    return tuple(chain), tuple(map(tuple, site)), checkpointed


def _guide(content: dict[str, Any] | None) -> Guide | None:
    return Guide.from_json(content) if content else None


def _listen(model: nn.Module, guide: Guide, state: Pass) -> None:
    """Capture a guide's map when its module runs."""
    tap, module = Tap(state, guide.name, guide.keys, guide.call), _part(model, guide.module)
    if guide.port == "input":
        module.register_forward_pre_hook(tap.before)
    else:
        module.register_forward_hook(tap.after)


def _exchange(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def _part(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise ValueError(
            f"this {type(model).__name__} has no module {path!r}: it is not the network that the plan was made for."
        ) from error
