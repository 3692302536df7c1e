"""The places in a module's forward at run time: identify each call, and run its replacement."""

import sys
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

from torch import Tensor, nn

from resfu.ops.compiling import in_torch_compile
from resfu.ops.portable import known
from resfu.ops.precision import is_autocast
from resfu.upgrading.building import Replacement
from resfu.upgrading.calls import INTERPOLATIONS, SHUFFLES, Call, asked_mode, input_of
from resfu.upgrading.passing import Pass
from resfu.upgrading.places import Spot
from resfu.upgrading.recording import frames_inside, spot_of
from resfu.upsamplers.starts import PUBLISHED, interpolated

_CHANGED = 1.5  # a ratio that differs by more than this factor belongs to another place
_POOLED = 6  # maps of pooling pyramids have at most this many rows and columns, whatever the image's size


class Owner:
    """The places of one module.

    Args:
        path: path of the module.
        state: state of the pass.
        chains: the chains of its calls, see `Place.chain`.
        calls: all resampling calls of the module in a pass, in order, including those that are left alone.
        replacements: the modules that run instead, by the number of the call.
        guides: the name of the guide, by the number of the call.
        middles: the name of the map that gives the upsampler's intermediate size, by the number of the call.
        in_training: in training mode, the numbers of the calls in their order there, with None for calls that the
            pass in evaluation mode does not have; None if this is not known.

    Attributes:
        spots: where in the code the calls of a pass stand, by whether the network is in training mode; empty if this is
            not known.
    """

    def __init__(
        self,
        path: str,
        state: Pass,
        chains: list[tuple[str, ...]],
        calls: list[Call],
        replacements: dict[int, Replacement],
        guides: dict[int, str],
        middles: dict[int, str],
        in_training: list[int | None] | None,
    ) -> None:
        self.in_training = in_training
        self.spots: dict[bool, Spots] = {}
        self.path, self.state, self.chains, self.calls = path, state, chains, calls
        self.replacements, self.guides, self.middles = replacements, guides, middles

    def redirect(self, function: Any) -> "Redirected | None":
        """The object that replaces a PyTorch function in the module's code, or None."""
        return Redirected(self, function) if function in (*INTERPOLATIONS, *SHUFFLES) else None

    def resample(self, function: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        """Run one resampling call of the module's code, or its replacement."""
        number = self.next()
        x = input_of(args, kwargs)
        if number is None or number not in self.replacements:
            return function(*args, **kwargs)
        name, call = f"{self.path}#{number}", self.calls[number]
        mode = asked_mode(function, args, kwargs)[0] if function in INTERPOLATIONS else ""
        size = _size(x, args, kwargs) if function in INTERPOLATIONS else _shuffled(x, args, kwargs)
        if size[0] < x.shape[-2] or size[1] < x.shape[-1]:
            return function(*args, **kwargs)
        self._check(name, call, x, size, mode)
        out = self.replace(number, x, size)
        start = getattr(self.replacements[number].upsampler, "start", PUBLISHED)
        if start != PUBLISHED and function in INTERPOLATIONS and _keeps_its_scale(x, size, args, kwargs):
            out = out + (function(*args, **kwargs) - interpolated(x, size, start))
        return out

    def next(self) -> int | None:
        """The number of the current call; None for a call that no pass in evaluation mode has made.

        In Python the spot in the code tells, so that a call may run in one pass and not in another. In a graph the
        order tells, and every pass has the same calls.
        """
        state = self.state
        spots = self.spots.get(state.training) if state.is_open and not in_torch_compile() else None
        if spots is not None:
            spot, numbers = spots.of(sys._getframe(1))
            if numbers is None:
                number = self._counted()
            else:
                stay = not any(n in self.replacements for n in numbers)
                number = state.next_at(self.path, spot, numbers, any_length=stay)
            state.take(self.path, number, len(self.calls))
        else:
            number = self._counted()
        if state.visited is not None:
            state.visited.add(f"{self.path}#{number}")
        return number

    def _counted(self) -> int | None:
        state, known = self.state, self.in_training is not None
        order = self.in_training if state.training and self.in_training is not None else range(len(self.calls))
        calls = len(order) if state.is_open else max(len(self.calls), len(self.in_training or ()))
        return order[state.next(self.path, calls, known or not state.training)]

    def replace(self, number: int, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Run the upsampler that replaces the call with this number, in its own dtype; the result has x's dtype."""
        module, name = self.replacements[number], f"{self.path}#{number}"
        self.state.check_trainable(name, module)
        guide = self.state.guide(self.guides[number], name, x.device) if number in self.guides else None
        features, dtype = x, next((p.dtype for p in module.parameters() if p.is_floating_point()), x.dtype)
        if not is_autocast(x):  # networks may convert maps between layers
            features = x.to(dtype)
            guide = guide if guide is None else guide.to(dtype)
        middle: tuple = ()
        if number in self.middles:
            by_way = self.state.guide(self.middles[number], name, x.device)
            middle = ((by_way.shape[-2], by_way.shape[-1]),)
        return module(features, guide, size, *middle).to(x.dtype)

    def _check(self, name: str, call: Call, x: Tensor, size: tuple[int, int], mode: str) -> None:
        if x.dim() != 4 or x.shape[1] != call.channels or mode != call.mode:
            raise ValueError(
                f"{name} was {call.mode or call.kind} of {call.channels} channels when resfu.upgrade saw it, and now "
                f"is {mode or 'one'} of {list(x.shape)}: its places change from pass to pass. Leave it out "
                "(where=[...])."
            )
        # Compared last, because with the comparison torch.export would fix the size of its example.
        pooled = max(call.low) <= _POOLED and all(_equal(n, m) for n, m in zip(x.shape[-2:], call.low, strict=True))
        if len(self.calls) > 1 and not pooled:
            ratio = size[0] / x.shape[-2] / call.ratio[0]
            if not 1 / _CHANGED < ratio < _CHANGED:
                raise ValueError(
                    f"{name} had the ratio {call.ratio[0]:g} when resfu.upgrade saw it, and now goes from "
                    f"{tuple(x.shape[-2:])} to {tuple(size)}: the order of its places changes from pass to pass. "
                    "Upgrade it with inputs of this kind, or leave it out (where=[...])."
                )


class Spots:
    """Where in the code the resampling calls of a module stand, in passes of one mode.

    Args:
        spots: of the calls of one pass, in order.
        numbers: of these calls; None for a call that has no place.
        others: of passes of the other mode, for calls that a pass of this mode may have too.
    """

    def __init__(self, spots: Sequence[Spot], numbers: Sequence[int | None], others: "Spots | None" = None) -> None:
        self.found: dict[Spot, list[int | None]] = {}
        for spot, number in zip(spots, numbers, strict=True):
            self.found.setdefault(spot, []).append(number)
        self.found = {**(others.found if others else {}), **self.found}
        self._chains = {chain for chain, _, _ in self.found}
        self._ends: dict[Any, set[bool]] = {}
        for chain, site, checkpointed in self.found:
            self._ends.setdefault((chain, site[-1:]), set()).add(checkpointed)
        self._met: dict[Any, tuple[list[CodeType], Spot, list[int | None] | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Copies begin without what was met, because code cannot be pickled."""
        return {**self.__dict__, "_met": {}}

    def of(self, frame: FrameType) -> tuple[Spot, list[int | None] | None]:
        """The spot of the call that a frame makes, and the numbers of the calls from there.

        These are none for a new call, and None where only the order of the calls can tell.
        """
        way = list(frames_inside(frame))
        key = tuple((id(each.f_code), each.f_lasti) for each in way)
        if key not in self._met:  # from each place in the code, only the first call is looked up
            spot = spot_of(frame)
            self._met[key] = [each.f_code for each in way], spot, self._numbers(spot)
        return self._met[key][1:]

    def _numbers(self, spot: Spot) -> list[int | None] | None:
        """See `of`.

        A call is new if its function was seen, but not this line of it. But a function that is now called directly and
        was seen in a checkpoint, or the other way round, makes the same calls from elsewhere in the forward.
        """
        chain, site, checkpointed = spot
        if spot in self.found:
            return self.found[spot]
        seen = self._ends.get((chain, site[-1:]), set())  # whether its last line was seen in a checkpoint, or not
        return None if chain not in self._chains or seen - {checkpointed} else []


def _equal(n: Any, m: int) -> bool:
    """Whether n == m, for a size n that is a symbol in torch.export and a tensor in torch.jit.trace."""
    same = n == m
    return bool(same) if isinstance(same, Tensor) else known(same)


class Redirected:
    """Replaces a PyTorch function in the code of one module."""

    def __init__(self, owner: Owner, function: Any) -> None:
        self.owner, self.function = owner, function

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the call's replacement."""
        return self.owner.resample(self.function, args, kwargs)


def _size(x: Tensor, args: tuple, kwargs: dict[str, Any]) -> tuple[int, int]:
    """(H, W) requested from an interpolation."""
    size: Any = kwargs.get("size", args[1] if len(args) > 1 else None)
    if size is not None:
        return (size[0], size[1]) if isinstance(size, tuple | list) else (size, size)
    scale: Any = kwargs.get("scale_factor", args[2] if len(args) > 2 else None)
    scales = scale if isinstance(scale, tuple | list) else (scale, scale)
    return _scaled(x.shape[-2], scales[0]), _scaled(x.shape[-1], scales[1])


def _keeps_its_scale(x: Tensor, size: tuple[int, int], args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether an interpolation uses a scale_factor that differs from the ratio of the sizes, because of rounding."""
    scale: Any = kwargs.get("scale_factor", args[2] if len(args) > 2 else None)
    recomputed = kwargs.get("recompute_scale_factor", args[5] if len(args) > 5 else None)
    if scale is None or recomputed:
        return False
    scales = scale if isinstance(scale, tuple | list) else (scale, scale)
    pairs = zip(x.shape[-2:], scales, size, strict=True)
    return any(each != int(each) and n * each != P for n, each, P in pairs)


def _scaled(n: int, scale: float) -> int:
    # Exporters keep a dynamic size dynamic in a product with an integer.
    return n * int(scale) if scale == int(scale) else int(n * scale)


def _shuffled(x: Tensor, args: tuple, kwargs: dict[str, Any]) -> tuple[int, int]:
    ratio = kwargs.get("upscale_factor", args[1] if len(args) > 1 else 1)
    return x.shape[-2] * ratio, x.shape[-1] * ratio


class Transposed(nn.Module):
    """Replaces an `nn.ConvTranspose2d` by an upsampler and a 1 x 1 convolution.

    Args:
        owner: the places of the transposed convolution.
        like: the transposed convolution; the output sizes stay the same.
        replacements: the owner's modules, which are registered here.
    """

    def __init__(self, owner: Owner, like: nn.ConvTranspose2d, replacements: nn.ModuleDict) -> None:
        super().__init__()
        self.owner, self.resfu = owner, replacements
        self.in_channels, self.out_channels = like.in_channels, like.out_channels
        self.axes = [
            (like.stride[n], int(like.padding[n]), like.dilation[n] * (like.kernel_size[n] - 1), like.output_padding[n])
            for n in range(2)
        ]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[B, C, h, w] -> [B, C', H, W], with the output size of the transposed convolution."""
        number = self.owner.next()
        if number is None:
            raise ValueError(
                f"{self.owner.path} runs more often in training mode than in evaluation mode, and it has been "
                "replaced: leave it out (where=[...])."
            )
        size = output_size[-2:] if output_size is not None else self._sizes(input)
        return self.owner.replace(number, input, (size[0], size[1]))

    def _sizes(self, x: Tensor) -> list[int]:
        return [
            (n - 1) * stride - 2 * padding + reach + more + 1
            for n, (stride, padding, reach, more) in zip(x.shape[-2:], self.axes, strict=True)
        ]
