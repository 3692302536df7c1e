"""Training of an upsampler for a frozen encoder, without labels."""

import copy
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from resfu.evaluation.fidelity import Fidelity
from resfu.frozen.find import find_encoder
from resfu.frozen.pairs import Pair, Pairs, feature_pair
from resfu.tasks.base import TrainingTask
from resfu.tasks.distillation_data import DistillationData
from resfu.training.arguments import plain_arguments
from resfu.training.module import TrainingModule
from resfu.training.parameter_groups import Optimisation
from resfu.training.schedule import Schedule
from resfu.training.scores import Score, number
from resfu.upsamplers import UPSAMPLERS, create_upsampler
from resfu.visualize.picture import Picture

# As in NAF: constant learning rate, very small weight decay.
_OPTIMISATION = Optimisation(learning_rate=2e-4, weight_decay=1e-5, undecayed="none")
_SCHEDULE = Schedule(power=0.0)
_METHODS = ("fitted", "bilinear", "nearest")


class _Upsampler(nn.Module):
    """The upsampler that is trained, and a copy with the moving average of its weights."""

    def __init__(self, upsampler: nn.Module) -> None:
        super().__init__()
        self.upsampler = upsampler
        self.average = copy.deepcopy(upsampler).requires_grad_(False)

    def forward(self, pair: Pair) -> Tensor:
        size = (pair.high.shape[-2], pair.high.shape[-1])
        return self.upsampler(pair.low, pair.guidance, size=size)


class DistillationModule(TrainingModule):
    """Fit an upsampler that turns the features of a downscaled image into those of the full image (arXiv 2511.18452).

    The loss is the mean squared error. Validation measures the moving average of the weights and, on the same pairs,
    bilinear and nearest interpolation.

    Args:
        host: the frozen encoder, see `resfu.PixelFeatures`; it is not part of checkpoints.
        upsampler: "naf", "anyup" or "resfu-image"; or "stack-jbu" with the option steps=1, whose weights can be used in
            every step of a longer stack.
        upsampler_options: further constructor arguments of the upsampler.
        pretrained: fetch the encoder's weights.
        pairs: "scales" or "pooled", see `resfu.frozen.pairs.feature_pair`.
        average: factor by which the old moving average is multiplied in each step.
        optimisation: optimiser, learning rates, weight decay.
        schedule: the curve of the learning rate.
        seed: seed of the upsampler's own randomness during training.

    Raises:
        ValueError: for an unknown encoder or upsampler, or one without weights.
    """

    scores: ClassVar = (
        Score("r2", "R²"),
        Score("cos", "cosine"),
        Score("bilinear_r2", "bilinear R²"),
        Score("bilinear_cos", "bilinear cosine"),
        Score("nearest_r2", "nearest R²", compared=False),
        Score("nearest_cos", "nearest cosine", compared=False),
    )

    def __init__(
        self,
        host: str = "efficientnet-lite0",
        upsampler: str = "naf",
        upsampler_options: dict[str, Any] | None = None,
        pretrained: bool = True,
        pairs: Pairs = "scales",
        average: float = 0.99,
        optimisation: Optimisation = _OPTIMISATION,
        schedule: Schedule = _SCHEDULE,
        seed: int = 0,
    ) -> None:
        arguments = plain_arguments(locals())
        encoder = find_encoder(host, pretrained=pretrained)
        width = encoder.width()
        if upsampler in UPSAMPLERS and not UPSAMPLERS[upsampler].image_guided:
            choice = "naf, anyup, resfu-image or stack-jbu+steps=1"
            raise ValueError(f"{upsampler} is not guided by the image, so nothing can be fitted here: choose {choice}.")
        made = create_upsampler(upsampler, channels=width, **(upsampler_options or {}))
        if made.ratios != "any" and made.scale_factor != 2:
            raise ValueError(f"pairs have ratio 2, not {made.scale_factor}: add steps=1 to the options of {upsampler}.")
        super().__init__(_Upsampler(made), optimisation, schedule, False, seed)
        self.save_hyperparameters(arguments)
        self._encoder = (encoder,)  # in a tuple, so that PyTorch does not add it to checkpoints
        self.pairs: Pairs = pairs
        self.average = average
        self.metrics = _Beside()

    @property
    def encoder(self) -> nn.Module:
        """The frozen encoder, which is not part of the network."""
        return self._encoder[0]

    @property
    def class_names(self) -> list[str]:
        """The features that are compared: the fitted upsampler's, and interpolated ones."""
        return list(_METHODS)

    def pair(self, batch: dict[str, Any]) -> Pair:
        """The features of a batch's images."""
        return feature_pair(self._encoder[0].to(self.device), batch["image"], self.pairs)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The mean squared error of the upsampled features."""
        pair = self.pair(batch)
        return {"mse": F.mse_loss(self.host(pair).float(), pair.high)}

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """Take a step and update the moving average, before callbacks save a checkpoint."""
        super().optimizer_step(*args, **options)
        pairs = zip(self.host.average.parameters(), self.host.upsampler.parameters(), strict=True)
        with torch.no_grad():
            for mean, value in pairs:
                mean.lerp_(value, 1 - self.average)

    @torch.no_grad()
    def measure(self, batch: dict[str, Any]) -> None:
        """Compare the averaged upsampler, bilinear and nearest with the features of the full images."""
        pair = self.pair(batch)
        size = (pair.high.shape[-2], pair.high.shape[-1])
        self.metrics.update("fitted", self.host.average(pair.low, pair.guidance, size=size), pair.high)
        for name in _METHODS[1:]:
            self.metrics.update(name, create_upsampler(name)(pair.low, size=size), pair.high)

    def table(self) -> Table:
        """The results of the last validation, a row for each kind of upsampling, for `rich.print`."""
        table = Table("features", "R² %", "cosine %")
        for name in _METHODS:
            prefix = "" if name == "fitted" else f"{name}_"
            table.add_row(name, *(number(self.results[f"{prefix}{key}"]) for key in ("r2", "cos")))
        return table

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        """Not supported: `resfu.PixelFeatures` applies the weights."""
        raise ValueError("a fit without labels predicts nothing: use resfu.PixelFeatures with its weights.")

    def predict(self, image: str | Path | Picture) -> Any:
        """Not supported, see `predict_step`."""
        return self.predict_step({"image": image}, 0)

    def picture(self, image: Tensor) -> Picture | None:
        """None: features have no colours of their own."""


class _Beside:
    """Metrics: fidelity of the fitted upsampler and of interpolation on the same pairs, in percent."""

    def __init__(self) -> None:
        self._of = {name: Fidelity() for name in _METHODS}

    def update(self, name: str, prediction: Tensor, target: Tensor) -> None:
        self._of[name].update(prediction, target)

    def compute(self) -> dict[str, float]:
        found = {}
        for name, fidelity in self._of.items():
            values = fidelity.compute()
            prefix = "" if name == "fitted" else f"{name}_"
            found |= {f"{prefix}{key}": 100 * values[key] for key in ("r2", "cos")}
        return found

    def reset(self) -> None:
        for fidelity in self._of.values():
            fidelity.reset()


class Distillation(TrainingTask):
    """A training without labels; it has no network for predictions or comparisons."""

    name = "distillation"
    module = DistillationModule
    data = DistillationData
