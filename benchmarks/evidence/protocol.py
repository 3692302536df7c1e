"""The protocol: which rows there are, how each is trained, and where its numbers lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER
from resfu.recipes import merge, read_recipe
from resfu.tasks.experiment import Experiment

RATES = (0.0025, 0.005, 0.01)
"""Learning rates of the head. Each row takes the one with the best mIoU on the held-out frames."""

DISTANCES = (1, 2, 4, 8, 16)
"""Widths of the boundary bands in pixels, for the curve of quality by distance."""


@dataclass(frozen=True)
class Row:
    """One way to bring the features up.

    Attributes:
        name: in the tables and in the names of files.
        upsampler: a key of `resfu.UPSAMPLERS`.
        options: its constructor arguments.
        skip: width of a plain skip connection from the image to the classifier.
    """

    name: str
    upsampler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    skip: int = 0


ROWS = {
    row.name: row
    for row in (
        Row("bilinear", "bilinear"),
        Row("bilinear-skip", "bilinear", skip=32),
        Row("nearest", "nearest"),
        Row("dysample", "dysample"),
        Row("carafe", "carafe"),
        Row("stack-jbu", "stack-jbu"),
        Row("sapa", "sapa"),
        Row("fade", "fade"),
        Row("resfu", "resfu"),
        Row("indexnet", "indexnet"),
        Row("a2u", "a2u"),
        Row("deconv", "deconv"),
        Row("pixelshuffle", "pixelshuffle"),
        Row("resfu-plain-query", "resfu", {"guided_query": False}),
        Row("resfu-plain-key", "resfu", {"smoothed_key": False}),
        Row("resfu-semantic", "resfu", {"alignment": "semantic"}),
        Row("resfu-detail", "resfu", {"alignment": "detail"}),
        Row("resfu-concat", "resfu", {"similarity": "concat"}),
        Row("resfu-inner-product", "resfu", {"similarity": "inner_product"}),
        Row("resfu-coarse", "resfu", {"neighbours": "coarse"}),
    )
}


@dataclass(frozen=True)
class Training:
    """One training of a row.

    Attributes:
        row: which one.
        rate: the learning rate of the head; a trained encoder gets a tenth of it.
        seed: of weights, order and augmentation.
        choosing: train on "fit" and measure on "held-out", to choose the rate; else on "train" and "val".
        encoder: "frozen" or "trained".
        steps: of 8 crops of 224 x 224.
    """

    row: Row
    rate: float
    seed: int
    choosing: bool = False
    encoder: str = "frozen"
    steps: int = 800

    @property
    def name(self) -> str:
        """The name of its files."""
        part = "choosing" if self.choosing else "final"
        return f"{self.encoder}-{self.steps}/{part}/{self.row.name}-{self.rate:g}-seed{self.seed}"

    @property
    def result(self) -> Path:
        """The file with its numbers."""
        return FOLDER / "evidence" / f"{self.name}.json"

    def experiment(self, root: str | Path) -> Experiment:
        """All settings: those of the recipe `camvid`, and its own.

        Args:
            root: the folder of CamVid.
        """
        multiplier = 10.0
        own = {
            "seed_everything": self.seed,
            "save_every": 100,
            "data": {
                "root": str(root),
                "train_split": "fit" if self.choosing else "train",
                "val_split": "held-out" if self.choosing else "val",
            },
            "model": {
                "upsampler": self.row.upsampler,
                "upsampler_options": dict(self.row.options) or None,
                "host_options": {"skip_channels": self.row.skip} if self.row.skip else None,
                "freeze_encoder": self.encoder == "frozen",
                "optimisation": {"learning_rate": self.rate / multiplier, "head_multiplier": multiplier},
            },
            "trainer": {"max_steps": self.steps, "val_check_interval": max(self.steps // 4, 1)},
        }
        return Experiment(merge(read_recipe("camvid"), own))
