"""The state of one forward pass of an upgraded network: the calls so far and the guides."""

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resfu.ops.compiling import in_torch_compile


class Pass(threading.local):
    """The state of the current pass, shared by all parts of one network; empty between passes.

    Every thread that calls the network has a pass of its own.

    Attributes:
        guides: captured maps, by the guide's name.
        training: whether the network of the running pass is in training mode.
        visited: names of the places that ran; None if they are not recorded.
    """

    def __init__(self) -> None:
        self.guides: dict[str, Tensor] = {}
        self.visited: set[str] | None = None
        self._counts: dict[str, int] = {}
        self._expected: dict[str, int] = {}  # number of calls of an owner in a whole pass, if it is known
        self._at: dict[tuple[str, Any], int] = {}  # number of calls of an owner from one spot in the code
        self._repeats: dict[tuple[str, Any], int] = {}  # the number of these calls in the passes that were seen
        self._taken: set[tuple[str, int]] = set()  # the calls that ran
        self._heard: dict[str, int] = {}  # number of runs of the guides' modules
        self.training = False
        self.is_open = False
        self._gradients = False

    def __reduce__(self) -> tuple[type["Pass"], tuple]:
        """Copies of the network begin with an empty state."""
        return Pass, ()

    def open(self, training: bool) -> bool:
        """Start a pass; return False if one is running already, as in a network that calls itself."""
        if self.is_open:
            return False
        self.is_open, self._gradients, self.training = True, torch.is_grad_enabled(), training
        return True

    def check_complete(self) -> None:
        """Called at the end of a pass.

        Raises:
            ValueError: if a module had fewer calls than were found, so that a call may have had another's upsampler.
        """
        counted = [(owner, self._counts[owner], expected) for owner, expected in self._expected.items()]
        repeated = [(spot[0], self._at[spot], expected) for spot, expected in self._repeats.items()]
        for owner, count, expected in counted + repeated:
            if count < expected:
                raise ValueError(
                    f"{owner or 'the network'} resampled {count} of the {expected} maps that "
                    "resfu.upgrade saw, so that which upsampler belongs to which is not known. Upgrade it with inputs "
                    "that take this way, or leave it out (where=[...])."
                )

    def close(self) -> None:
        """End the pass and release the guides."""
        self.is_open = self.training = False
        for counts in (self._counts, self._expected, self._at, self._repeats, self._taken):
            counts.clear()
        self._heard.clear()
        self.guides.clear()

    def next(self, owner: str, calls: int, all_of_them: bool = True) -> int:
        """The number of this owner's current call.

        Args:
            owner: its path.
            calls: how many calls it has in a pass; outside of passes, in the mode that has most.
            all_of_them: whether every pass has all these calls.

        Raises:
            ValueError: if a pass has more calls than were found, or a part with several calls runs by itself.
        """
        if not self.is_open:
            if calls > 1:
                raise ValueError(
                    f"{owner or 'the network'} resamples {calls} maps in a pass, and ran outside of one, where nothing "
                    "tells which of them this is. Either a part of the network was called by itself: call the network "
                    "that resfu.upgrade returned. Or torch.utils.checkpoint computed this part again for the backward "
                    "pass: leave the part out of the checkpoint, or its places out of the upgrade (where=[...])."
                )
            return 0
        if calls == 1 and in_torch_compile():  # a checkpoint in a compiled graph must not change anything outside of it
            return 0
        number = self._counts.get(owner, 0)
        if number >= calls:
            raise ValueError(_too_many(owner, calls))
        self._counts[owner] = number + 1
        if all_of_them:
            self._expected[owner] = calls
        return number

    def next_at(self, owner: str, spot: Any, numbers: Sequence[int | None], any_length: bool) -> int | None:
        """The number of this owner's current call, which comes from a spot in the code that `resfu.upgrade` saw.

        Args:
            owner: its path.
            spot: the spot; such a call may run in one pass and not in another.
            numbers: the numbers of the calls from there in a pass, more than one in a loop; empty for a new call.
            any_length: whether a loop may have more or fewer calls, because none of them is replaced.

        Raises:
            ValueError: if a loop has more calls than were found.
        """
        self._counts[owner] = self._counts.get(owner, 0) + 1
        if not numbers:
            return None
        place = owner, spot
        count = self._at.get(place, 0)
        if count >= len(numbers):
            if any_length:
                return None
            raise ValueError(_too_many(owner, len(numbers)))
        self._at[place] = count + 1
        if not any_length:
            self._repeats[place] = len(numbers)
        return numbers[count]

    def take(self, owner: str, number: int | None, calls: int) -> None:
        """Note that one of an owner's calls runs.

        Raises:
            ValueError: if it ran before in this pass, so that one of the two must be another call.
        """
        if number is None:
            return
        if (owner, number) in self._taken:
            raise ValueError(_too_many(owner, calls))
        self._taken.add((owner, number))

    def hear(self, name: str, run: int | None, value: Tensor) -> None:
        """Called when a guide's module has run: keep its map if it is the guide's run, or any run for None.

        Outside of a pass, as when a checkpoint is recomputed, nothing is kept, because nothing would release it.
        """
        if not self.is_open:
            return
        number = self._heard.get(name, 0)
        self._heard[name] = number + 1
        if run in (None, number):
            self.guides[name] = value

    def guide(self, name: str, place: str, device: torch.device) -> Tensor:
        """The captured map of this name.

        Raises:
            ValueError: if it has not been computed in this pass, or is on another device.
        """
        guide = self.guides.get(name)
        if guide is None:
            raise ValueError(
                f"the guidance {name!r} of {place} has not been computed in this pass: call the whole network that "
                "resfu.upgrade returned (a part by itself has no guides, nor has the recomputing of a checkpoint). If "
                "it is a LightningModule whose steps call a part of it, upgrade that part instead."
            )
        if guide.device != device:
            raise ValueError(
                f"the guidance {name!r} of {place} is on {guide.device} and the features on {device}: choose another "
                'with guidance={...: "module.path"}.'
            )
        return guide

    def check_trainable(self, place: str, module: nn.Module) -> None:
        """Refuse to train an upsampler in a part of the network that records no gradients.

        Raises:
            ValueError: naming the place.
        """
        if self.is_open and self._gradients and module.training and not torch.is_grad_enabled():
            raise ValueError(
                f"{place} lies in a part of the network that runs under torch.no_grad, so its upsampler would never "
                "train: remove the no_grad (torch.utils.checkpoint with use_reentrant=True sets one as well), leave "
                "this place out (where=[...]), or call model.eval()."
            )


def _too_many(owner: str, calls: int) -> str:
    return (
        f"{owner or 'the network'} resamples more maps in this pass than the {calls} that resfu.upgrade saw: the order "
        "of its places changes from pass to pass. Upgrade it with inputs that take this way, or leave it out "
        "(where=[...])."
    )


class Tap:
    """A hook that captures an input or output of a module.

    Args:
        state: state of the pass.
        name: name of the guide.
        keys: the keys that lead to the tensor in the output or in the positional arguments.
        run: which run of the module in a pass; None for the last.
    """

    def __init__(self, state: Pass, name: str, keys: tuple[Any, ...], run: int | None) -> None:
        self.state, self.name, self.keys, self.run = state, name, keys, run

    def after(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Run as a forward hook."""
        self._note(output)

    def before(self, module: nn.Module, args: tuple) -> None:
        """Run as a forward pre-hook."""
        self._note(args)

    def _note(self, value: Any) -> None:
        for key in self.keys:
            value = value[key]
        self.state.hear(self.name, self.run, value)
