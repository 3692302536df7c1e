"""NIfTI scans as they come: turned by their affines, with odd headers and odd voxels named."""

import itertools

import nibabel
import numpy as np
import pytest

from resfu.data.medical.geometry import Geometry, read_geometry
from resfu.data.medical.nifti import CT_WINDOW, NiftiVolume
from resfu.data.medical.nonfinite import Nonfinite
from resfu.data.medical.resampling import ResampledVolume
from resfu.data.unreadable import UnreadableFileError

SHAPE = (4, 5, 6)  # (x, y, z) of the scan in RAS
SIDES = (0.8, 1.0, 3.0)
BODY = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def stored_as(codes, body=BODY):
    """One body in other axes, by hand: (array, affine)."""
    axes, signs = zip(*(LETTERS[code] for code in codes), strict=True)
    array, affine = body.transpose(axes), np.zeros((4, 4))
    affine[3, 3] = 1
    for place, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, place] = sign * SIDES[axis]
        if sign < 0:
            array = np.flip(array, place)
            affine[axis, 3] = SIDES[axis] * (body.shape[axis] - 1)
    return np.ascontiguousarray(array), affine


def save(path, codes="RAS", body=BODY, **changes):
    array, affine = stored_as(codes, body)
    nibabel.save(nibabel.Nifti1Image(array, changes.get("affine", affine)), path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIL", "SLA", "IRP"])
def test_one_body_stored_in_any_way_gives_one_volume_and_its_labels_go_back(tmp_path, codes, suffix):
    path = save(tmp_path / f"a{suffix}", codes)
    for wanted in ("LAS", "RAS", "PIR"):
        volume = NiftiVolume(path, orientation=wanted)
        array, _ = stored_as(wanted)
        assert volume.axes == codes
        assert np.array_equal(volume.image(), array.transpose(2, 0, 1))
        for index in (*range(len(volume)), 0, -1):
            assert np.array_equal(volume[index], array[:, :, index])
        with pytest.raises(IndexError):
            volume[len(volume)]
        assert volume.spacing == pytest.approx([SIDES[LETTERS[letter][0]] for letter in wanted])
        stored = np.asarray(nibabel.load(path).dataobj)
        assert np.array_equal(volume.as_stored(volume.labels()), stored.transpose(2, 0, 1))
        flipped = NiftiVolume(path, orientation=wanted, flip=True)
        assert np.array_equal(flipped[1], array[:, ::-1, 1])
        assert np.array_equal(flipped.as_stored(flipped.labels()), stored.transpose(2, 0, 1))


def test_scaled_voxels_are_scaled_where_the_file_is_held_in_memory(tmp_path):
    array, affine = stored_as("PIL")
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "a.nii.gz")
    wanted = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj)
    volume = NiftiVolume(tmp_path / "a.nii.gz", orientation="PIL")
    turned = NiftiVolume(tmp_path / "a.nii.gz", orientation="LPS")
    assert np.array_equal(volume.image(), wanted.transpose(2, 0, 1))
    assert np.array_equal(np.sort([turned[i] for i in range(6)], axis=None), np.sort(wanted, axis=None))


def bad_affine(row, values):
    affine = np.diag([-1.0, 1, 1, 1])
    affine[row] = values
    return affine


@pytest.mark.parametrize(
    ("codes", "affine", "message"),
    [
        ((0, 2), bad_affine(0, 0), "its affine has a zero or dependent row"),
        ((0, 2), bad_affine(1, [2, 0, 0, 0]), "its affine has a zero or dependent row"),
        ((0, 2), bad_affine(2, np.nan), "its affine holds NaN or infinity"),
        ((0, 2), bad_affine(2, [0, 0, 1, np.inf]), "its affine holds NaN or infinity"),
    ],
)
def test_an_affine_that_says_nothing_is_named(tmp_path, codes, affine, message):
    path = save(tmp_path / "a.nii")
    header = bytearray(path.read_bytes())
    header[252:256] = np.array(codes, "<i2").tobytes()
    header[280:328] = affine[:3].astype("<f4").tobytes()
    path.write_bytes(header)
    with pytest.raises(UnreadableFileError, match=rf"cannot read the volume .*a\.nii: {message}.*correct its header"):
        NiftiVolume(path)


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        (70, np.array([128, 24], "<i2"), "its voxels are RGB colours"),
        (70, np.array([32, 64], "<i2"), "its voxels are values of the type complex64"),
        (70, np.array([9999], "<i2"), "data code 9999 not recognized"),
        (116, np.array([np.nan], "<f4"), "invalid intercept"),
        (40, np.array([4, 4, 5, 2, 3], "<i2"), r"its shape is \(4, 5, 2, 3\), a series of volumes.*four_to_three"),
        (40, np.array([2, 4, 5], "<i2"), r"its shape is \(4, 5\); expected \(x, y, z\)"),
        (42, np.array([0], "<i2"), r"its shape is \(0, 5, 6\)"),
        (42, np.array([-4], "<i2"), r"its shape is \(-4, 5, 6\)"),
    ],
)
def test_an_odd_header_names_the_file(tmp_path, place, content, message):
    path = save(tmp_path / "a.nii")
    header = bytearray(path.read_bytes())
    if place == 116:
        header[112:116] = np.array([1], "<f4").tobytes()
    header[place : place + content.nbytes] = content.tobytes()
    path.write_bytes(header)
    with pytest.raises(UnreadableFileError, match=rf"cannot read the volume .*a\.nii: .*{message}"):
        NiftiVolume(path, orientation="LAS")


def test_a_series_of_one_is_a_volume(tmp_path):
    array, affine = stored_as("LPS")
    nibabel.save(nibabel.Nifti1Image(array[..., None], affine), tmp_path / "a.nii.gz")
    assert np.array_equal(NiftiVolume(tmp_path / "a.nii.gz")[2], array[:, :, 2])


def tilted(degrees):
    angle = np.radians(degrees)
    affine = np.diag([-1.0, -1, 2, 1])
    affine[1:3, 1:3] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ affine[1:3, 1:3]
    return affine


def test_oblique_axes_are_said_or_refused(tmp_path):
    for degrees, doubts in ((3, 0), (12, 1)):
        volume = NiftiVolume(save(tmp_path / "a.nii", affine=tilted(degrees)), orientation="LAS")
        assert len(volume.doubts) == doubts
    assert "are oblique, 12 degrees away from the patient's" in volume.doubts[0]
    path = save(tmp_path / "b.nii", affine=tilted(30))
    with pytest.raises(UnreadableFileError, match=r"b\.nii: its axes are oblique, 30 degrees.*scan_orientation stored"):
        NiftiVolume(path, orientation="LAS")
    assert NiftiVolume(path, orientation="stored").doubts == ()


def test_a_header_without_orientation_is_said(tmp_path):
    path = save(tmp_path / "a.nii")
    header = bytearray(path.read_bytes())
    header[252:256] = bytes(4)
    path.write_bytes(header)
    (doubt,) = NiftiVolume(path, orientation="RAS").doubts
    assert "a.nii gives no orientation" in doubt
    assert "assumed to be LAS" in doubt


def odd_scan(path):
    body = BODY.astype(np.float32)
    body[0, 0, 1], body[1, 1, 2], body[2, 2, 2] = np.nan, np.inf, -np.inf
    return save(path, body=body), body


def test_voxels_that_are_not_finite_are_counted_or_filled(tmp_path):
    path, body = odd_scan(tmp_path / "a.nii.gz")
    message = (
        r"cannot read the volume .*a\.nii\.gz: 3 of the 120 voxels of .*a\.nii\.gz are NaN or infinite\. .*--nonfinite"
    )
    volume = NiftiVolume(path)
    assert np.array_equal(volume[0], body[:, :, 0])
    for read in (lambda: volume[1], volume.image, volume.finite_range):
        with pytest.raises(UnreadableFileError, match=message):
            read()
    least = body[np.isfinite(body)].min()
    for window, value, expected in ((None, None, least), (None, -5.0, -5), (CT_WINDOW, None, 0), (CT_WINDOW, 75, 0.5)):
        volume = NiftiVolume(path, window, nonfinite=Nonfinite("fill", value))
        with pytest.warns(
            UserWarning, match=r"3 of the 120 voxels of .*a\.nii\.gz are NaN or infinite: they are replaced"
        ):
            filled = [volume[index] for index in range(6)]
        assert [filled[1][0, 0], filled[2][1, 1], filled[2][2, 2]] == pytest.approx([expected] * 3)
        assert np.array_equal(volume.image(), filled)  # said once
    assert volume.finite_range()[0] == least


def test_a_scan_without_one_finite_voxel_cannot_be_filled(tmp_path):
    path = save(tmp_path / "a.nii", body=np.full(SHAPE, np.nan, np.float32))
    for policy in (Nonfinite(), Nonfinite("fill")):
        with pytest.raises(UnreadableFileError, match=r"a\.nii: all its voxels are NaN or infinite"):
            NiftiVolume(path, nonfinite=policy)[0]


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="nonfinite must be 'error' or 'fill', got 'mend'"):
        Nonfinite("mend")  # pyright: ignore[reportArgumentType]
    for arguments in (("error", 0.0), ("fill", float("nan"))):
        with pytest.raises(ValueError, match="needs nonfinite 'fill', and must be finite"):
            Nonfinite(*arguments)
    for wrong in ("LAX", "LRS", "LA", "las", "LASS"):
        with pytest.raises(ValueError, match=f"an orientation is three letters.*got '{wrong}'"):
            Geometry(wrong)
    for wrong in ((1, 1), (1, 1, 0), (1, 1, float("inf"))):
        with pytest.raises(ValueError, match="a spacing is three distances above 0"):
            Geometry("LAS", wrong)


def test_every_orientation_is_accepted_and_flipped(tmp_path):
    for pairs in itertools.permutations(("LR", "PA", "IS")):
        for letters in itertools.product(*pairs):
            flipped = Geometry("".join(letters)).flipped().orientation
            assert flipped[::2] == letters[0] + letters[2]
            assert {flipped[1], letters[1]} == set(pairs[1])
    (tmp_path / "geometry.json").write_text('{"orientation": "LAX", "spacing": null}')
    with pytest.raises(ValueError, match=r"geometry\.json does not give the geometry of the scans"):
        read_geometry(tmp_path)


@pytest.mark.parametrize("codes", ["LAS", "PIL"])
def test_another_spacing_is_linear_between_the_voxels(tmp_path, codes):
    x, y, z = (np.arange(n) * side for n, side in zip((20, 16, 10), SIDES, strict=True))
    body = (3 * x[:, None, None] + 5 * y[:, None] + 7 * z).astype(np.float32)
    volume = NiftiVolume(save(tmp_path / "a.nii.gz", codes, body), orientation="LAS")
    resampled = ResampledVolume(volume, (1.6, 0.5, 2.0))
    assert resampled.shape == (15, 10, 32)
    assert len(resampled) == 15
    image = resampled.image()
    # Away from the border, the plane itself at the new centres; x runs from right to left.
    places = [(np.arange(n) + 0.5) * extent / n for n, extent in zip((10, 32, 15), (16, 16, 30), strict=True)]
    new_x, new_y, new_z = (place - side / 2 for place, side in zip(places, SIDES, strict=True))
    expected = 3 * new_x[::-1][:, None] + 5 * new_y[None] + 7 * new_z[:, None, None]
    assert np.allclose(image[1:-1, 1:-1, 1:-1], expected[1:-1, 1:-1, 1:-1], atol=1e-3)
    labels = (image > np.median(image)).astype(np.uint8)
    there = resampled.labels_there(labels)
    assert there.shape == volume.shape
    assert np.mean(there == (volume.image() > np.median(image))) > 0.95
    same = ResampledVolume(volume, volume.spacing)
    assert np.array_equal(same.image(), volume.image())
    assert np.array_equal(same.labels_there(there), there)
    with pytest.raises(UnreadableFileError, match=r"a\.nii\.gz: its spacing is .* check the spacing"):
        ResampledVolume(volume, (1e-4, 1, 1))
