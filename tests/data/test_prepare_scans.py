"""Raw scans that lie in several ways or hold odd voxels, prepared alike or named."""

import gzip
import json

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from resfu.cli import main
from resfu.data import ACDC, Synapse
from resfu.data.medical.geometry import Geometry, read_geometry
from resfu.data.medical.nonfinite import Nonfinite
from resfu.data.medical.prepare import prepare_acdc, prepare_synapse
from tests.support.medical_fixtures import write_medical_fixture

SIZE = (4, 40, 32)
WRITERS = {"synapse": (Synapse, prepare_synapse), "acdc": (ACDC, prepare_acdc)}


@pytest.fixture
def raw(tmp_path):
    return write_medical_fixture("synapse-nifti", tmp_path / "raw", count=1, size=SIZE)


@pytest.fixture
def hearts(tmp_path):
    return write_medical_fixture("acdc-nifti", tmp_path / "hearts", count=1, size=SIZE)


def scan(raw, number, kind="img"):
    return raw / "RawData" / "Training" / kind / f"{kind}{number:04d}.nii.gz"


def splits(raw):
    return json.loads((raw / "splits.json").read_text())


def change(path, codes=None, values=None, affine=None):
    """Store a scan anew: in other axes, with other values, or with another affine."""
    image = nibabel.load(path)
    if codes is not None:
        image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    array = np.asarray(image.dataobj) if values is None else values(np.asarray(image.dataobj).astype(np.float32))
    nibabel.save(nibabel.Nifti1Image(array, image.affine if affine is None else affine(image.affine)), path)


def slices(root, split="train", dataset=Synapse):
    return [(sample["image"].numpy(), sample["label"].numpy()) for sample in dataset(split, root)]


def same(one, two):
    return all(
        np.array_equal(a, b) for first, second in zip(one, two, strict=True) for a, b in zip(first, second, strict=True)
    )


def test_scans_in_several_orientations_are_prepared_as_one(raw, tmp_path):
    straight = prepare_synapse(raw, tmp_path / "straight", splits=splits(raw))
    assert read_geometry(straight) == Geometry("LAS")
    for kind in ("img", "label"):
        change(scan(raw, 2, kind), codes="PIR")
    mixed = prepare_synapse(raw, tmp_path / "mixed", splits=splits(raw))
    assert read_geometry(mixed) == Geometry("LAS")
    for kind in ("img", "label"):  # now the first would give no axial slices
        change(scan(raw, 1, kind), codes="PIL")
    turned = prepare_synapse(raw, tmp_path / "turned", splits=splits(raw))
    for split in ("train", "test"):
        assert same(slices(straight, split), slices(mixed, split))
        assert same(slices(straight, split), slices(turned, split))
    rows = prepare_synapse(raw, tmp_path / "rows", splits=splits(raw), geometry=Geometry("RPS"))
    assert read_geometry(rows) == Geometry("RPS")
    expected = [(image[..., ::-1, ::-1], label[::-1, ::-1]) for image, label in slices(straight)]
    assert same(slices(rows), expected)
    stored = prepare_synapse(raw, tmp_path / "stored", splits=splits(raw), geometry=Geometry("stored"))
    assert len(slices(stored)) == SIZE[1]  # PIL: the slices follow the file's last axis, from right to left


def test_reversing_the_last_axis_is_an_orientation(raw, tmp_path):
    words = ["prepare", "synapse", str(raw), "--splits", str(raw / "splits.json")]
    assert main([*words, str(tmp_path / "flipped"), "--flip"]) == 0
    assert main([*words, str(tmp_path / "given"), "--orientation", "LPS"]) == 0
    assert Synapse("train", tmp_path / "flipped").geometry == Geometry("LPS")
    assert Synapse("test", tmp_path / "given").geometry == Geometry("LPS")
    assert same(slices(tmp_path / "flipped"), slices(tmp_path / "given"))


def test_scans_are_resampled_to_one_spacing(raw, hearts, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["prepare", "synapse", str(raw), str(out), "--splits", str(raw / "splits.json")]
    assert main([*words, "--spacing", "1.6x0.4x6"]) == 0
    assert read_geometry(out) == Geometry("LAS", (1.6, 0.4, 6.0))
    found = slices(out)
    assert len(found) == 2
    assert found[0][0].shape == (3, 20, 64)
    assert found[0][1].shape == (20, 64)
    assert {number for _, label in found for number in np.unique(label)} >= {0, 1, 5}
    hearts_out = prepare_acdc(hearts, tmp_path / "h", splits=splits(hearts), geometry=Geometry("LPS", (2.8, 2.8, 10)))
    assert slices(hearts_out, dataset=ACDC)[0][1].shape == (20, 16)
    assert main([*words, "--spacing", "1.6"]) == 2
    assert "expected XxYxZ in mm" in capsys.readouterr().err


def spoil(values):
    values[3, 4, 1], values[5, 6, 1] = np.nan, np.inf
    return values


@pytest.mark.parametrize("name", ["synapse", "acdc"])
def test_voxels_that_are_not_finite_are_counted_skipped_or_filled(name, raw, hearts, tmp_path, capsys):
    folder = {"synapse": raw, "acdc": hearts}[name]
    path = scan(raw, 1) if name == "synapse" else hearts / "training" / "patient001" / "patient001_frame01.nii.gz"
    dataset, prepare = WRITERS[name]
    change(path, values=spoil)
    words = ["prepare", name, str(folder), "--splits", str(folder / "splits.json")]
    assert main([*words, str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"2 of the {np.prod(SIZE)} voxels of {path} are NaN or infinite" in error
    assert "--nonfinite fill" in error
    with pytest.warns(UserWarning, match="2 of the .* The case is left out"):
        prepare(folder, tmp_path / "left", splits=splits(folder) | {"train": [1]}, on_error="skip")
    for value, expected in ((None, 0), (1e5, 1)):
        out = tmp_path / str(value)
        with pytest.warns(UserWarning, match="2 of the .* voxels .* are NaN or infinite: they are replaced by"):
            prepare(folder, out, splits=splits(folder), nonfinite=Nonfinite("fill", value))
        images = [image for image, _ in slices(out, dataset=dataset)]
        assert all(np.isfinite(image).all() for image in images)
        assert images[1][0, 3, 4] == images[1][0, 5, 6] == expected


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (lambda a: a + np.outer([1, 0, 0, 0], [0, 0, 0, 50]), r"lies up to 50\.0 mm away .*origin \(50, 0, 0\)"),
        (lambda a: a @ np.diag([2, 2, 2, 1]), r"spacing \(1\.6, 1\.6, 6\), where the image has .*\(0\.8, 0\.8, 3\)"),
    ],
)
def test_a_label_that_lies_elsewhere_is_refused_or_said(raw, tmp_path, affine, message):
    straight = prepare_synapse(raw, tmp_path / "straight", splits=splits(raw))
    change(scan(raw, 1, "label"), affine=affine)
    with pytest.raises(ValueError, match=rf"label0001\.nii\.gz .*{message}.*--on-mismatch warn"):
        prepare_synapse(raw, tmp_path / "out", splits=splits(raw))
    with pytest.warns(UserWarning, match=r"label0001.* The case is left out"):
        prepare_synapse(raw, tmp_path / "left", splits=splits(raw), on_error="skip")
    with pytest.warns(UserWarning, match=r"label0001.*matched voxel by voxel"):
        warned = prepare_synapse(raw, tmp_path / "warned", splits=splits(raw), on_mismatch="warn")
    assert same(slices(straight), slices(warned))
    with pytest.raises(ValueError, match="on_mismatch must be 'raise' or 'warn', got 'no'"):
        prepare_synapse(raw, tmp_path / "no", splits=splits(raw), on_mismatch="no")  # pyright: ignore[reportArgumentType]


def test_headers_of_one_grid_may_differ_by_rounding(raw, tmp_path):
    change(scan(raw, 1, "label"), affine=lambda a: a + 1e-4)
    assert len(slices(prepare_synapse(raw, tmp_path / "out", splits=splits(raw)))) == SIZE[0]


def test_an_odd_affine_is_named_or_skipped(raw, tmp_path):
    header = bytearray(gzip.decompress(scan(raw, 1).read_bytes()))
    header[280:296] = bytes(16)
    scan(raw, 1).write_bytes(gzip.compress(header))
    with pytest.raises(ValueError, match=r"img0001\.nii\.gz: its affine has a zero or dependent row"):
        prepare_synapse(raw, tmp_path / "out", splits=splits(raw))
    with pytest.warns(UserWarning, match=r"img0001.* The case is left out"):
        out = prepare_synapse(raw, tmp_path / "left", splits=splits(raw), on_error="skip")
    assert len(slices(out, "test")) == SIZE[0]
    assert read_geometry(out) == Geometry("LAS")


@pytest.mark.parametrize("name", ["synapse", "acdc"])
def test_prepared_slices_that_are_not_finite_are_named_skipped_or_filled(name, tmp_path):
    root = write_medical_fixture(name, tmp_path / "data", count=1, size=SIZE)
    dataset = WRITERS[name][0]
    path = dataset("train", root).volumes[1].path
    with np.load(path) as stored:
        arrays = dict(stored)
    key = "image" if name == "synapse" else "img"
    arrays[key][0, 0] = np.nan
    np.savez(path, **arrays)
    message = rf"1 of the 1280 voxels of .*{path.name} are NaN or infinite"
    with pytest.raises(ValueError, match=message):
        dataset("train", root)[1]
    data = dataset("train", root, on_error="skip")
    with pytest.warns(UserWarning, match=rf"{message}.*The next readable slice"):
        assert data[1]["name"] == data[2]["name"]
    data = dataset("train", root, nonfinite="fill", fill_value=0.25)
    with pytest.warns(UserWarning, match=rf"{message}: they are replaced by 0\.25"):
        assert data[1]["image"][0, 0, 0] == 0.25
