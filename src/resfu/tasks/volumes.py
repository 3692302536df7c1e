"""Segmentation of volumes: trained slice by slice, measured case by case with Dice and HD95."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from resfu.data import Sample, SegmentationDataset
from resfu.data.medical.base import SliceDataset
from resfu.data.medical.geometry import Geometry
from resfu.data.medical.nonfinite import Nonfinite, OnNonfinite
from resfu.data.medical.transforms import slice_eval_transform, slice_train_transform
from resfu.evaluation.volumes import Convention, VolumeMetrics
from resfu.tasks import scan_geometry
from resfu.tasks.base import Contents
from resfu.tasks.cases import Cases, label_volume, normalising
from resfu.tasks.label_map_data import PixelData, holds_volumes
from resfu.tasks.label_maps import LabelMapModule, LabelMaps
from resfu.tasks.label_pictures import label_map_pictures
from resfu.tasks.label_volume_files import LabelVolumeWriter
from resfu.tasks.pictures import ImagePictures, VolumePictures
from resfu.tasks.scans import Scans
from resfu.tasks.volume_pictures import labelled_slices, volume_pictures
from resfu.tasks.writing import PredictionWriter
from resfu.training.arguments import plain_arguments
from resfu.training.scores import Score, class_table

_DISTANCE: dict[str, Any] = {
    "unit": "voxels",
    "lower_is_better": True,
    "counted_first": "missed",
    "requires": "hd95_found",
}


class VolumeModule(LabelMapModule):
    """Train a segmentation host on slices and measure it on volumes.

    Training batches are those of `LabelMapModule`; all other batches contain one volume, see `Cases`.

    Args:
        convention: the score of an organ that is missing in label or prediction, see `VolumeMetrics`.
        **shared: the arguments of `LabelMapModule`.

    Raises:
        ValueError: as `LabelMapModule`.
    """

    scores: ClassVar = (
        Score("dice", "Dice", "dice_by_class"),
        Score("hd95_found", "HD95", "hd95_found_by_class", **_DISTANCE),
        Score("hd95", "HD95 by convention", "hd95_by_class", **_DISTANCE),
        Score("missed", "missed", "missed_by_class", unit="organs", lower_is_better=True),
        Score("spurious", "spurious", "spurious_by_class", unit="organs", lower_is_better=True, compared=False),
    )

    def __init__(self, convention: Convention = "transunet", **shared: Any) -> None:
        arguments = plain_arguments(locals())
        super().__init__(**shared)
        self.save_hyperparameters({**self.hparams, **arguments})
        self.metrics = VolumeMetrics(len(self.classes), convention)
        self.metrics.persistent(False)  # a network can be loaded without its data

    @property
    def class_names(self) -> list[str]:
        """The organs."""
        return list(self.classes[1:])

    def table(self) -> Table:
        """The results of the last validation or test, organ by organ, for `rich.print`."""
        results = self.results
        caption = (
            f"volumes: {len(results['cases'])}; HD95: the mean of those where the organ is labelled and predicted, "
            f"{int((results['found_by_class'] > 0).sum())} of {len(self.class_names)} organs, and by the convention "
            f"{results['convention']}; missed, spurious: those where it is only labelled, only predicted"
        )
        return class_table(self.scores, results, self.class_names, "organ", caption)

    def measure(self, batch: dict[str, Any]) -> None:
        """Score a volume."""
        batch["volume"].score(self.metrics, self.slice_network(), batch["input_size"], self.device)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """The result of `label_volume`; empty for a batch with an "error" in place of a volume."""
        if "error" in batch:
            return {}
        return label_volume(batch["volume"], self.slice_network(), batch["input_size"], self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the organs, and the geometry from checkpoints of resfu 0.1, under the name of its data module."""
        super().on_load_checkpoint(checkpoint)
        geometry = checkpoint.get("SegmentationData")
        if geometry is not None and self._trainer is not None:
            self.trainer.datamodule.load_state_dict(geometry)  # pyright: ignore[reportAttributeAccessIssue]

    def slice_network(self) -> Callable[[Tensor], Tensor]:
        """The network as a function of slices: images [1, 3, H, W] with the volume's values -> logits."""
        return normalising(self.logits, self.image_mean, self.image_std)


class SliceData(PixelData):
    """The splits of a data set of volumes: slices for training, whole volumes for evaluation.

    Args:
        dataset: a key of `resfu.data.DATASETS` whose samples are slices, or "package.module:Class" for one of your own.
        mean: the host's mean of each channel, for images in 0..1.
        std: the host's standard deviation of each channel, for images in 0..1.
        crop_size: (H, W), a square: the size at which the network gets a slice.
        scan_flip: reverse the second axis of a NIfTI scan's slices for prediction, and that of the labels back. For
            training data that were prepared in this way (`resfu prepare --flip`) and do not record their orientation;
            an orientation includes the reversal.
        scan_orientation: orientation of the training slices, such as "LAS". For prediction scans are turned to it, and
            their labels back, see `resfu.data.medical.geometry.Geometry`. "stored": the axes as stored in each file.
            None: the orientation recorded in the data and, in prediction, in the checkpoint.
        scan_spacing: (x, y, z) in mm of the training data, to which scans are resampled. None: as for the orientation.
        nonfinite: what to do about voxels that are NaN or infinite, in prediction and in data sets with such an
            argument: "error" (which `on_error` may skip) or "fill".
        fill_value: the value for "fill", in the units of the file; None: the lowest value, see `Nonfinite`.
        **shared: further arguments of `TrainingData`.

    Raises:
        ValueError: as `TrainingData`, and for a size that is no square.
    """

    evaluated: SliceDataset

    def __init__(
        self,
        dataset: str = "ct",
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        crop_size: tuple[int, int] = (224, 224),
        scan_flip: bool = False,
        scan_orientation: str | None = None,
        scan_spacing: tuple[float, float, float] | None = None,
        nonfinite: OnNonfinite = "error",
        fill_value: float | None = None,
        **shared: Any,
    ) -> None:
        arguments = plain_arguments(locals())
        if crop_size[0] != crop_size[1]:
            raise ValueError(f"slices are resized to a square, such as crop_size (224, 224); got {tuple(crop_size)}.")
        super().__init__(dataset, **shared)
        self.save_hyperparameters(arguments)
        known = inspect.signature(self.dataset_class).parameters
        damage = {"nonfinite": nonfinite, "fill_value": fill_value}
        for options in (self.train_options, self.eval_options):
            options |= {key: value for key, value in damage.items() if key in known and key not in options}
        self.input_size, self.scan_flip = crop_size[0], scan_flip
        self.geometry = Geometry(scan_orientation, scan_spacing)  # as far as it is known
        self.nonfinite = Nonfinite(nonfinite, fill_value)
        self.train_transform = slice_train_transform(crop_size, mean, std)
        self.eval_transform = slice_eval_transform(crop_size, mean, std)

    def open_files(self) -> Scans:
        """The scans to predict, as samples."""
        return Scans(
            self.images, self.dataset, self.input_size, self.scan_flip, self.on_error, nonfinite=self.nonfinite
        )

    def open_split(self, split: str, training: bool) -> SegmentationDataset:
        """Open a split, and record the orientation of its slices."""
        slices = super().open_split(split, training)
        assert isinstance(slices, SliceDataset)
        self.geometry = scan_geometry.of_data(self.geometry, slices, self.root)
        return slices

    def state_dict(self) -> dict[str, Any]:
        """The geometry of the slices, for a checkpoint."""
        return self.geometry.plain()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the geometry from a checkpoint, which is loaded after `setup`."""
        predicting = self.trainer is not None and self.trainer.state.fn == "predict"
        self.geometry = scan_geometry.of_checkpoint(self.geometry, Geometry(**state_dict), predicting)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every scan once, in the orientation of the training slices."""
        # Set here, because the checkpoint is read after `setup`.
        self.predicted.geometry = scan_geometry.for_scans(self.geometry, self.dataset_class, self.scan_flip)
        return super().predict_dataloader()

    def _measured(self) -> Cases:
        return Cases(self.evaluated, self.input_size)

    def _in_order(self, samples: Any, batch_size: int, collate: Callable[[list[Sample]], Any]) -> Any:
        # A volume is a batch of its own, read slice by slice in the process that predicts it.
        loader = super()._in_order(samples, 1, collate)
        loader.num_workers = 0
        return loader


class Volumes(LabelMaps):
    """Segmentation of volumes, slice by slice."""

    name = "volumes"
    small_recipe = "ct"
    seen_size = "the slices of a scan are resized to data.crop_size"
    module = VolumeModule
    data = SliceData
    counted = "volumes"
    written = "label volumes"
    row = "organ"
    lists_classes = True
    note = (
        "{count} volumes, means over organs; Dice in percent, after the convention {convention!r}; HD95 in voxels, of "
        "the organs that are labelled and found, and beside it by the convention, which gives the others a value too; "
        "missed: how often a labelled organ was not found at all"
    )
    class_note = (
        "Dice in percent (the higher the better) and HD95 in voxels (the lower), means over the volumes and seeds. "
        "HD95 is of the volumes in which the organ is labelled and found, by convention of all; missed: in how many it "
        "is labelled and not found."
    )

    def trains(self, host_task: str, dataset: str) -> bool:
        """Networks that label pixels belong to this task if the data set contains volumes."""
        return host_task in self.host_tasks and holds_volumes(dataset)

    def writer(self, folder: str, progress: bool, overlay: bool = False) -> PredictionWriter:
        """Write label volumes in the format of the scans."""
        if overlay:
            raise ValueError("--overlay is for label maps of photos: viewers show a label volume over its scan.")
        return LabelVolumeWriter(folder, progress)

    def contents(self, data: Any) -> Contents:
        """The organs, without the background, which is not measured."""
        return Contents(list(data.classes[1:]), data.palette[1:].tolist(), len(Cases(data.evaluated, 1)))

    def pictures(self, modules: dict[str, Any], data: Any, places: Sequence[int]) -> list[ImagePictures]:
        """Pictures of images of the evaluated split, with the predictions of each network."""
        hosts = {name: module.host for name, module in modules.items()}
        return label_map_pictures(hosts, labelled_slices(data.evaluated, data.input_size), places)

    def volumes(self, modules: dict[str, Any], data: Any) -> list[VolumePictures]:
        """Pictures of the first volumes, with the predictions of each network."""
        hosts = {name: module.host for name, module in modules.items()}
        device = next(next(iter(hosts.values())).parameters()).device
        with torch.no_grad():
            return volume_pictures(hosts, data.evaluated, data.input_size, device)
