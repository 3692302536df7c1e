"""The program of `torch.export` from which every runtime's file is made, and its dynamic sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from resfu.ops.portable import portable_form

_AXES = (0, 2, 3)  # batch, height, width
_WIDE = 24  # rows and columns from which no intermediate size of a step is 1
_LARGEST = 512  # rows or columns up to which the traced example may be enlarged, since it is also run


class Shapes:
    """The sizes of the inputs: the given sizes, which of them are dynamic, and other sizes for the tests.

    Args:
        inputs: maps [B, C, H, W].
        dynamic: as in `export`.
        times: with dynamic sizes, the traced example is enlarged by this factor (by more if it is tiny), as long as no
            side exceeds 512. Some compilers treat a number as a constant if it is 1 in the example, such as the number
            of tiles in a short row.

    Attributes:
        inputs: the traced example. With a dynamic batch it has at least two images, because `torch.export` treats the
            size 1 as a constant.
        dynamic: whether any size is dynamic.
        ratios: for each input after the first, its (rows, columns) divided by those of the first. None where this is
            not a whole number, or is dynamic too.
    """

    def __init__(self, inputs: tuple[Tensor, ...], dynamic: bool | str, times: int = 1) -> None:
        self.dynamic, self._given = bool(dynamic), inputs
        single = self.dynamic and inputs[0].shape[0] == 1
        self.inputs = tuple(torch.cat([x, x]) for x in inputs) if single else inputs
        if times > 1:
            times = max(times, -(-_WIDE // max(1, min(inputs[0].shape[2:]))))
            times = min(times, _LARGEST // max(1, *(n for x in inputs for n in x.shape[2:])))
        self._enlarged = self.dynamic and times > 1
        if self._enlarged:
            self.inputs = tuple(x.repeat(1, 1, times, times) for x in self.inputs)
        self.ratios = [
            tuple(
                _whole(a, b) if dynamic is True else None for a, b in zip(x.shape[2:], inputs[0].shape[2:], strict=True)
            )
            for x in inputs[1:]
        ]

    def specification(self) -> tuple[tuple[dict[int, object], ...]] | None:
        """The dynamic shapes for `torch.export`."""
        return (tuple(dict.fromkeys(_AXES, Dim.AUTO) for _ in self.inputs),) if self.dynamic else None

    def examples(self) -> Iterator[tuple[Tensor, ...]]:
        """The given inputs; with dynamic sizes also random ones of another batch and odd sizes, then enlarged ones."""
        yield self._given
        if not self.dynamic:
            return
        first = self._given[0].shape
        low = [n + 2 - n % 2 - 1 if n > 4 else n + 1 for n in first[2:]]
        low = [n + (2 if n == old else 0) for n, old in zip(low, first[2:], strict=True)]
        low[1] += 2 * (low[0] == low[1])  # not a square, because a program must not rely on that
        yield self._random(low)
        if self._enlarged:
            yield self.inputs

    def multiple(self) -> tuple[Tensor, ...]:
        """Random inputs twice as high and three times as wide, for networks that only take multiples of a stride."""
        return self._random([n * times for n, times in zip(self._given[0].shape[2:], (2, 3), strict=True)])

    def _random(self, low: list[int]) -> tuple[Tensor, ...]:
        """Random inputs of another batch size, of which the first has the (height, width) `low`."""
        generator, first = torch.Generator().manual_seed(0), self._given[0].shape
        sizes = [low]
        for x, ratios in zip(self._given[1:], self.ratios, strict=True):
            grown = [old * n // n0 for old, n, n0 in zip(x.shape[2:], low, first[2:], strict=True)]
            sizes.append([g if r is None else r * n for g, r, n in zip(grown, ratios, low, strict=True)])
        return tuple(
            torch.randn(first[0] + 1, x.shape[1], *size, generator=generator).to(x.dtype)
            for x, size in zip(self._given, sizes, strict=True)
        )


class _Related(nn.Module):
    """A module that declares the relations between the sizes of its inputs."""

    def __init__(self, module: nn.Module, shapes: Shapes, largest: int | None) -> None:
        super().__init__()
        self.module, self._ratios = module, shapes.ratios
        largest_shapes = [largest and [largest * n for n in x.shape] for x in shapes.inputs]
        self._largest: list[Any] = largest_shapes if shapes.dynamic else []

    def forward(self, *inputs: Tensor) -> Tensor:
        first = inputs[0]
        for x, most in zip(inputs, self._largest, strict=False):
            for axis in _AXES if most else ():
                torch._check(x.shape[axis] <= most[axis])
        for x, ratios in zip(inputs[1:], self._ratios, strict=True):
            torch._check(x.shape[0] == first.shape[0])
            for axis, ratio in zip((2, 3), ratios, strict=True):
                if ratio is not None:
                    torch._check(x.shape[axis] == ratio * first.shape[axis])
        return self.module(*inputs)


def program_of(module: nn.Module, shapes: Shapes, largest: int | None = None) -> ExportedProgram:
    """Export a module to a program of standard operators.

    Args:
        module: in evaluation mode.
        shapes: of its inputs.
        largest: how many times larger than the example dynamic sizes may become, for runtimes that plan their memory.

    Raises:
        ValueError: if the module cannot be exported with dynamic sizes.
    """
    related = _Related(module, shapes, largest).eval()
    with portable_form(), _without_solving(), torch.no_grad():
        try:
            program = torch.export.export(related, shapes.inputs, dynamic_shapes=shapes.specification(), strict=False)
        except ValueError:
            raise
        except Exception as error:  # PyTorch raises many classes of errors here
            if not shapes.dynamic:
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"PyTorch can't export {type(module).__name__} with open sizes ({reason}): use dynamic=False."
            ) from error
    own = {
        str(node.target) for node in program.graph.nodes if "resfu" in str(node.target) and node.op == "call_function"
    }
    if own:
        raise ValueError(
            f"{type(module).__name__} keeps operators of this package, {', '.join(own)}: set backend='auto'."
        )
    if shapes.dynamic:
        _check_open(program, shapes)
    return program


@contextmanager
def _without_solving() -> Iterator[None]:
    """Keep PyTorch from solving its assumptions about the sizes for one size after another.

    The solutions would only be suggestions in messages. Finding them fails (in 2.14) for equations that hold for all
    sizes, such as that of a map padded to a multiple of 8 and its eighth.
    """
    from torch.fx.experimental.symbolic_shapes import DimConstraints

    before = DimConstraints.solve
    DimConstraints.solve = lambda self: None
    try:
        yield
    finally:
        DimConstraints.solve = before


def _check_open(program: ExportedProgram, shapes: Shapes) -> None:
    """Refuse a program in which a dynamic size became a constant: it would be wrong for other sizes."""
    names = program.graph_signature.user_inputs
    maps = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    for n, x in enumerate(maps):
        fixed = [
            name
            for axis, name in zip(_AXES, ("batch", "height", "width"), strict=True)
            if isinstance(x.shape[axis], int)
        ]
        if fixed:
            raise ValueError(
                f"input {n} has a fixed {' and '.join(fixed)} in this module, for {list(shapes.inputs[n].shape)}: use "
                "dynamic=False, or an example of sizes that differ from one another."
            )


def _whole(a: int, b: int) -> int | None:
    return a // b if a % b == 0 else None
