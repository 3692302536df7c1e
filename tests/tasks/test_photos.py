import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torchvision.transforms.v2.functional import resize_image

from resfu.data.image_files import PHOTO_SUFFIXES
from resfu.tasks.experiment import Experiment
from resfu.tasks.files import find_files
from resfu.tasks.label_map_files import LabelMapWriter
from resfu.tasks.photos import Photos
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
    assert [path.name for path in find_files([folder], PHOTO_SUFFIXES, "image").values()] == ["a.JPG", "b.png"]
    assert find_files([folder / "b.png"], PHOTO_SUFFIXES, "image") == {"b": folder / "b.png"}


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
        find_files([folder.parent / place for place in places], PHOTO_SUFFIXES, "image")


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


def test_label_maps_lie_the_way_up_that_the_photo_is_shown(toy_task, toy_data, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.rot90(pixels, -1)).save(tmp_path / "straight.png")
    task, data = toy_task(), toy_data(images=[str(tmp_path / "turned.png"), str(tmp_path / "straight.png")])
    turned, straight = (np.array(Image.open(path)) for path in predict(task, data, tmp_path / "out").written)
    assert turned.shape == (20, 12)
    assert np.array_equal(turned, straight)


def test_no_picture_in_a_folder_is_passed_over(tmp_path):
    names = ["a.avif", "b.GIF", "c.heic", "d.jfif", "e.jp2"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in find_files([tmp_path], PHOTO_SUFFIXES, "image").values()] == names


def test_larger_photos_are_shrunk_for_the_network_and_others_not(toy_task, toy_data, folder, tmp_path):
    task = toy_task()
    writer = predict(task, toy_data(images=[str(folder)], longest_side=18), tmp_path / "out")
    for source, written, seen in zip(("a.JPG", "b.png"), writer.written, ([8, 18], [14, 18]), strict=True):
        pixels = torch.from_numpy(np.array(Image.open(folder / source))).permute(2, 0, 1)
        image = (resize_image(pixels, seen, antialias=True)[None] / 255 - 0.5) / 0.25
        with torch.no_grad():
            logits = task.eval()(image)
        expected = torch.nn.functional.interpolate(logits, size=pixels.shape[-2:], mode="bilinear").argmax(1)[0]
        with Image.open(written) as picture:
            assert np.array_equal(np.array(picture), expected.numpy())


def test_a_bound_for_photos_is_refused_for_scans():
    with pytest.raises(ValueError, match=r"unknown key data\.longest_side"):
        Experiment({"model": {"host": "transunet-small"}, "data": {"dataset": "ct", "longest_side": 64}})
