import pytest
import torch
from lightning.pytorch import Trainer
from torchvision.transforms.v2.functional import resize_image

from resfu.data import create_dataset
from resfu.tasks.label_maps import LabelMapData
from resfu.training.data import pixel_batch
from resfu.training.quiet import known_warnings_ignored
from tests.support.label_fixtures import write_fixture


def test_batches_of_every_stage(toy_data):
    data = toy_data(batch_size=4, eval_batch_size=3)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [tuple(batch["image"].shape) for batch in batches] == [(4, 3, 16, 16)]
    assert batches[0]["image"].dtype == torch.float32
    assert batches[0]["label"].dtype == torch.int64
    assert set(batches[0]["name"]) <= {f"train-{i}" for i in range(6)}
    names = [name for batch in data.val_dataloader() for name in batch["name"]]
    assert names == [f"val-{i}" for i in range(6)]
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert batch["name"] == ["test-0", "test-1", "test-2"]
    raw = create_dataset("toy", "test")[1]
    torch.testing.assert_close(batch["image"][1], (raw["image"] / 255 - 0.5) / 0.25)
    assert torch.equal(batch["label"][1], raw["label"])


def test_options_reach_their_splits(toy_data):
    data = toy_data(options={"count": 4}, eval_options={"count": 3}, train_split="val", val_split="train")
    data.setup("fit")
    assert len(data.trained) == 4
    assert len(data.evaluated) == 3
    assert data.trained[0]["name"] == "val-0"
    assert data.evaluated[0]["name"] == "train-0"


def test_damaged_files_are_skipped_in_the_splits_too(tmp_path):
    root = write_fixture("camvid", tmp_path / "camvid", count=2, size=(32, 32))
    for split in ("train", "val", "test"):
        (root / "images" / split / "0000.png").write_bytes(b"not a picture")

    def make(**options):
        return LabelMapData("camvid", mean=(0, 0, 0), std=(1, 1, 1), root=str(root), crop_size=(32, 32), **options)

    data = make(on_error="skip")
    data.setup("fit")
    splits = [data.trained, data.evaluated]
    data.setup("test")
    for dataset in (*splits, data.evaluated):
        with pytest.warns(UserWarning, match=r"0000\.png"):
            assert dataset[0]["name"] == "0001"
    data = make(on_error="skip", eval_options={"on_error": "raise"})
    data.setup("fit")
    with pytest.raises(ValueError, match=r"cannot read the image .*0000\.png"):
        data.evaluated[0]
    assert data.hparams["on_error"] == "skip"


def test_augmentation_is_for_training_alone(toy_data):
    data = toy_data(crop_size=(16, 20), scale_range=(1.0, 1.0), flip=False, photometric=False, cat_max_ratio=1.0)
    data.setup("fit")
    plain = {sample["name"]: sample for sample in create_dataset("toy", "train", transform=data.eval_transform)}
    for batch in data.train_dataloader():  # nothing is left to chance, so the images are as they were
        for image, label, name in zip(batch["image"], batch["label"], batch["name"], strict=True):
            torch.testing.assert_close(image, plain[name]["image"])
            assert torch.equal(label, plain[name]["label"])


def test_images_of_several_sizes_do_not_share_a_batch():
    samples = [{"image": torch.zeros(3, 4, 4 + i), "label": torch.zeros(4, 4 + i), "name": f"n{i}"} for i in range(2)]
    with pytest.raises(
        ValueError, match=r"images of a batch, that of 'n0' among them, have sizes \[\(4, 4\), \(4, 5\)\]: crop"
    ):
        pixel_batch(samples)


def test_images_within_bounds_are_measured_at_the_size_of_their_labels(toy_task, toy_data):
    data = toy_data(eval_size=(64, 32), base_size=(40, 24), crop_size=(24, 24))
    assert data.hparams["base_size"] == (40, 24)
    assert data.hparams["eval_size"] == (64, 32)
    task = toy_task().eval()
    with known_warnings_ignored():
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        trainer.validate(task, datamodule=data, verbose=False)
    right = counted = 0
    for sample in create_dataset("toy", "val"):
        image = resize_image(sample["image"].as_subclass(torch.Tensor), [32, 40], antialias=True)
        with torch.no_grad():
            logits = task.host((image[None] / 255 - 0.5) / 0.25)
        label = sample["label"].as_subclass(torch.Tensor)
        assert label.shape == (16, 20)
        prediction = torch.nn.functional.interpolate(logits, size=(16, 20), mode="bilinear").argmax(1)[0]
        right += int(((prediction == label) & (label != 255)).sum())
        counted += int((label != 255).sum())
    assert counted == 6 * 16 * 18
    assert task.results["aacc"] == pytest.approx(100 * right / counted)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["label"].shape == (2, 24, 24)
    assert {len(item["label"][0]) for item in data.evaluated} == {20}


def test_labels_of_several_sizes_do_not_share_a_batch():
    samples = [{"image": torch.zeros(3, 4, 4), "label": torch.zeros(4, 4 + i), "name": f"n{i}"} for i in range(2)]
    with pytest.raises(
        ValueError, match=r"labels of a batch, that of 'n0' among them, have sizes \[\(4, 4\), \(4, 5\)\]: crop"
    ):
        pixel_batch(samples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an int from 1, got 0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be an int from 1"),
        ({"num_workers": -1}, "num_workers must be an int from 0"),
        ({"crop_size": (0, 4)}, "size"),
        ({"base_size": (4, 8)}, "larger one first"),
        ({"eval_size": (4, 8)}, "larger one first"),
    ],
)
def test_bad_arguments_are_refused(toy_data, options, message):
    with pytest.raises(ValueError, match=message):
        toy_data(**options)


def test_unknown_and_missing_data():
    common = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    with pytest.raises(ValueError, match=r"unknown dataset 'citycapes'; choose one of .*camvid"):
        LabelMapData("citycapes", **common)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        LabelMapData("camvid", root="nowhere", **common).setup("fit")


def test_overfitting_on_a_few_batches_is_refused_with_another_way(toy_task, toy_data):
    trainer = Trainer(accelerator="cpu", overfit_batches=1, max_steps=1, logger=False, enable_progress_bar=False)
    with (
        known_warnings_ignored(),
        pytest.warns(UserWarning, match="requested to overfit"),
        pytest.raises(ValueError, match="train_options a small count"),
    ):
        trainer.fit(toy_task(), datamodule=toy_data())
