"""The result of `find_upsampling`: a plan, which is a list of places with their possible guides."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from resfu.upgrading.calls import Call

Site = tuple[tuple[int | None, ...], ...]
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
    before: int = 0
    by_way: Guide | None = None

    @property
    def name(self) -> str:
        """Owner and number, the name of the place for `resfu.upgrade`."""
        return f"{self.owner}#{self.number}"

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
        rows = [head, *(_row(place, place in self.replaced) for place in self)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, f"{len(self)} places; the forward pass takes {self.passing:.1f} ms"])

    __repr__ = __str__


def _row(place: Place, is_replaced: bool) -> tuple[str, ...]:
    call = place.call
    what = call.kind if call.kind != "interpolate" else call.mode + (", corners" if call.align_corners else "")
    ratios = sorted({f"{ratio:.4g}" for ratio in call.ratio}, key=float)
    width = str(call.channels) if call.channels == call.out_channels else f"{call.channels} to {call.out_channels}"
    more = f" and {len(place.guides) - 2} more" if len(place.guides) > 2 else ""
    guides = ", ".join(f"{guide.name} ({guide.channels})" for guide in place.guides[:2]) + more
    sizes = (" x ".join(map(str, size)) for size in (call.low, call.size))
    times = f"{place.milliseconds:.2f}", f"{100 * place.share:.1f} %"
    replaced = "yes" if is_replaced else f"no: {place.left_alone}"
    if is_replaced and place.left_alone:
        replaced += f": {place.left_alone}" + (f" by way of {place.by_way.name}" if place.by_way else "")
    return place.name, what, *sizes, "/".join(ratios), width, *times, replaced, guides
