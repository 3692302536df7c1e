"""Choose the places to replace, with an upsampler and a guide for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from resfu.upgrading.building import SAME, refusal
from resfu.upgrading.places import IMPOSSIBLE, LEARNED, Guide, Place, Plan
from resfu.upsamplers import UPSAMPLERS

AUTO, IMAGE, ALL = "auto", "image", "all"
AS_BEFORE, PUBLISHED = "as-before", "published"


@dataclass(frozen=True)
class Choice:
    """The upsampler chosen for a place.

    Attributes:
        place: the place.
        method: the upsampler's name.
        by_way: the map to whose size the upsampler goes, if the old interpolation continues from there.
    """

    place: Place
    method: str
    by_way: Guide | None = None


def chosen(plan: Plan, upsampler: str | Mapping[str, str], where: str | Sequence[str] | None) -> list[Choice]:
    """Choose the places to replace, each with its upsampler.

    Raises:
        ValueError: for an unknown place or one that cannot be replaced, or an upsampler that does not fit it.
    """
    if not isinstance(upsampler, str | Mapping):
        raise ValueError(f"upsampler must be a name or a mapping from places to names, got {upsampler!r}.")
    if not isinstance(where, str | Sequence | None):
        raise ValueError(f"where must be the name of a place, a list of names or {ALL!r}, got {where!r}.")
    if isinstance(upsampler, Mapping):
        if where is not None:
            raise ValueError(
                "where says which places one upsampler takes; a mapping of places to upsamplers says it already."
            )
        choices = [Choice(plan.find(name), method) for name, method in upsampler.items()]
    elif where is None:
        by_way = upsampler != SAME and plan.logits_alone
        choices = [Choice(place, upsampler, place.by_way if by_way else None) for place in _by_default(plan, upsampler)]
    elif where == ALL:
        choices = [Choice(place, upsampler) for place in plan if place.left_alone not in IMPOSSIBLE]
    else:
        choices = [Choice(plan.find(name), upsampler) for name in ([where] if isinstance(where, str) else where)]
    names = [choice.place.name for choice in choices]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{', '.join(repeated)} is named more than once.")
    if not choices:
        asked = "the mapping names" if isinstance(upsampler, Mapping) else f"where={where!r} finds"
        if where is None and upsampler == SAME:
            asked = f"{SAME!r} leaves transposed convolutions as they are, and besides them there is"
        raise ValueError("the network does not upsample." if not len(plan) else f"{asked} no place to replace.")
    for choice in choices:
        place, method = choice.place, choice.method
        if method != SAME and place.left_alone in IMPOSSIBLE:
            raise ValueError(f"{place.name} cannot be replaced: it is {place.left_alone}.")
        if reason := refusal(method, place.call if choice.by_way is None else place.call_by_way):
            fitting = plan.fitting(method) if method in UPSAMPLERS else []
            hint = f" It fits where={fitting}." if fitting else ""
            raise ValueError(f"{place.name} cannot be {method}: {reason}{hint}")
    return choices


def _by_default(plan: Plan, upsampler: str) -> list[Place]:
    if upsampler == SAME:
        return [p for p in plan if p.call.kind != "conv_transpose2d" and p.left_alone not in IMPOSSIBLE]
    if plan.replaced:
        guided = upsampler in UPSAMPLERS and _is_guided(upsampler)
        # A place without any guide, such as one in a detector's boxes, stays as it is.
        return [place for place in plan.replaced if place.guides or not guided] or plan.replaced
    learned = sum(place.left_alone == LEARNED for place in plan)
    if learned:
        raise ValueError(
            f"all upsampling of this network is learned ({learned} places), and what replaces it starts from nothing: "
            "ask for it with where='all' or by name."
        )
    reasons = ", ".join(f"{place.name}: {place.left_alone}" for place in plan) or "it does not upsample"
    raise ValueError(f"there is no place to replace ({reasons}); name those that you want replaced with where=[...].")


def check_guidance(plan: Plan, choices: Sequence[Choice], guidance: str | Mapping[str, str]) -> None:
    """Refuse guides that would guide nothing.

    Raises:
        ValueError: for a place that is named twice, is not replaced, or whose upsampler is not guided.
    """
    guided = [choice.place.name for choice in choices if _is_guided(choice.method)]
    named = [plan.find(name).name for name in guidance] if isinstance(guidance, Mapping) else []
    for name in named:
        if named.count(name) > 1:
            raise ValueError(f"guidance names {name} more than once.")
        if name not in guided:
            where = f"it guides {', '.join(guided)}" if guided else "no upsampler here takes a guide"
            raise ValueError(f"guidance names {name}, which has no guided upsampler: {where}.")
    if not guided and guidance not in (AUTO, {}):
        raise ValueError(f"guidance={guidance!r} guides nothing: no upsampler here takes a guide.")


def _is_guided(method: str) -> bool:
    return method != SAME and UPSAMPLERS[method].guided


def guide_of(plan: Plan, choice: Choice, guidance: str | Mapping[str, str]) -> Guide | None:
    """The map that guides the upsampler at a place; None if the upsampler is not guided.

    Raises:
        ValueError: if there is no guide, or the named map is not computed before the place.
    """
    place, method = choice.place, choice.method
    if not _is_guided(method):
        return None
    image = next((guide for guide in plan.sources if guide.rank == IMAGE), None)
    asked = guidance
    if isinstance(guidance, Mapping):
        named = {plan.find(name).name: choice for name, choice in guidance.items()}
        asked = named.get(place.name, AUTO)
    if asked == IMAGE or (asked == AUTO and UPSAMPLERS[method].image_guided):
        if image is None:
            raise ValueError(f"no module takes the image itself, so it cannot guide {place.name}: name a map.")
        return image
    if asked == AUTO and choice.by_way is not None:
        return choice.by_way
    if asked == AUTO:
        if not place.guides:
            raise ValueError(f"there is no guide for {place.name}: name one with guidance={{{place.name!r}: ...}}.")
        return place.guides[0]
    return _named(plan, place, str(asked))


def _named(plan: Plan, place: Place, name: str) -> Guide:
    before, first = plan.sources[: place.before], name.removesuffix("#0")  # "relu#0" is the map of the first run
    for named in ("any_call", "name", "module") if first == name else ("name",):
        found = [guide for guide in before if getattr(guide, named) == first]
        if found:  # if a module ran several times, its last map of the output's size, else its last map
            return ([guide for guide in found if guide.size == place.call.size] or found)[-1]
    if any(name in (guide.name, guide.any_call, guide.module) for guide in plan.sources):
        raise ValueError(f"{name} is computed after {place.name}, and cannot guide it.")
    close = get_close_matches(name, [guide.name for guide in plan.sources], n=3)
    at_hand = [guide.name for guide in place.guides[:3]]
    raise ValueError(
        f"no module {name!r} gives a map in this network. Of the size of {place.name} there are {', '.join(at_hand)}"
        f"{'; similar: ' + ', '.join(close) if close else ''}."
    )


def started(place: Place, method: str, options: Mapping[str, Any], start: str | None) -> dict[str, Any]:
    """The options of a place's upsampler, including the requested start.

    Raises:
        ValueError: for "as-before" if the upsampler has no such start.
    """
    if start not in (None, AS_BEFORE, PUBLISHED):
        raise ValueError(f"start must be {AS_BEFORE!r} or {PUBLISHED!r}, got {start!r}.")
    if start == PUBLISHED or "start" in options:
        return dict(options)
    if reason := no_start(place, method):
        if start == AS_BEFORE:
            raise ValueError(f"{place.name} cannot start as before: {reason}")
        return dict(options)
    return {**options, "start": place.call.start}


def no_start(place: Place, method: str) -> str:
    """The reason why an upsampler cannot start from the old result; "" if it can."""
    if not UPSAMPLERS[method].startable:
        able = ", ".join(name for name, one in UPSAMPLERS.items() if one.startable)
        return f"{method} has no such form; {able} have."
    if place.call.kind == "interpolate" and not place.call.start:
        return f"it was {place.call.mode} interpolation, which no start gives."
    if not place.call.start:
        return f"the old layer ({place.call.kind}) is learned, and no interpolation gives its result."
    return ""
