"""The report of `find_upsampling`: places, their guides, and the plan that lists them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from resfu.upgrading.calls import Call

# Reasons to leave a place alone unless it is named, and reasons why it cannot be replaced at all.
LOGITS, POSITION, MASK, IMAGE = "logits to the image", "position embedding", "mask", "the image itself"
POOLED, SAME_SIZE, LEARNED = "of one pixel", "to its own size", "learned by itself"
UNUSED = "not used in this pass"
SMALLER, NOT_2D, WEIGHTS = "to a smaller size", "not two-dimensional", "weights of its owner"
IMPOSSIBLE = frozenset({SMALLER, NOT_2D, WEIGHTS, POSITION})


@dataclass(frozen=True)
class Guide:
    """A map that the network has computed before it upsamples.

    Attributes:
        module: path of the module; "" is the network.
        port: "output" or "input".
        keys: which item of a list, tuple or dictionary.
        channels: its width.
        size: (H, W).
        rank: "skip" (it meets the upsampled map), "map" or "image".
    """

    module: str
    port: str
    keys: tuple[Any, ...]
    channels: int
    size: tuple[int, ...]
    rank: str = "map"

    @property
    def name(self) -> str:
        """The name for the argument `guidance` of `resfu.upgrade`."""
        if self.rank == "image":
            return "image"
        return self.module + "".join(f"[{key}]" for key in self.keys) + (":input" if self.port == "input" else "")

    def to_json(self) -> dict[str, Any]:
        """As a dictionary."""
        return {**self.__dict__, "keys": list(self.keys), "size": list(self.size)}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Guide":
        """From what `to_json` gave."""
        return Guide(**{**content, "keys": tuple(content["keys"]), "size": tuple(content["size"])})


@dataclass
class Place:
    """One call that changes the resolution of a map.

    Attributes:
        owner: path of the module that makes the call in its forward.
        number: of the call among this owner's calls in one forward pass, from 0.
        call: its description.
        left_alone: why `resfu.upgrade` does not replace it unless it is named; "" if it is replaced.
        guides: earlier maps of the output's size, the best first; the image last.
        milliseconds: of this call in the measured pass.
        share: of the forward pass.
        chain: names of the functions from the owner's forward to the call.
        before: number of the plan's sources before it.
    """

    owner: str
    number: int
    call: Call
    left_alone: str = ""
    guides: list[Guide] = field(default_factory=list)
    milliseconds: float = 0.0
    share: float = 0.0
    chain: tuple[str, ...] = ()
    before: int = 0

    @property
    def name(self) -> str:
        """Owner and number, the name for `resfu.upgrade`."""
        return f"{self.owner}#{self.number}"


class Plan(list[Place]):
    """The places of a network in the order in which they run. Printed, it is a table.

    Attributes:
        passing: milliseconds of the measured forward pass.
        sources: every map that is an input or output of a module in the pass, at any size, in order.
    """

    def __init__(self, places: Iterable[Place] = (), passing: float = 0.0, sources: Iterable[Guide] = ()) -> None:
        super().__init__(places)
        self.passing = passing
        self.sources = list(sources)

    @property
    def replaced(self) -> list[Place]:
        """The places that `resfu.upgrade` replaces by default."""
        return [place for place in self if not place.left_alone]

    def fitting(self, upsampler: str) -> list[str]:
        """Names of the places in `replaced` with a ratio that this upsampler supports."""
        from resfu.upgrading.building import refusal

        return [place.name for place in self.replaced if not refusal(upsampler, place.call)]

    def find(self, name: str) -> Place:
        """The place of this name; "path#n" is also the n-th place inside the module "path".

        Raises:
            ValueError: listing the known places.
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
        head = ("place", "what", "from", "to", "ratio", "width", "ms", "share", "replaced", "guides")
        rows = [head, *(_row(place) for place in self)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, f"{len(self)} places; the forward pass takes {self.passing:.1f} ms"])

    __repr__ = __str__


def _row(place: Place) -> tuple[str, ...]:
    call = place.call
    what = call.kind if call.kind != "interpolate" else call.mode + (", corners" if call.align_corners else "")
    ratios = sorted({f"{ratio:.4g}" for ratio in call.ratio}, key=float)
    width = str(call.channels) if call.channels == call.out_channels else f"{call.channels} to {call.out_channels}"
    more = f" and {len(place.guides) - 2} more" if len(place.guides) > 2 else ""
    guides = ", ".join(f"{guide.name} ({guide.channels})" for guide in place.guides[:2]) + more
    sizes = (" x ".join(map(str, size)) for size in (call.low, call.size))
    times = f"{place.milliseconds:.2f}", f"{100 * place.share:.1f} %"
    replaced = f"no: {place.left_alone}" if place.left_alone else "yes"
    return place.name, what, *sizes, "/".join(ratios), width, *times, replaced, guides
