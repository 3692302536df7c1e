"""The result of `find_upsampling`: a plan, which is a list of places with their possible guides."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from resfu.upgrading.calls import Call

Site = tuple[tuple[int | None, ...], ...]
Spot = tuple[tuple[str, ...], Site, bool]  # chain, site and checkpointed of a call, see `Place`
# Reasons why a place is left alone unless it is named, and the reasons why it cannot be replaced at all.
LOGITS, POSITION, MASK, IMAGE = "logits to the image", "position embedding", "mask", "the image itself"
POOLED, SAME_SIZE, LEARNED = "of one pixel", "to its own size", "learned by itself"
UNUSED = "not used in this pass"
SMALLER, NOT_2D, WEIGHTS = "to a smaller size", "not two-dimensional", "weights of its owner"
IMPOSSIBLE = frozenset({SMALLER, NOT_2D, WEIGHTS, POSITION})


@dataclass(frozen=True)
class Guide:
    """A map that the network computes before it upsamples, and which can guide the upsampler.

    Attributes:
        module: path of the module that computes it; "" is the network itself.
        port: "output" or "input" of the module.
        keys: the keys that lead to the map in a list, tuple or dictionary.
        channels: number of channels.
        size: (H, W).
        rank: "skip" (it is later combined with the upsampled map), "map" or "image".
        call: which run of the module in a pass, from 0; None (in files of version 0.2) is the last one.
    """

    module: str
    port: str
    keys: tuple[Any, ...]
    channels: int
    size: tuple[int, ...]
    rank: str = "map"
    call: int | None = None

    @property
    def name(self) -> str:
        """The name for the argument `guidance` of `resfu.upgrade`."""
        if self.rank == "image":
            return "image"
        return self.any_call + (f"#{self.call}" if self.call else "")

    @property
    def any_call(self) -> str:
        """The name without the run of the module."""
        return self.module + "".join(f"[{key}]" for key in self.keys) + (":input" if self.port == "input" else "")

    def to_json(self) -> dict[str, Any]:
        """Convert to a dictionary."""
        return {**self.__dict__, "keys": list(self.keys), "size": list(self.size)}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Guide":
        """Read the dictionary of `to_json`."""
        return Guide(**{**content, "keys": tuple(content["keys"]), "size": tuple(content["size"])})


@dataclass
class Place:
    """One call that changes the resolution of a map.

    Attributes:
        owner: path of the module in whose forward the call runs.
        number: number of the call among those of its owner in one forward pass, from 0.
        call: description of the call.
        left_alone: why `resfu.upgrade` does not replace the call unless it is named; "" if it does.
        guides: maps of the output's size that are computed before the call, the best first; the image last.
        milliseconds: time of the call.
        share: share of the call in the time of the forward pass.
        chain: names of the functions from the owner's forward to the call.
        site: lines and columns of the calls in these functions.
        checkpointed: whether a checkpoint (or PyTorch's compiler) calls one of these functions.
        before: how many of the plan's sources are computed before the call.
        by_way: for logits: the encoder's largest map below the image's size, if there is one. If a network does not
            interpolate features, its logits are upsampled to this size, and from there to the image as before.
    """

    owner: str
    number: int
    call: Call
    left_alone: str = ""
    guides: list[Guide] = field(default_factory=list)
    milliseconds: float = 0.0
    share: float = 0.0
    chain: tuple[str, ...] = ()
    site: Site = ()
    checkpointed: bool = False
    before: int = 0
    by_way: Guide | None = None

    @property
    def name(self) -> str:
        """Owner and number, the name of the place for `resfu.upgrade`."""
        return f"{self.owner}#{self.number}"

    @property
    def spot(self) -> Spot:
        """Where the call stands in the code."""
        return self.chain, self.site, self.checkpointed

    @property
    def call_by_way(self) -> Call:
        """The part of the call that an upsampler replaces: up to the size of `by_way`, if there is one."""
        return self.call if self.by_way is None else replace(self.call, size=self.by_way.size)


class Plan(list[Place]):
    """The places of a network in the order in which they run. Printed, it is a table.

    Attributes:
        passing: milliseconds of the measured forward pass.
        sources: every map that a module returns in the pass, at any size, in order, and the image.
        logits: the place that upsamples logits to the first of the network's outputs; None if there is none.
    """

    def __init__(
        self,
        places: Iterable[Place] = (),
        passing: float = 0.0,
        sources: Iterable[Guide] = (),
        logits: Place | None = None,
    ) -> None:
        super().__init__(places)
        self.passing = passing
        self.sources = list(sources)
        self.logits = logits

    @property
    def replaced(self) -> list[Place]:
        """The places that `resfu.upgrade` replaces when none is named: those where features are interpolated.

        In a network that only upsamples its logits, it is the place of the logits.
        """
        features = [place for place in self if not place.left_alone]
        if features or self.logits is None or any(place.left_alone == LEARNED for place in self):
            return features
        return [self.logits]

    @property
    def logits_alone(self) -> bool:
        """Whether `resfu.upgrade` replaces the upsampling of the logits when no place is named."""
        return self.logits is not None and self.replaced == [self.logits]

    def fitting(self, upsampler: str) -> list[str]:
        """The names of the places in `replaced` whose ratio this upsampler takes."""
        from resfu.upgrading.building import refusal

        return [place.name for place in self.replaced if not refusal(upsampler, place.call_by_way)]

    def find(self, name: str) -> Place:
        """The place with this name; "path#n" can also mean the n-th place inside the module "path".

        Raises:
            ValueError: if there is none; the message lists all places.
        """
        path, mark, number = name.rpartition("#")
        if not mark or not number.isdigit():
            path, number = name, "0"
        exact = [place for place in self if place.owner == path and place.number == int(number)]
        inside = [place for place in self if not path or f"{place.owner}.".startswith(f"{path}.")]
        found = exact or inside[int(number) : int(number) + 1]
        if not found:
            raise ValueError(
                f"there is no place {name!r}; there are {', '.join(place.name for place in self) or 'none'}."
            )
        return found[0]

    def __str__(self) -> str:
        if not len(self):
            return f"this network upsamples nothing; the forward pass takes {self.passing:.1f} ms"
        head = ("place", "what", "from", "to", "ratio", "width", "ms", "share", "replaced", "guides")
        rows = [head, *(_row(places, places[0] in self.replaced) for places in self._repeated())]
        widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, f"{len(self)} places; the forward pass takes {self.passing:.1f} ms"])

    __repr__ = __str__

    def _repeated(self) -> list[list[Place]]:
        """The places; those that are left alone and that one line of code makes in a loop are together."""
        found: list[list[Place]] = []
        for place in self:
            last = found[-1][-1] if found else None
            if last and place.left_alone and last.left_alone and _origin(place) == _origin(last):
                found[-1].append(place)
            else:
                found.append([place])
        return found


def _origin(place: Place) -> tuple[Any, ...]:
    return place.owner, place.chain, place.site, place.call.mode


def _row(places: list[Place], is_replaced: bool) -> tuple[str, ...]:
    """The cells of a place, or of several in one row."""
    place, call = places[0], places[0].call
    name = place.name + (f" to #{places[-1].number}" if len(places) > 1 else "")
    what = call.kind if call.kind != "interpolate" else call.mode + (", corners" if call.align_corners else "")
    width = str(call.channels) if call.channels == call.out_channels else f"{call.channels} to {call.out_channels}"
    more = f" and {len(place.guides) - 2} more" if len(place.guides) > 2 else ""
    guides = ", ".join(f"{guide.name} ({guide.channels})" for guide in place.guides[:2]) + more
    low, size = (_one([" x ".join(map(str, n)) for n in each]) for each in zip(*_sizes(places), strict=True))
    ratio = _one(["/".join(sorted({f"{n:.4g}" for n in p.call.ratio}, key=float)) for p in places])
    times = f"{sum(p.milliseconds for p in places):.2f}", f"{100 * sum(p.share for p in places):.1f} %"
    replaced = "yes" if is_replaced else "no: " + " or ".join(dict.fromkeys(p.left_alone for p in places))
    if is_replaced and place.left_alone:
        replaced += f": {place.left_alone}" + (f" by way of {place.by_way.name}" if place.by_way else "")
    return name, what, low, size, ratio, width, *times, replaced, guides


def _sizes(places: list[Place]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(place.call.low, place.call.size) for place in places]


def _one(cells: list[str]) -> str:
    return cells[0] if len(set(cells)) == 1 else "various"
