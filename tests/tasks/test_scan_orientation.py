"""`resfu predict` on one scan that is stored in several ways, and on scans that hold odd voxels."""

import h5py
import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from resfu.cli import main
from resfu.data.generated.volumes import CT, Cardiac, ct_volume
from resfu.data.medical.geometry import Geometry
from resfu.data.medical.nonfinite import Nonfinite
from resfu.evaluation.volume_inference import predict_volume
from resfu.tasks.scans import Scan
from resfu.tasks.volumes import VolumeModule
from tests.support.medical_fixtures import write_medical_fixture

SIZE = (4, 40, 32)


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # Lightning's seeding writes there


def command(word, *words):
    with torch.random.fork_rng(devices=[]):
        return main([word, *map(str, words), "--trainer.accelerator", "cpu"])


def train(folder, *words):
    """A run of one step whose network then gives many labels, each by what it sees where."""
    fit = ["--model.host", "efficientnet-lite0", "--model.upsampler", "bilinear", "--data.batch_size", "4"]
    fit += [
        "--data.crop_size",
        "[32, 32]",
        "--run",
        folder / "run",
        "--trainer.max_steps",
        "1",
    ]
    fit += ["--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]
    assert command("fit", *fit, *words) == 0
    path = folder / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name, value in content["state_dict"].items():
        if name.startswith("host.") and value.is_floating_point() and value.dim() == 4:
            value.normal_(0, 1.4 / value[0].numel() ** 0.5, generator=generator)
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def synapse(tmp_path_factory):
    """A checkpoint on prepared data, which say LAS."""
    folder = tmp_path_factory.mktemp("synapse")
    root = write_medical_fixture("synapse", folder / "data", count=1, size=SIZE)
    return train(folder, "--data.dataset", "synapse", "--data.root", root)


def save(path, codes, values=None):
    """The first generated scan, which lies as CT says it does, in other axes; as a file."""
    body = ct_volume(0, "test", 0, SIZE)[0].astype(np.float32) if values is None else values
    affine = np.array([[0, -0.8, 0, 20], [-0.8, 0, 0, 30], [0, 0, 3, -40], [0, 0, 0, 1.0]])  # PLS
    image = nibabel.Nifti1Image(body.transpose(1, 2, 0), affine)
    assert "".join(nibabel.aff2axcodes(affine)) == CT.assumed.orientation == Cardiac.assumed.orientation
    image = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(codes)))
    nibabel.save(image, path)
    return path


def in_axes(path, codes):
    image = nibabel.load(path)
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    return np.asarray(image.dataobj).transpose(2, 0, 1)


def expected(checkpoint, slices):
    """The labels of slices in HU [D, H, W], by the network itself."""
    content = torch.load(checkpoint, weights_only=True)
    task = VolumeModule(**content["hyper_parameters"])
    task.load_state_dict(content["state_dict"])
    host = task.host.eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (host.mean, host.std))
    windowed = (np.clip(slices, -125, 275) + 125) / 400
    return predict_volume(lambda images: host((images - mean) / std), windowed.astype(np.float32), size=32)


def predict(checkpoint, scan, output, *words):
    return command("predict", scan, "--output", output, "--ckpt_path", checkpoint, *words)


@pytest.mark.parametrize("name", ["a.nii", "A.NII.GZ"])
def test_one_scan_stored_in_three_ways_gets_the_same_labels(synapse, tmp_path, name):
    found = {}
    for codes in ("LPS", "RAS", "PIL"):
        (tmp_path / codes).mkdir()
        scan = save(tmp_path / codes / name, codes)
        assert predict(synapse, scan, tmp_path / f"{codes}-out") == 0
        labels = nibabel.load(tmp_path / f"{codes}-out" / name)
        assert np.allclose(labels.affine, nibabel.load(scan).affine)
        assert labels.shape == nibabel.load(scan).shape
        found[codes] = in_axes(tmp_path / f"{codes}-out" / name, "LAS")
    wanted = expected(synapse, in_axes(tmp_path / "RAS" / name, "LAS"))
    assert len(np.unique(wanted)) > 2
    assert not np.array_equal(wanted, expected(synapse, in_axes(tmp_path / "RAS" / name, "RAS"))[:, ::-1])
    for labels in found.values():
        assert np.array_equal(labels, wanted)


def test_a_setting_goes_before_the_checkpoint(synapse, tmp_path):
    scan = save(tmp_path / "a.nii", "RPS")
    for setting, axes in (("stored", "RPS"), ("PLS", "PLS")):
        assert predict(synapse, scan, tmp_path / setting, "--data.scan_orientation", setting) == 0
        assert np.array_equal(in_axes(tmp_path / setting / "a.nii", axes), expected(synapse, in_axes(scan, axes)))


def test_an_orientation_in_a_checkpoint_of_resfu_0_1_counts(synapse, tmp_path):
    content = torch.load(synapse, weights_only=True)
    content["SegmentationData"] = content.pop("SliceData") | {"orientation": "PLS"}
    content["datamodule_hyper_parameters"] |= {"scan_orientation": None, "augmentation": "slice"}
    old = tmp_path / "old.ckpt"
    torch.save(content, old)
    scan = save(tmp_path / "a.nii", "RAS")
    assert predict(old, scan, tmp_path / "out") == 0
    assert np.array_equal(in_axes(tmp_path / "out" / "a.nii", "PLS"), expected(old, in_axes(scan, "PLS")))


@pytest.mark.parametrize("flip", [False, True])
def test_a_checkpoint_without_an_orientation_is_said_once_and_taken_as_the_default(synapse, tmp_path, flip):
    content = torch.load(synapse, weights_only=True)
    assert content.pop("SliceData") == {"orientation": "LAS", "spacing": None}
    for key in ("scan_orientation", "scan_spacing", "nonfinite", "fill_value"):
        del content["datamodule_hyper_parameters"][key]
    old = tmp_path / "old.ckpt"
    torch.save(content, old)
    scan = save(tmp_path / "a.nii", "RAS")
    axes = "LPS" if flip else "LAS"
    with pytest.warns(UserWarning, match=f"does not say how the scans .* lay: {axes} is assumed") as caught:
        assert predict(old, scan, tmp_path / "out", "--data.scan_flip", str(flip).lower()) == 0
    assert sum("is assumed" in str(warning.message) for warning in caught) == 1
    assert np.array_equal(in_axes(tmp_path / "out" / "a.nii", axes), expected(old, in_axes(scan, axes)))


def test_generated_scans_are_known_to_lie_as_they_do(tmp_path):
    options = ["--data.options", '{"size": [4, 32, 32], "count": 1}', "--data.root", tmp_path / "cache"]
    checkpoint = train(tmp_path, "--data.dataset", "ct", *options)
    for codes in ("PLS", "LPS"):
        scan = save(tmp_path / f"{codes}.nii", codes)
        assert predict(checkpoint, scan, tmp_path / "out") == 0
        assert np.array_equal(in_axes(tmp_path / "out" / scan.name, "PLS"), expected(checkpoint, in_axes(scan, "PLS")))


def test_data_that_lie_otherwise_than_those_of_the_training_are_refused(synapse, tmp_path, capsys):
    root = write_medical_fixture("synapse", tmp_path / "data", count=1, size=SIZE)
    (root / "geometry.json").write_text('{"orientation": "LPS", "spacing": null}')
    words = ["--ckpt_path", synapse, "--data.root", root, "--trainer.enable_progress_bar", "false"]
    assert command("test", *words) == 2
    assert "the orientation of the scans is LPS by the data or" in capsys.readouterr().err
    assert command("test", *words, "--data.scan_orientation", "LAS") == 2
    assert (
        f"is LAS by data.scan_orientation and data.scan_spacing but LPS by the data in {root}"
        in capsys.readouterr().err
    )


def test_a_scan_is_resampled_to_the_spacing_of_the_training_and_back(tmp_path):
    scan = save(tmp_path / "a.nii", "RAS")
    geometry = Geometry("LAS", (1.6, 0.4, 1.5))
    resampled = Scan(scan, "ct", False, "raise", geometry)
    assert len(resampled) == 8
    assert resampled[0].shape == (16, 80)
    torch.manual_seed(0)
    labels = resampled.predict(torch.nn.Conv2d(3, 4, 1), 32, torch.device("cpu"))
    resampled.write(labels, tmp_path / "labels.nii")
    written = nibabel.load(tmp_path / "labels.nii")
    assert written.shape == nibabel.load(scan).shape
    assert np.allclose(written.affine, nibabel.load(scan).affine)
    assert len(np.unique(labels)) > 1
    # Each voxel of the scan has the label of the voxel of the network's grid that its centre is in.
    assert np.array_equal(in_axes(tmp_path / "labels.nii", "LAS"), labels[1::2, :, 1::2].repeat(2, 1)[:, :, :40])


def spoiled():
    values = ct_volume(0, "test", 0, SIZE)[0].astype(np.float32)
    values[:, 3, 4] = np.nan
    return values


def test_voxels_that_are_not_finite_stop_are_skipped_or_filled(synapse, tmp_path, capsys):
    bad, good = save(tmp_path / "bad.nii.gz", "LAS", spoiled()), save(tmp_path / "good.nii.gz", "LAS")
    message = f"4 of the {np.prod(SIZE)} voxels of {bad} are NaN or infinite"
    assert predict(synapse, bad, tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert (
        command("predict", bad, good, "--output", tmp_path / "out", "--ckpt_path", synapse, "--on-error", "skip") == 0
    )
    assert f"resfu: skipped: cannot read the volume {bad}: {message}" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.nii.gz"]
    for words, value in ((), -125), (("--fill-value", "40"), 40):
        with pytest.warns(UserWarning, match=f"are NaN or infinite: they are replaced by {value}"):
            assert predict(synapse, bad, tmp_path / "filled", "--nonfinite", "fill", *words) == 0
        wanted = expected(synapse, np.nan_to_num(in_axes(bad, "LAS"), nan=value))
        assert np.array_equal(in_axes(tmp_path / "filled" / bad.name, "LAS"), wanted)


def test_magnetic_resonance_is_filled_with_its_least_finite_value(tmp_path):
    values = spoiled()
    values[0, 0, 0] = np.inf
    scan = Scan(save(tmp_path / "a.nii", "PLS", values), "acdc", False, "raise", nonfinite=Nonfinite("fill"))
    low, high = values[np.isfinite(values)].min(), values[np.isfinite(values)].max()
    with pytest.warns(UserWarning, match=f"they are replaced by {low:g}"):
        found = np.stack([scan[index] for index in range(4)])
    filled = np.where(np.isfinite(values), values, low)
    assert np.allclose(found, (filled - low) / (high - low), atol=1e-6)


def test_odd_headers_are_skipped_by_name(synapse, tmp_path, capsys):
    good = save(tmp_path / "good.nii", "LAS")
    header = bytearray(good.read_bytes())
    files = [good]
    for name, place, content in (
        ("affine", 280, bytes(16)),
        ("nan", 280, b"\x00\x00\xc0\x7f"),
        ("rgb", 70, b"\x80\x00"),
    ):
        changed = header.copy()
        changed[place : place + len(content)] = content
        files.append(tmp_path / f"{name}.nii")
        files[-1].write_bytes(changed)
    words = ["--output", tmp_path / "out", "--ckpt_path", synapse]
    assert command("predict", *files, *words, "--on-error", "skip") == 0
    captured = capsys.readouterr()
    assert captured.out.endswith(": 1\n")
    assert all(f"resfu: skipped: cannot read the volume {file}: " in captured.err for file in files[1:])
    for file in files[1:]:
        assert command("predict", file, *words) == 2
        assert f"cannot read the volume {file}: " in capsys.readouterr().err


def test_prepared_files_are_read_by_their_names_in_capitals_too(synapse, tmp_path):
    prepared = np.random.default_rng(0).random((3, 40, 30), dtype=np.float32)
    with h5py.File(tmp_path / "C.NPY.H5", "w") as file:
        file["image"] = prepared
    with (tmp_path / "D.NPZ").open("wb") as file:
        np.savez(file, image=prepared)
    words = ["--output", tmp_path / "out", "--ckpt_path", synapse]
    assert command("predict", tmp_path / "C.NPY.H5", tmp_path / "D.NPZ", *words) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["C.NPY.H5", "D.NPZ"]
    with h5py.File(tmp_path / "out" / "C.NPY.H5") as h5, np.load(tmp_path / "out" / "D.NPZ") as npz:
        assert np.array_equal(h5["label"], npz["label"])
