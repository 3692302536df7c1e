import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torchvision.transforms.v2.functional import resize_image

from resfu.tasks.photos import LabelMapWriter, Photos, find_images
from resfu.training.quiet import known_warnings_ignored


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("b.png", (14, 18)), ("a.JPG", (9, 21))):
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(place / name)
    (place / "notes.txt").write_text("not an image")
    return place


def predict(task, data, output):
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[writer := LabelMapWriter(output)],
    )
    with known_warnings_ignored():
        trainer.predict(task, datamodule=data, return_predictions=False)
    return writer


def test_files_and_folders_are_listed(folder):
    (folder / "._a.JPG").write_bytes(b"\0\5\x16\7")  # macOS's note beside a copy
    assert [path.name for path in find_images([folder])] == ["a.JPG", "b.png"]
    assert find_images([folder / "b.png"]) == [folder / "b.png"]


@pytest.mark.parametrize(
    ("places", "error", "message"),
    [
        ([], ValueError, "no images to predict"),
        (["absent.png"], FileNotFoundError, "no image or folder .*absent.png"),
        (["empty"], ValueError, "folder .*empty holds no image"),
        (["photos", "photos/b.png"], ValueError, "several images are called b"),
    ],
)
def test_bad_places_are_refused(folder, places, error, message):
    (folder.parent / "empty").mkdir()
    with pytest.raises(error, match=message):
        find_images([folder.parent / place for place in places])


def test_label_maps_hold_the_classes_and_show_the_palette(toy_task, toy_data, folder, tmp_path):
    task = toy_task()
    task.palette = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    writer = predict(task, toy_data(images=[str(folder)]), tmp_path / "out" / "deep")
    assert [path.name for path in writer.written] == ["a.png", "b.png"]
    for source, written in zip(("a.JPG", "b.png"), writer.written, strict=True):
        pixels = torch.from_numpy(np.array(Image.open(folder / source)).astype(np.float32)).permute(2, 0, 1)
        expected = task.eval()((pixels[None] / 255 - 0.5) / 0.25).argmax(1)[0]
        with Image.open(written) as picture:
            assert picture.mode == "P"
            assert np.array_equal(np.array(picture), expected.numpy())
            colours = np.array(picture.convert("RGB"))
        assert np.array_equal(colours, np.array(task.palette, dtype=np.uint8)[expected.numpy()])


def test_label_maps_have_the_size_of_the_photo_when_the_network_sees_another(toy_task, toy_data, folder, tmp_path):
    task = toy_task()
    writer = predict(task, toy_data(images=[str(folder)], eval_size=(42, 28)), tmp_path / "out")
    seen = {"a": ((9, 21), [18, 42]), "b": ((14, 18), [28, 36])}
    assert [path.stem for path in writer.written] == list(seen)
    for source, written in zip(("a.JPG", "b.png"), writer.written, strict=True):
        size, fitted = seen[written.stem]
        pixels = torch.from_numpy(np.array(Image.open(folder / source))).permute(2, 0, 1)
        image = (resize_image(pixels, fitted, antialias=True)[None] / 255 - 0.5) / 0.25
        with torch.no_grad():
            logits = task.eval()(image)
        expected = torch.nn.functional.interpolate(logits, size=size, mode="bilinear").argmax(1)[0]
        with Image.open(written) as picture:
            assert np.array_equal(np.array(picture), expected.numpy())


def test_a_corrupt_image_stops_the_run_or_is_skipped(toy_task, toy_data, folder, tmp_path):
    whole = (folder / "b.png").read_bytes()
    (folder / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cannot read the image .*c\.png"):
        predict(toy_task(), toy_data(images=[str(folder)]), tmp_path / "out")
    writer = predict(toy_task(), toy_data(images=[str(folder)], on_error="skip"), tmp_path / "out")
    assert [path.name for path in writer.written] == ["a.png", "b.png"]
    assert len(writer.skipped) == 1
    assert "c.png" in writer.skipped[0]
    with pytest.raises(ValueError, match=r"no image could be read, of 1; .*c\.png"):
        predict(toy_task(), toy_data(images=[str(folder / "c.png")], on_error="skip"), tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_named(toy_task, toy_data, folder):
    with pytest.raises(OSError, match=r"cannot make the folder .*b\.png.out .*choose another"):
        predict(toy_task(), toy_data(images=[str(folder)]), folder / "b.png" / "out")


def test_samples_have_a_size_and_no_label(folder):
    photos = Photos([folder], lambda sample: sample, "raise")
    assert len(photos) == 2
    assert photos[1].keys() == {"image", "name", "size"}
    assert photos[1]["size"] == (14, 18)
    assert photos[1]["name"] == "b"
    assert tuple(photos[1]["image"].shape) == (3, 14, 18)
