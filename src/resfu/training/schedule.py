"""The learning-rate schedule: poly or stepwise decay with a linear warm-up, stepped once per optimiser step."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class Schedule:
    """The curve of the learning rate.

    Args:
        power: exponent of the decay: 0.9 for the SGD recipes, 1.0 (linear) for SegFormer's, 0 for no decay.
        minimum: learning rate at the end, the same for every group.
        warmup_steps: number of steps of the linear rise at the start; the decay begins where the rise ends.
        warmup_ratio: first learning rate of the rise, as a share of the full learning rate.
        total_steps: step at which the minimum is reached. Default: the length of the training.
        drops: shares of the training after which the learning rate is multiplied by `drop_factor`: (8/12, 11/12) drops
            it after 8 and after 11 of 12 epochs.
        drop_factor: factor of each drop.

    Raises:
        ValueError: for a negative value, a warm-up that does not fit, or drops that do not rise from 0 to 1.
    """

    power: float = 0.9
    minimum: float = 0.0
    warmup_steps: int = 0
    warmup_ratio: float = 1e-6
    total_steps: int | None = None
    drops: tuple[float, ...] = ()
    drop_factor: float = 0.1

    def __post_init__(self) -> None:
        for name in ("power", "minimum", "warmup_steps", "warmup_ratio", "drop_factor"):
            if getattr(self, name) < 0:
                raise ValueError(f"schedule.{name} must not be negative, got {getattr(self, name)}.")
        if self.total_steps is not None and self.total_steps <= self.warmup_steps:
            raise ValueError(
                f"schedule.total_steps ({self.total_steps}) must be above schedule.warmup_steps ({self.warmup_steps})."
            )
        if not all(low < high for low, high in pairwise((0.0, *self.drops, 1.0))):
            raise ValueError(
                "schedule.drops are parts of the training, each above the one before and between 0 and 1; got "
                f"{list(self.drops)}."
            )

    def learning_rate(self, step: int, base: float, total_steps: int) -> float:
        """The learning rate of one step, as mmsegmentation's LinearLR followed by its PolyLR or MultiStepLR.

        Args:
            step: number of optimiser steps already taken.
            base: full learning rate lr0.
            total_steps: step T at which the minimum is reached; above `warmup_steps`.

        Returns:
            lr0 (r + (1 - r) t / W) while t < W, then (lr0 - min) (1 - (t - W) / (T - W))^p + min; min from T on. From
            the n-th drop on it is multiplied by f^n.
        """
        if step < self.warmup_steps:
            return base * (self.warmup_ratio + (1 - self.warmup_ratio) * step / self.warmup_steps)
        remaining = max(0.0, 1 - (step - self.warmup_steps) / (total_steps - self.warmup_steps))
        passed = sum(step >= round(part * total_steps) for part in self.drops)
        return ((base - self.minimum) * remaining**self.power + self.minimum) * self.drop_factor**passed


def poly_scheduler(optimizer: Optimizer, schedule: Schedule, total_steps: int) -> LambdaLR:
    """Attach the schedule to an optimiser.

    For a group with a `gradient_multiplier` (see `parameter_groups`), the curve is computed without the multiplier and
    then multiplied. So the minimum is multiplied too, as with a multiplied gradient.

    Args:
        optimizer: an optimiser whose groups have the full learning rates.
        schedule: the curve.
        total_steps: length of the training in optimiser steps; `schedule.total_steps` takes precedence.

    Returns:
        A scheduler to be stepped after every optimiser step.

    Raises:
        ValueError: when the warm-up is not shorter than the training.
    """
    total_steps = schedule.total_steps or total_steps
    if total_steps <= schedule.warmup_steps:
        raise ValueError(
            f"schedule.warmup_steps ({schedule.warmup_steps}) must be below the steps of the training "
            f"({total_steps}): set --model.schedule.warmup_steps to less, such as {total_steps // 10}, or train longer."
        )
    factors = []
    for group in optimizer.param_groups:
        base = float(group["lr"]) / group.get("gradient_multiplier", 1.0)
        factors.append(partial(_factor, schedule=schedule, base=base, total_steps=total_steps))
    return LambdaLR(optimizer, factors)


def _factor(step: int, schedule: Schedule, base: float, total_steps: int) -> float:
    return schedule.learning_rate(step, base, total_steps) / base
