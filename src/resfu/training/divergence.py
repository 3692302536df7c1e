"""A check that stops a training whose weights are no longer finite; its last good checkpoint is kept."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

_SKIPPED = 50  # steps in a row that a gradient scaler may skip; it halves its factor at each of them


class DivergenceError(ValueError):
    """Weights or losses are not finite."""


class FiniteTraining(Callback):
    """Check the loss and all weights after every step, before anything is saved.

    With a gradient scaler (precision 16-mixed), gradients that are not finite are normal: the scaler skips the step.
    The loss may be infinite then too, but not for many steps in a row. Checking the weights takes a small part of the
    optimiser's time.

    Args:
        what: the training, for the message.
        advice: what to do, for the message.
        checkpoints: folder of the training's checkpoints, for the message.

    Raises:
        DivergenceError: naming the step, the loss, a weight and the remaining checkpoint.
    """

    def __init__(self, what: str, advice: str, checkpoints: Path | None = None) -> None:
        self.what, self.advice, self.checkpoints = what, advice, checkpoints
        self._infinite = 0  # losses in a row
        self._step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss of every batch, and the weights after every optimiser step."""
        loss = float(outputs["loss"])
        self._infinite = 0 if math.isfinite(loss) else self._infinite + 1
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        names: list[str] = []
        if trainer.global_step != self._step or self._infinite:
            self._step = trainer.global_step
            names = not_finite(pl_module.state_dict())
        if names or self._infinite > (_SKIPPED if scaled else 0):
            raise DivergenceError(self._message(loss, trainer.global_step, names))

    def _message(self, loss: float, step: int, names: list[str]) -> str:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        weights = f", and not finite: {names[0]}{more}" if names else ""
        kept = sorted(self.checkpoints.glob("*.ckpt")) if self.checkpoints is not None else []
        left = f" The last good checkpoint stays: {max(kept, key=lambda file: file.stat().st_mtime)}." if kept else ""
        return f"{self.what} diverged: its loss is {loss:.6g} at step {step}{weights}. {self.advice}{left}"


@torch.no_grad()
def not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """Find the tensors that contain infinite values or NaN.

    Args:
        tensors: tensors by name, such as a state dict; other values and integer tensors are ignored.

    Returns:
        The names, in order.
    """
    floating = {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel()
    }
    # A sum shows NaN and infinity, and takes a tenth of the time of checking each value. The values are only checked if
    # a sum is not finite, because a sum of finite values can overflow too.
    sums = [tensor.sum().abs().float() for tensor in floating.values()]
    if all(bool(torch.stack(group).isfinite().all()) for group in _by_device(sums)):
        return []
    return [name for name, tensor in floating.items() if not bool(torch.isfinite(tensor).all())]


def _by_device(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Group tensors by device, so that each GPU is waited for only once."""
    groups: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.device, []).append(tensor)
    return list(groups.values())
