"""A fifth task in one file: monocular depth, a distance for every pixel. An example for docs/architecture.md.

In the package the network would be in `hosts/`, the data set in `data/`, the metrics in `evaluation/` and the rest in
`tasks/`; tests/tasks/test_contract.py runs over it as over the four of the package.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import resfu
from resfu.data.transforms import eval_transform
from resfu.evaluation.dataset_metric import DatasetMetric
from resfu.files.atomic import replacing
from resfu.hosts import find_host
from resfu.tasks.base import Contents, Task
from resfu.tasks.files import check_output
from resfu.tasks.photos import Photos, photo_sample
from resfu.tasks.pictures import ImagePictures, View, feature_views
from resfu.tasks.writing import PredictionWriter
from resfu.training.arguments import plain_arguments
from resfu.training.data import TrainingData
from resfu.training.module import TrainingModule
from resfu.training.parameter_groups import Optimisation
from resfu.training.schedule import Schedule
from resfu.training.scores import Score
from resfu.visualize import from_normalised

FARTHEST = 10.0  # metres


def network(
    upsampler: str = "resfu",
    num_classes: int | None = None,
    pretrained: bool | str = False,
    upsampler_options: dict[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """A segmentation network with one number a pixel: the logarithm of the depth."""
    return resfu.create_host("efficientnet-lite0", upsampler, 1, pretrained, upsampler_options, options)


network.task = "depth"  # pyright: ignore[reportFunctionMemberAccess]


class Discs:
    """Discs over one another, the nearer the brighter, with their distances."""

    def __init__(self, split: str, count: int, size: int) -> None:
        self.split, self.count, self.size = split, count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([len(self.split), index])
        y, x = np.mgrid[: self.size, : self.size]
        depth = np.full((self.size, self.size), FARTHEST, np.float32)
        for distance in sorted(rng.uniform(1, FARTHEST, 6), reverse=True):
            row, column, radius = rng.uniform(0, self.size, 3)
            depth[(y - row) ** 2 + (x - column) ** 2 < (radius / 2) ** 2] = distance
        return {"image": _grey(torch.from_numpy(depth)), "label": torch.from_numpy(depth), "name": f"{index}"}


class DepthMetrics(DatasetMetric):
    """Means over all pixels: relative error, squared error, and the share within a quarter of the distance."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("relative", "square", "near", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, depth: Tensor, label: Tensor) -> None:
        """Of metres [B, H, W]."""
        error, ratio = (depth - label).double(), torch.maximum(depth / label, label / depth)
        self.relative += (error.abs() / label).sum()
        self.square += error.square().sum()
        self.near += (ratio < 1.25).sum()
        self.count += label.numel()

    def compute(self) -> dict[str, float]:
        relative, square, near = (float(each / self.count) for each in (self.relative, self.square, self.near))
        return {"abs_rel": relative, "rmse": square**0.5, "delta1": 100 * near}


class DepthModule(TrainingModule):
    scores: ClassVar = (
        Score("abs_rel", "AbsRel", unit="", decimals=4, lower_is_better=True),
        Score("rmse", "RMSE", unit="m", decimals=3, lower_is_better=True),
        Score("delta1", "δ < 1.25"),
    )

    def __init__(
        self,
        host: str = "tests.support.depth:network",
        upsampler: str = "resfu",
        upsampler_options: dict[str, Any] | None = None,
        pretrained: bool | str = False,
        freeze_encoder: bool = False,
        optimisation: Optimisation = Optimisation(),  # noqa: B008
        schedule: Schedule = Schedule(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        arguments = plain_arguments(locals())
        made = find_host(host)(upsampler=upsampler, pretrained=pretrained, upsampler_options=upsampler_options)
        super().__init__(made, optimisation, schedule, freeze_encoder, seed)
        self.save_hyperparameters(arguments)
        self.metrics = DepthMetrics()

    class_names: ClassVar = []  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def depth(self, images: Tensor) -> Tensor:
        """Metres [B, H, W] of normalised images [B, 3, H, W]."""
        return self.host(images)[:, 0].exp()

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"loss_log": F.l1_loss(self.host(batch["image"])[:, 0], batch["label"].log())}

    def measure(self, batch: dict[str, Any]) -> None:
        self.metrics.update(self.depth(batch["image"]), batch["label"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        return {} if "error" in batch else {"depth": self.depth(batch["image"]).cpu()}

    @torch.no_grad()
    def predict(self, image: Any) -> Tensor:
        """Metres [H, W] of a photo."""
        sample = eval_transform(self.host.mean, self.host.std)(photo_sample(image))
        return self.depth(sample["image"][None].to(self.device))[0].cpu()

    @torch.no_grad()
    def picture(self, image: Tensor) -> np.ndarray:
        return _picture(self.depth(image[None])[0])


class DepthData(TrainingData):
    def __init__(
        self,
        dataset: str = "discs",
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        **shared: Any,
    ) -> None:
        arguments = plain_arguments(locals())
        super().__init__(dataset, **shared)
        self.save_hyperparameters(arguments)
        self.mean, self.std = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))
        self.photo_transform = eval_transform(mean, std)

    dataset_class: ClassVar = Discs  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def open_split(self, split: str, training: bool) -> Any:
        samples = Discs(split, **(self.train_options if training else self.eval_options))
        return [
            {**sample, "image": (sample["image"] - self.mean) / self.std}
            for sample in map(samples.__getitem__, range(len(samples)))
        ]

    def open_files(self) -> Photos:
        return Photos(self.images, self.photo_transform, self.on_error)


class DepthWriter(PredictionWriter):
    """Writes NAME.npy, metres in fp32."""

    def begin(self, trainer: Any, module: Any) -> None:
        super().begin(trainer, module)
        check_output(trainer.datamodule.images, trainer.datamodule.predicted.found, self.folder, ".npy")

    def write(self, batch: dict[str, Any], found: Any, module: Any) -> list[Path]:
        files = [self.folder / f"{name}.npy" for name in batch["name"]]
        for file, depth in zip(files, found["depth"], strict=True):
            with replacing(file) as draft, draft.open("wb") as stream:
                np.save(stream, depth.numpy())
        return files


class Depth(Task):
    name = "depth"
    small_recipe = str(Path(__file__).with_suffix(".yaml"))
    module = DepthModule
    data = DepthData
    seen_size = "networks see photos as they are"
    written = "depth maps"
    note = "means over the pixels of all images"

    def check_data(self, host: str, dataset: str) -> None:
        if dataset != "discs":
            raise ValueError(f"{dataset} has no depth: choose discs.")

    def data_arguments(self, module: Any) -> dict[str, Any]:
        return {"mean": module.host.mean, "std": module.host.std}

    def writer(self, folder: str, progress: bool, overlay: bool = False) -> PredictionWriter:
        if overlay:
            raise ValueError("--overlay is for label maps.")
        return DepthWriter(folder)

    def contents(self, data: Any) -> Contents:
        return Contents([], [], len(data.evaluated))

    def pictures(self, modules: dict[str, Any], data: Any, places: Sequence[int]) -> list[ImagePictures]:
        device = next(iter(modules.values())).device
        samples = [data.evaluated[place] for place in places]
        images = [sample["image"].to(device) for sample in samples]
        hosts = {name: module.host for name, module in modules.items()}
        made = []
        for sample, image, features in zip(samples, images, feature_views(hosts, images), strict=True):
            host = next(iter(hosts.values()))
            seen = View("image", from_normalised(image, host.mean, host.std), photo=True)
            results = {
                name: (*features[name], View("prediction", module.picture(image))) for name, module in modules.items()
            }
            made.append(ImagePictures(sample["name"], (seen, View("depth", _picture(sample["label"]))), results))
        return made


def _grey(depth: Tensor) -> Tensor:
    """Near is bright: [H, W] -> [3, H, W] in 0..1."""
    return (1 - depth.cpu() / FARTHEST).clamp(0, 1).expand(3, -1, -1)


def _picture(depth: Tensor) -> np.ndarray:
    return _grey(depth).mul(255).byte().permute(1, 2, 0).contiguous().numpy()
