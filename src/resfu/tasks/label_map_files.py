"""Writing of predicted label maps of photos."""

from pathlib import Path
from typing import Any

from PIL import Image

from resfu.data.image_files import read_image
from resfu.files.atomic import replacing
from resfu.tasks.files import check_output
from resfu.tasks.legend import over_photo
from resfu.tasks.writing import PredictionWriter


class LabelMapWriter(PredictionWriter):
    """Writes each predicted label map as a palette PNG, whose stored numbers are the classes.

    Args:
        folder: folder for the files `NAME.png`; created if needed.
        overlay: also write `NAME.overlay.jpg`, with the classes over the photo and a legend.

    Raises:
        OSError: when the folder or a file cannot be written.
        ValueError: for a folder that contains photos to predict, or `overlay` without colours; at the end, if no image
            could be read.
    """

    def __init__(self, folder: str | Path, overlay: bool = False) -> None:
        super().__init__(folder)
        self.overlay = overlay

    def begin(self, trainer: Any, module: Any) -> None:
        """See `PredictionWriter`."""
        super().begin(trainer, module)
        self._photos: dict[str, Path] = trainer.datamodule.predicted.found
        check_output(trainer.datamodule.images, self._photos, self.folder, ".png")

    def write(self, batch: dict[str, Any], found: Any, module: Any) -> list[Path]:
        """Write the label maps of a batch."""
        files = []
        for name, label_map in zip(batch["name"], found["label_map"], strict=True):
            picture = Image.fromarray(label_map.numpy())
            palette = getattr(module, "palette", None)
            if palette is not None:
                picture.putpalette([value for colour in palette for value in colour])
            files.append(self.folder / f"{name}.png")
            with replacing(files[-1]) as draft:
                picture.save(draft)
            if self.overlay:
                if palette is None:
                    raise ValueError("this checkpoint does not keep the colours of its classes: leave --overlay out.")
                shown = over_photo(read_image(self._photos[name]), label_map, module.class_names, palette)
                with replacing(self.folder / f"{name}.overlay.jpg") as draft:
                    Image.fromarray(shown).save(draft, quality=90)
        return files
