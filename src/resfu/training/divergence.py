"""Stops a training whose weights are no longer finite; its last good checkpoint stays."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

_SKIPPED = 50  # steps in a row that a gradient scaler may skip: it halves its factor at each


class DivergenceError(ValueError):
    """Weights or losses are not finite."""


class FiniteTraining(Callback):
    """Look at the loss and at all weights after every step, before anything is saved.

    Gradients that are not finite are normal under a gradient scaler (16-mixed): it skips the step. There a loss may be
    infinite too, but not for many steps in a row. The look at the weights takes a small part of the optimiser's time.

    Args:
        what: the training, for the message.
        advice: what to do, for the message.
        checkpoints: folder of its checkpoints, for the message.

    Raises:
        DivergenceError: naming the step, the loss, a weight and the checkpoint that is left.
    """

    def __init__(self, what: str, advice: str, checkpoints: Path | None = None) -> None:
        self.what, self.advice, self.checkpoints = what, advice, checkpoints
        self._infinite = 0  # losses in a row
        self._step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss of every batch, and the weights where a step has ended."""
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
    """Find what holds infinite values or NaN.

    Args:
        tensors: by name, such as a state dict; what is no tensor of real or complex numbers is passed over.

    Returns:
        The names, in order.
    """
    floating = {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel()
    }
    # NaN and infinity come through a sum, which takes a tenth of the time of a look at each value. That is left for
    # where the sum says that there may be something: one of finite values can overflow too.
    sums = [tensor.sum().abs().float() for tensor in floating.values()]
    if all(bool(torch.stack(group).isfinite().all()) for group in _by_device(sums)):
        return []
    return [name for name, tensor in floating.items() if not bool(torch.isfinite(tensor).all())]


def _by_device(tensors: list[Tensor]) -> list[list[Tensor]]:
    """So that a GPU is waited for once."""
    groups: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.device, []).append(tensor)
    return list(groups.values())
