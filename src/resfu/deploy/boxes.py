"""Split an output into boxes that fit a memory budget."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from resfu.deploy.linear import Taps

Box = tuple[tuple[int, int], ...]
_ENOUGH = 64 * 2**20  # bytes; larger boxes do not fit into the cache and are not faster
_BOXES = 4  # number of boxes for each worker
_WORTH = 12 * 2**20  # bytes; smaller boxes are not worth a thread
_PLANES = 8  # least number of planes of the first axis; with fewer, neighbouring boxes repeat too much work


def boxes_within(
    size: Sequence[int],
    taps: Sequence[Taps],
    needed: Callable[[list[int], list[int]], float],
    budget: float,
    workers: int = 1,
) -> Iterator[Box]:
    """Split an output into boxes, in the order of its rows.

    Args:
        size: of the output.
        taps: the taps of each axis.
        needed: function of (pixels of the output, positions read) along each axis that gives the bytes of a box.
        budget: bytes.
        workers: number of workers that process one box each at the same time.

    Yields:
        Boxes, as spans (first, one past the last) along each axis.

    Raises:
        ValueError: if even the smallest box does not fit; the message says how much memory it needs.
    """
    length = list(size)

    def bytes_of() -> float:
        reads = [_most_read(tap, count) for tap, count in zip(taps, length, strict=True)]
        return needed(length, reads)

    wanted = min(budget / workers, _ENOUGH, max(bytes_of() / (_BOXES * workers), _WORTH) if workers > 1 else _ENOUGH)
    while bytes_of() > wanted:
        wide = [axis for axis in range(len(size)) if length[axis] > 1]
        if not wide:
            break
        first = wide[0] == 0 and (_most_read(taps[0], length[0]) > _PLANES or wide == [0])
        axis = 0 if first else next((a for a in wide if a > 0), 0)
        length[axis] = -(-length[axis] // 2)
    if (least := bytes_of() * workers) > budget:
        on = f" on {workers} threads" if workers > 1 else ""
        raise ValueError(
            f"budget must be at least {least / 2**20:.1f} MB for these logits{on}, got {budget:.0f} bytes."
        )
    spans = [
        [(first, min(first + step, P)) for first in range(0, P, step)] for P, step in zip(size, length, strict=True)
    ]
    yield from product(*spans)


def _most_read(taps: Taps, count: int) -> int:
    """The largest number of positions that `count` consecutive pixels read."""
    P = len(taps.low)
    spans = (taps.part(first, min(first + count, P)).span() for first in range(0, P, count))
    return max(last - first for first, last in spans)
