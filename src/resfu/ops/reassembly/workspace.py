"""Memory that is allocated once and used again."""

from math import prod

from torch import Tensor


class Workspace:
    """Memory for intermediate results, shared by all tiles: a new page costs more time than the arithmetic on it."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._rooms: dict[str, Tensor] = {}

    def take(self, name: str, size: tuple[int, ...]) -> Tensor:
        """A tensor with undefined content, valid until the same name is taken again."""
        count, room = prod(size), self._rooms.get(name)
        if room is None or room.numel() < count:
            room = self._rooms[name] = self._like.new_empty(count)
        return room[:count].view(size)

    def take_like(self, name: str, x: Tensor, dim: int, length: int) -> Tensor:
        """As `take`, with the shape of x except for one axis, and with its axes in the same order in memory."""
        order = by_stride(x)
        size = tuple(length if d == dim else x.shape[d] for d in order)
        return self.take(name, size).permute([order.index(d) for d in range(x.dim())])

    def copy(self, name: str, x: Tensor) -> Tensor:
        """A contiguous copy of x, valid until the same name is taken again."""
        return self.take(name, tuple(x.shape)).copy_(x)


def by_stride(x: Tensor) -> list[int]:
    """The axes in the order in which they lie in memory, the outermost first."""
    return sorted(range(x.dim()), key=x.stride, reverse=True)
