"""Data modules of data sets with one label for each pixel, and the one for photos."""

from typing import Any

from torch import Tensor

from resfu.data import DATASETS, SegmentationDataset, Transform, create_dataset
from resfu.data.medical.base import SliceDataset
from resfu.data.registry import find_dataset
from resfu.data.transforms import eval_transform, train_transform
from resfu.tasks.photos import Photos
from resfu.training.arguments import plain_arguments
from resfu.training.data import TrainingData


def holds_volumes(dataset: str) -> bool:
    """Whether the samples of a data set are slices of volumes; False for an unknown data set.

    Raises:
        ValueError: for a class that cannot be imported.
    """
    known = dataset in DATASETS or ":" in dataset
    return known and issubclass(find_dataset(DATASETS, dataset), SliceDataset)


class PixelData(TrainingData):
    """Base class of the data modules whose samples have one label for each pixel.

    Attributes:
        train_transform: transform of the training samples.
        eval_transform: transform of all other samples.
    """

    train_transform: Transform
    eval_transform: Transform

    @property
    def dataset_class(self) -> type[SegmentationDataset]:
        """The class of the data set."""
        return find_dataset(DATASETS, self.dataset)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return self.dataset_class.describe(self.root, self.eval_options)[0]

    @property
    def palette(self) -> Tensor:
        """RGB of each class, uint8 [num_classes, 3]."""
        return self.dataset_class.describe(self.root, self.eval_options)[1]

    def open_split(self, split: str, training: bool) -> SegmentationDataset:
        """Open a split; its samples are augmented if `training`."""
        transform = self.train_transform if training else self.eval_transform
        options = self.train_options if training else self.eval_options
        return create_dataset(self.dataset, split, self.root, transform, **options)


class LabelMapData(PixelData):
    """The splits of a data set of photos and label maps.

    Args:
        dataset: a key of `resfu.data.DATASETS`, or "package.module:Class" for one of your own.
        mean: the host's mean of each channel, for images in 0..1.
        std: the host's standard deviation of each channel, for images in 0..1.
        crop_size: (H, W) of a training sample.
        scale_range: bounds of the factor by which a training sample is randomly resized.
        base_size: (long, short) side to which this factor is relative, such as (2048, 512) for ADE20K; None: the
            image's own size.
        flip: mirror training samples at random.
        photometric: distort the colours of training samples at random.
        cat_max_ratio: largest share of one class in a crop, if one of ten random crops satisfies it.
        longest_side: larger photos are downscaled to this for prediction, and `eval_size` is limited by it. Label maps
            still have the size of the file. None: no limit.
        eval_size: (long, short): bounds within which images are resized outside training, keeping their aspect ratio.
            Metrics and label maps stay at the original size. None: images are not resized.
        **shared: further arguments of `TrainingData`.

    Raises:
        ValueError: as `TrainingData`, and for a size, range or ratio that makes no sense.
    """

    def __init__(
        self,
        dataset: str = "scenes",
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        crop_size: tuple[int, int] = (512, 512),
        scale_range: tuple[float, float] = (0.5, 2.0),
        base_size: tuple[int, int] | None = None,
        flip: bool = True,
        photometric: bool = True,
        cat_max_ratio: float = 0.75,
        eval_size: tuple[int, int] | None = None,
        longest_side: int | None = None,
        **shared: Any,
    ) -> None:
        arguments = plain_arguments(locals())
        super().__init__(dataset, **shared)
        self.save_hyperparameters(arguments)
        self.train_transform = train_transform(
            crop_size, mean, std, scale_range, flip, photometric, cat_max_ratio, base_size
        )
        self.eval_transform = eval_transform(mean, std, eval_size)
        self.photo_transform = eval_transform(mean, std, eval_size, longest_side)

    def open_files(self) -> Photos:
        """The photos to predict, as samples."""
        return Photos(self.images, self.photo_transform, self.on_error)
