"""Every kind of image file: the pixels that a viewer shows, or a line that names the file."""

import io

import numpy as np
import pytest
from PIL import Image

from resfu.data.coco import CocoInstances
from resfu.data.image_files import UnreadableFileError, read_colours, read_image, read_label
from resfu.data.pixels import turn_back
from tests.support.coco_fixture import write_coco_fixture

RAMP = np.array([[0, 1, 100], [128, 254, 255]], dtype=np.uint8)
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
# EXIF 2.3, "the 0th row and the 0th column of what is stored are the ... side of what is seen".
SEEN = {
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.swapaxes(0, 1)[::-1],  # left, bottom
}


@pytest.fixture
def saved(tmp_path):
    """Save a picture; give its path."""

    def save(image, name="photo.png", orientation=None, **options):
        if orientation is not None:
            exif = Image.Exif()
            exif[0x0112] = orientation
            options["exif"] = exif
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def grey(pixels):
    return np.repeat(np.asarray(pixels)[..., None], 3, axis=-1)


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("name", ["photo.png", "photo.tif", "photo.webp"])
def test_photos_are_turned_as_viewers_turn_them(orientation, name, saved):
    options = {"lossless": True} if name.endswith("webp") else {}
    path = saved(COLOURS, name, orientation, **options)
    shown = read_image(path)
    assert np.array_equal(shown, SEEN[orientation](COLOURS))
    assert np.array_equal(turn_back(shown, orientation), COLOURS)
    assert turn_back(shown, orientation).flags.c_contiguous


def test_jpeg_and_avif_are_turned(saved):
    smooth = np.kron(COLOURS[:2, :3], np.ones((16, 16, 1), np.uint8))
    for name in ("photo.jpg", "photo.avif"):
        turned = read_image(saved(smooth, name, 6, quality=95)).astype(int)
        assert turned.shape == (48, 32, 3)
        assert np.abs(turned - SEEN[6](smooth)).mean() < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00no data", b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01"])
def test_a_photo_with_damaged_exif_data_is_shown_as_stored(exif, saved):
    assert read_image(saved(COLOURS, "photo.jpg", exif=exif)).shape == COLOURS.shape


def test_an_orientation_that_does_not_exist_turns_nothing(saved):
    assert np.array_equal(read_image(saved(COLOURS, orientation=9)), COLOURS)


@pytest.mark.parametrize("name", ["photo.png", "photo.tif", "photo.pgm"])
def test_16_bits_span_black_to_white(name, saved):
    wide = RAMP.astype(np.uint16) * 257
    wide[0, 1] += 100  # of 257: nearer to 1 than to 2
    assert np.array_equal(read_image(saved(wide, name)), grey(RAMP))


def test_16_bit_colours_keep_their_upper_8_bits(tmp_path):
    # Pillow writes none: a binary PPM by hand.
    wide = (COLOURS.astype(">u2") * 257).tobytes()
    (tmp_path / "photo.ppm").write_bytes(b"P6 6 4 65535\n" + wide)
    assert np.array_equal(read_image(tmp_path / "photo.ppm"), COLOURS)


def test_16_bits_of_a_tiff_whose_white_is_zero(saved):
    negative = (255 - RAMP.astype(np.uint16)) * 257
    assert np.array_equal(read_image(saved(negative, "photo.tif", tiffinfo={262: 0})), grey(RAMP))


def test_floats_from_0_to_1_span_black_to_white(saved):
    assert np.array_equal(read_image(saved(RAMP.astype(np.float32) / 255, "photo.tif")), grey(RAMP))


@pytest.mark.parametrize("values", [[[0.0, 200.0]], [[-0.5, 0.5]], [[0.2, np.nan]], [[0.0, np.inf]]])
def test_other_floats_are_refused(values, saved):
    path = saved(np.array(values, dtype=np.float32), "photo.tif")
    with pytest.raises(UnreadableFileError, match=r"photo\.tif: its floating point values .* scale them"):
        read_image(path)


def test_32_bit_numbers_are_refused(saved):
    with pytest.raises(UnreadableFileError, match=r"photo\.tif: its values are signed or 32-bit.*save 8 or 16"):
        read_image(saved(np.array([[0, 70_000]], dtype=np.int32), "photo.tif"))


def test_transparent_parts_are_white_and_others_keep_their_colour(saved):
    pixels = np.array([[[200, 10, 30, 255], [1, 2, 3, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    shown = np.array([[[200, 10, 30], [255, 255, 255], [127, 127, 127]]])
    assert np.array_equal(read_image(saved(pixels)), shown)
    with_grey = np.array([[[9, 255], [9, 0]]], dtype=np.uint8)
    assert np.array_equal(read_image(saved(Image.fromarray(with_grey, "LA"))), grey([[9, 255]]))


def test_a_palette_with_a_transparent_entry_is_white_there(saved):
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    shown = np.array([[[10, 20, 30], [255, 255, 255], [70, 80, 90]]])
    for name in ("photo.png", "photo.gif"):
        assert np.array_equal(read_image(saved(image, name, transparency=1)), shown)
    assert np.array_equal(read_label(saved(image, transparency=1)), [[0, 1, 2]])  # a label stays what it is


def test_a_transparent_colour_is_white(saved):
    assert np.array_equal(read_image(saved(RAMP, transparency=100))[0, 2], [255] * 3)
    wide = saved(RAMP.astype(np.uint16) * 257, transparency=25700)
    assert np.array_equal(read_image(wide), grey(np.where(RAMP == 100, 255, RAMP)))
    colour = tuple(COLOURS[0, 0].tolist())
    assert np.array_equal(read_image(saved(COLOURS, transparency=colour))[0], [[255] * 3, *COLOURS[0, 1:]])


def test_a_picture_of_nothing_is_refused(saved):
    with pytest.raises(UnreadableFileError, match=r"photo\.png: it is fully transparent"):
        read_image(saved(np.zeros((2, 2, 4), dtype=np.uint8)))


def test_cmyk_becomes_rgb(saved):
    inks = np.zeros((16, 32, 4), dtype=np.uint8)
    inks[:, :16, 0] = 255  # cyan beside bare paper
    for name in ("photo.jpg", "photo.tif"):
        shown = read_image(saved(Image.fromarray(inks, "CMYK"), name)).astype(int)
        assert np.abs(shown[8, 4] - [0, 255, 255]).max() <= 3
        assert np.abs(shown[8, 28] - 255).max() <= 3


@pytest.mark.parametrize("name", ["photo.gif", "photo.png", "photo.webp", "photo.tif", "photo.avif"])
def test_animations_and_stacks_are_refused_and_single_pictures_not(name, saved):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (0, 120, 240)]
    assert read_image(saved(frames[1], name)).shape == (8, 8, 3)
    path = saved(frames[0], name, save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableFileError, match=r"photo\.\w+: it holds 3 pictures .*save the picture"):
        read_image(path)


def test_further_pictures_of_the_same_photo_are_left_aside(saved):
    photo, depth = Image.fromarray(COLOURS), Image.fromarray(COLOURS[::2, ::2])
    path = saved(photo, "photo.jpg", format="MPO", save_all=True, append_images=[depth])
    assert read_image(path).shape == COLOURS.shape
    preview = Image.fromarray(COLOURS[::2, ::2])
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    path = saved(photo, "photo.tif", save_all=True, append_images=[preview])
    assert np.array_equal(read_image(path), COLOURS)


def test_a_format_without_a_reader_is_named(tmp_path):
    (tmp_path / "photo.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(20))
    with pytest.raises(UnreadableFileError, match=r"photo\.heic: .*format that Pillow does not read.*PNG or JPEG"):
        read_image(tmp_path / "photo.heic")


# --- photos with labels


@pytest.mark.parametrize("orientation", SEEN)
def test_the_size_of_the_labels_says_what_they_were_drawn_on(orientation, saved):
    path, shown = saved(COLOURS, orientation=orientation), SEEN[orientation](COLOURS)
    assert np.array_equal(read_image(path, shown.shape[:2], "stored" if orientation > 4 else "shown"), shown)
    if orientation > 4:
        assert np.array_equal(read_image(path, COLOURS.shape[:2]), COLOURS)
    else:  # both fit, so it is said
        assert np.array_equal(read_image(path, COLOURS.shape[:2], "stored"), COLOURS)


def test_labels_of_another_size_leave_the_photo_as_shown(saved):
    assert read_image(saved(COLOURS, orientation=6), (9, 9)).shape == (6, 4, 3)


@pytest.fixture
def turned_coco(tmp_path, monkeypatch):
    """The fixture; then each photo of "val" gets an orientation, with its stored pixels as they were."""
    monkeypatch.setenv("RESFU_CACHE", str(tmp_path / "cache"))
    root = write_coco_fixture(tmp_path / "coco", 1, (32, 48))
    straight = CocoInstances("val", root)[0]

    def turn(orientation):
        for path in (root / "val2017").iterdir():
            exif = Image.Exif()
            exif[0x0112] = orientation
            buffer = io.BytesIO()
            Image.open(path).save(buffer, "PNG", exif=exif)
            path.write_bytes(buffer.getvalue())  # Pillow reads the content, whatever the name says
        return root

    return straight, turn


def test_coco_photos_lie_under_their_masks(turned_coco):
    straight, turn = turned_coco
    root = turn(3)
    shown, stored = CocoInstances("val", root)[0], CocoInstances("val", root, labelled_as="stored")[0]
    assert np.array_equal(shown["image"], np.asarray(straight["image"])[:, ::-1, ::-1])
    assert np.array_equal(stored["image"], straight["image"])
    for sample in (shown, stored):
        assert np.array_equal(sample["target"]["masks"], straight["target"]["masks"])
    # The JSON has the size of the stored pixels.
    assert np.array_equal(CocoInstances("val", turn(6))[0]["image"], straight["image"])
    with pytest.raises(ValueError, match="labelled_as must be 'shown' or 'stored', got 'raw'"):
        CocoInstances("val", root, labelled_as="raw")


def test_colours_that_are_numbers_are_not_blended(saved):
    pixels = np.dstack([COLOURS, np.full(COLOURS.shape[:2], 7, np.uint8)])
    assert np.array_equal(read_colours(saved(pixels)), COLOURS)
    assert np.array_equal(read_colours(saved(Image.fromarray(COLOURS).quantize(256))), COLOURS)
    with pytest.raises(ValueError, match=r"photo\.png has Pillow mode 'L'; its colours stand for numbers"):
        read_colours(saved(RAMP))
