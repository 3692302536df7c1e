"""Scans to label volumes: by `resfu predict`, in the scan's own format, in bounded memory, with damage named."""

import tracemalloc

import h5py
import nibabel
import numpy as np
import pytest
import torch
from rich.progress import Progress

from resfu.cli import main
from resfu.data.image_files import UnreadableFileError
from resfu.evaluation.volume_inference import predict_volume
from resfu.tasks.label_volume_files import LabelVolumeWriter
from resfu.tasks.scans import Scan, Scans
from resfu.tasks.volumes import VolumeModule
from tests.support.medical_fixtures import write_medical_fixture

AFFINE = np.array([[-0.8, 0, 0.1, 12], [0, 0.8, 0, -30], [0.05, 0, 3, 7], [0, 0, 0, 1.0]])
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # Lightning's seeding writes there


def nifti(path, shape=(4, 20, 24), values=(-400, 600)):
    """A scan [z, x, y] in whole numbers."""
    scan = RNG.integers(*values, shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(scan.transpose(1, 2, 0), AFFINE), path)
    return scan


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A run on procedural CT, of one step."""
    folder = tmp_path_factory.mktemp("run")
    words = ["fit", "--model.host", "efficientnet-lite0", "--model.upsampler", "bilinear", "--data.dataset", "ct"]
    words += ["--data.root", str(folder / "cache"), "--data.options", '{"size": [4, 32, 32], "count": 1}']
    words += ["--data.crop_size", "[32, 32]", "--data.batch_size", "4"]
    words += [
        "--run",
        str(folder / "run"),
        "--trainer.accelerator",
        "cpu",
        "--trainer.max_steps",
        "1",
        "--trainer.enable_progress_bar",
        "false",
    ]
    words += ["--trainer.logger", "false"]
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            patch.setenv(name, "0")
        assert main(words) == 0
    return folder / "run" / "checkpoints" / "last.ckpt"


def predict(checkpoint, *words):
    with torch.random.fork_rng(devices=[]):
        return main(["predict", *map(str, words), "--ckpt_path", str(checkpoint), "--trainer.accelerator", "cpu"])


def expected(checkpoint, slices):
    """The labels of slices in 0..1 [D, H, W], by the network itself."""
    content = torch.load(checkpoint, weights_only=True)
    host = VolumeModule(**content["hyper_parameters"])
    host.load_state_dict(content["state_dict"])
    host = host.host.eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (host.mean, host.std))
    return predict_volume(lambda images: host((images - mean) / std), slices.astype(np.float32), size=32)


def test_a_folder_of_scans_becomes_label_volumes(checkpoint, tmp_path, capsys):
    scans, output = tmp_path / "scans", tmp_path / "labels"
    scans.mkdir()
    hounsfield = {name: nifti(scans / name) for name in ("a.nii.gz", "b.nii")}
    prepared = RNG.random((3, 40, 30), dtype=np.float32)
    with h5py.File(scans / "c.npy.h5", "w") as file:
        file["image"] = prepared
    np.savez(scans / "d.npz", image=prepared)
    (scans / "notes.txt").write_text("no scan")
    assert predict(checkpoint, scans, "--output", output) == 0
    assert capsys.readouterr().out.endswith(f"label volumes in {output}: 4\n")
    for name, values in hounsfield.items():
        labels = nibabel.load(output / name)
        assert np.allclose(labels.affine, AFFINE, atol=1e-6)
        windowed = (np.clip(values, -125, 275) + 125) / 400
        # The file is LAS; a slice of the generated training scans is [y, x], from front to back: PLS.
        seen = expected(checkpoint, windowed.transpose(0, 2, 1)[:, ::-1])
        assert np.array_equal(np.asarray(labels.dataobj).transpose(2, 0, 1), seen[:, ::-1].transpose(0, 2, 1))
    with h5py.File(output / "c.npy.h5") as file:
        assert np.array_equal(file["label"], expected(checkpoint, prepared))
    with np.load(output / "d.npz") as file:
        assert np.array_equal(file["label"], expected(checkpoint, prepared))


def test_damage_is_named_and_stops_or_is_skipped(checkpoint, tmp_path, capsys):
    nifti(tmp_path / "good.nii.gz")
    nifti(tmp_path / "cut.nii.gz", shape=(8, 40, 40))
    pixels = (tmp_path / "cut.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(pixels[: len(pixels) // 2])  # the header is whole
    (tmp_path / "empty.nii").write_bytes(b"")
    files = [tmp_path / name for name in ("cut.nii.gz", "empty.nii", "good.nii.gz")]
    output = tmp_path / "labels"
    for bad in files[:2]:
        assert predict(checkpoint, bad, "--output", output) == 2
        assert f"cannot read the volume {bad}" in capsys.readouterr().err
    assert predict(checkpoint, *files, "--output", output, "--on-error", "skip") == 0
    captured = capsys.readouterr()
    assert captured.out.endswith(f"label volumes in {output}: 1\n")
    assert all(f"resfu: skipped: cannot read the volume {bad}" in captured.err for bad in files[:2])
    assert [path.name for path in output.iterdir()] == ["good.nii.gz"]
    assert predict(checkpoint, files[1], "--output", output, "--on-error", "skip") == 2
    assert "no scan could be read, of 1;" in capsys.readouterr().err


def test_what_would_be_lost_or_is_no_scan_is_refused(checkpoint, tmp_path, capsys):
    scan = nifti(tmp_path / "a.nii.gz")
    assert predict(checkpoint, tmp_path / "a.nii.gz", "--output", tmp_path) == 2
    assert "would overwrite it: choose another --output" in capsys.readouterr().err
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj).transpose(2, 0, 1), scan)
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"photo\.png is no scan: a network that was trained on 'ct' takes"):
        Scans([tmp_path / "photo.png"], "ct", 32, False, "raise")
    (tmp_path / "more").mkdir()
    nifti(tmp_path / "more" / "a.nii.gz")
    with pytest.raises(ValueError, match=r"several scans are called a\.nii\.gz"):
        Scans([tmp_path / "a.nii.gz", tmp_path / "more"], "ct", 32, False, "raise")


@pytest.mark.parametrize("dataset", ["ct", "synapse"])
def test_ct_is_clipped_to_its_window(dataset, tmp_path):
    values = nifti(tmp_path / "a.nii.gz")
    scan = Scan(tmp_path / "a.nii.gz", dataset, False, "raise")
    wanted = (np.clip(values, -125, 275) + 125) / 400
    assert np.allclose([scan[i] for i in range(len(scan))], wanted, atol=1e-6)


def test_magnetic_resonance_is_scaled_from_its_least_to_its_largest_value(tmp_path):
    values = nifti(tmp_path / "heart.nii.gz", values=(3, 900))
    scan = Scan(tmp_path / "heart.nii.gz", "acdc", False, "raise")
    wanted = (values - values.min()) / (values.max() - values.min())
    assert np.allclose([scan[i] for i in range(len(scan))], wanted, atol=1e-6)
    nifti(tmp_path / "flat.nii.gz", values=(3, 4))
    with pytest.raises(UnreadableFileError, match=r"flat\.nii\.gz: its values reach from 3\.0 to 3\.0"):
        Scan(tmp_path / "flat.nii.gz", "acdc", False, "raise")[0]


def test_flipped_data_are_flipped_there_and_back(tmp_path):
    values = nifti(tmp_path / "a.nii")
    scan = Scan(tmp_path / "a.nii", "acdc", True, "raise")
    wanted = (values - values.min()) / (values.max() - values.min())
    assert np.allclose(scan[2], wanted[2, :, ::-1], atol=1e-6)
    labels = np.arange(4 * 20 * 24).reshape(4, 20, 24).astype(np.uint8)
    scan.write(np.ascontiguousarray(labels[..., ::-1]), tmp_path / "labels.nii")
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "labels.nii").dataobj).transpose(2, 0, 1), labels)


def test_an_acdc_volume_is_a_scan(tmp_path):
    root = write_medical_fixture("acdc", tmp_path / "root", count=1, size=(3, 32, 32))
    file = root / "test" / "case_003_volume_ED.npz"
    with np.load(file) as stored:
        assert np.array_equal(Scan(file, "acdc", False, "raise")[1], stored["img"][1])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".npy.h5"])
def test_beyond_the_labels_the_memory_does_not_grow_with_the_depth(tmp_path, suffix):
    """From reading to writing; the labels may be there twice while they are stored."""
    peaks = []
    side, depths = 64, (8, 72)
    for depth in depths:
        path = tmp_path / f"{depth}{suffix}"
        if suffix == ".npy.h5":
            with h5py.File(path, "w") as file:
                image = RNG.random((depth, side, side), dtype=np.float32)
                file.create_dataset("image", data=image, chunks=(1, side, side))
                del image
        else:
            nifti(path, shape=(depth, side, side))
        predict_one(path, tmp_path / f"labels{suffix}")  # what is imported or cached once does not count
        tracemalloc.start()
        predict_one(path, tmp_path / f"labels{suffix}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    labels = (depths[1] - depths[0]) * side * side
    assert peaks[1] - peaks[0] < 2.1 * labels  # the slices themselves, in float32, are four times as large


def predict_one(path, target):
    scan = Scan(path, "ct" if path.suffix == ".h5" else "acdc", False, "raise")
    network = torch.nn.Conv2d(3, 4, 1)
    scan.write(scan.predict(network, 32, torch.device("cpu")), target)


def test_the_bar_counts_slices(tmp_path):
    nifti(tmp_path / "a.nii")
    writer = LabelVolumeWriter(tmp_path / "out")
    writer._bar = Progress(disable=True)
    scan = Scan(tmp_path / "a.nii", "acdc", False, "raise")
    writer.on_predict_batch_start(None, None, {"volume": scan}, 0)  # pyright: ignore[reportArgumentType]
    scan.predict(torch.nn.Conv2d(3, 4, 1), 16, torch.device("cpu"))
    (row,) = writer._bar.tasks
    assert (row.description, row.completed, row.total) == ("a.nii", 4, 4)
