"""The label maps that are written for photos."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from resfu.data.image_files import read_image
from resfu.files.atomic import replacing
from resfu.tasks.files import check_output
from resfu.tasks.legend import over_photo
from resfu.tasks.writing import PredictionWriter


class LabelMapWriter(PredictionWriter):
    """Write each predicted label map as a palette PNG: the stored numbers are the classes.

    Args:
        folder: where `NAME.png` goes; made when it is not there.
        overlay: write `NAME.overlay.jpg` too: the classes over the photo, with a legend.

    Raises:
        OSError: when the folder or a file cannot be written.
        ValueError: for a folder among the photos to predict, or `overlay` without colours; at the end, when not one
            image could be read.
    """

    def __init__(self, folder: str | Path, overlay: bool = False) -> None:
        super().__init__(folder)
        self.overlay = overlay

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder before the work begins."""
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        self._photos: dict[str, Path] = data.predicted.found
        self.make_folder()
        check_output(data.images, self._photos, self.folder, ".png")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the maps of a batch, or note the image that could not be read."""
        if "error" in batch:
            self.skipped.append(batch["error"])
            return
        for name, label_map in zip(batch["name"], outputs["label_map"], strict=True):
            picture = Image.fromarray(label_map.numpy())
            palette = getattr(pl_module, "palette", None)
            if palette is not None:
                picture.putpalette([value for colour in palette for value in colour])
            self.written.append(self.folder / f"{name}.png")
            with replacing(self.written[-1]) as draft:
                picture.save(draft)
            if self.overlay:
                if palette is None:
                    raise ValueError("this checkpoint does not keep the colours of its classes: leave --overlay out.")
                shown = over_photo(read_image(self._photos[name]), label_map, pl_module.class_names, palette)  # pyright: ignore
                with replacing(self.folder / f"{name}.overlay.jpg") as draft:
                    Image.fromarray(shown).save(draft, quality=90)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a run that had nothing to show."""
        self.check_written()
