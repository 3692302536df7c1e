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

RATE = 0.005
"""The rate with which every row is trained, shown for rows that have no better one or not yet as many seeds of it."""

HOSTS = ("efficientnet-lite0", "efficientnet-lite2")
"""The networks: small ones whose ImageNet weights come as packages."""

DISTANCES = (1, 2, 4, 8, 16)
"""Widths of the boundary bands in pixels, for the curve of quality by distance."""


@dataclass(frozen=True)
class Row:
    """One way to bring the features up.

    Attributes:
        name: in the tables and in the names of files.
        upsampler: a key of `resfu.UPSAMPLERS`.
        options: its constructor arguments.
        changes: what is different from the whole ReSFU, in words, for rows that change it.
        skip: width of a plain skip connection from the image to the classifier.
        optimisation: settings of the optimiser that differ from the recipe's.
    """

    name: str
    upsampler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    changes: str = ""
    skip: int = 0
    optimisation: Mapping[str, Any] = field(default_factory=dict)


def _similarity(factor: float) -> Row:
    changes = f"learning rate of the similarity blocks x {factor:g}"
    return Row(f"resfu-rate-x{factor:g}", "resfu", changes=changes, optimisation={"similarity_multiplier": factor})


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
        Row("resfu-plain-query", "resfu", {"guided_query": False}, "without the guided filter"),
        Row("resfu-plain-key", "resfu", {"smoothed_key": False}, "without the Gaussian"),
        Row("resfu-semantic", "resfu", {"alignment": "semantic"}, "semantic space alone (Table V c)"),
        Row("resfu-detail", "resfu", {"alignment": "detail"}, "detail space alone (V e)"),
        Row("resfu-inner-product", "resfu", {"similarity": "inner_product"}, "inner product for PCDC (VI a)"),
        Row("resfu-concat", "resfu", {"similarity": "concat"}, "convolution of both maps for PCDC (VI b)"),
        Row("resfu-coarse", "resfu", {"neighbours": "coarse"}, "coarse neighbours (VII)"),
        Row("resfu-start", "resfu", {"start": "bilinear"}, "begins as bilinear interpolation"),
        Row(
            "resfu-no-norms",
            "resfu",
            {"normalize_features": False, "normalize_guidance": False},
            "no normalisation of features and guidance",
        ),
        _similarity(3.0),
        _similarity(0.3),
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
        host: which network, one of `HOSTS`.
    """

    row: Row
    rate: float
    seed: int
    choosing: bool = False
    encoder: str = "frozen"
    steps: int = 2400
    host: str = HOSTS[0]

    @property
    def name(self) -> str:
        """The name of its files."""
        part = "choosing" if self.choosing else "final"
        kind = self.encoder if self.host == HOSTS[0] else f"{self.host.rpartition('-')[2]}-{self.encoder}"
        return f"{kind}-{self.steps}/{part}/{self.row.name}-{self.rate:g}-seed{self.seed}"

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
                "host": self.host,
                "upsampler": self.row.upsampler,
                "upsampler_options": dict(self.row.options) or None,
                "host_options": {"skip_channels": self.row.skip} if self.row.skip else None,
                "freeze_encoder": self.encoder == "frozen",
                "optimisation": {
                    "learning_rate": self.rate / multiplier,
                    "head_multiplier": multiplier,
                    **self.row.optimisation,
                },
            },
            "trainer": {"max_steps": self.steps, "val_check_interval": max(self.steps // 4, 1)},
        }
        return Experiment(merge(read_recipe("camvid"), own))
