import numpy as np
import pytest
import torch
from PIL import Image

from resfu.visualize import Heat, Panel, save_sheet

pytest.importorskip("matplotlib", reason="needs the extra viz")


def flat(colour, size=(8, 16)):
    return np.full((*size, 3), colour, np.uint8)


def drawn(path):
    with Image.open(path) as sheet:
        return np.asarray(sheet.convert("RGB"))


def test_panels_stand_in_a_grid_below_their_titles(tmp_path):
    rows = [
        [Panel(flat((255, 0, 0)), "red"), Panel(flat((0, 0, 255), (4, 8)), "blue")],
        [None, Panel(flat((0, 255, 0)), "")],
    ]
    path = save_sheet(rows, "title", tmp_path / "new" / "sheet.png")
    assert path == tmp_path / "new" / "sheet.png"
    pixels = drawn(path)
    # places of 360 x 180, the first panel's shape, with a line of 22 above each; the sheet's title takes 24
    assert pixels.shape == (12 + 24 + 2 * (22 + 180 + 12), 12 + 2 * (360 + 12), 3)
    assert (pixels[58:238, 12:372] == (255, 0, 0)).all()
    assert (pixels[58:238, 384:744] == (0, 0, 255)).all()
    assert (pixels[272:452, 384:744] == (0, 255, 0)).all()
    assert (pixels[272:452, 12:372] == 255).all()  # the empty place
    assert (pixels[36:58, 12:372] < 128).any()  # a title is there
    assert (pixels[250:272, 384:744] == 255).all()  # and none where it is empty


def test_captions_take_a_line_each_and_long_words_are_cut(tmp_path):
    panel = Panel(flat((9, 9, 9)), "a title that is a good deal longer than its picture, " * 3)
    pixels = drawn(save_sheet([[panel]], "title " * 30, tmp_path / "sheet.png", "where from\ncosts 1 $ or 2 $"))
    assert pixels.shape == (12 + 3 * 24 + 22 + 180 + 12, 360 + 2 * 12, 3)
    assert (pixels[:, -12:] == 255).all()
    assert (pixels[12:36, 300:372] < 128).any()  # cut near the end


def test_enlarging_keeps_pixels_sharp(tmp_path):
    checks = np.zeros((2, 2, 3), np.uint8)
    checks[0, 0] = checks[1, 1] = 255
    pixels = drawn(save_sheet([[Panel(checks, "")]], "", tmp_path / "sheet.png"))[58 : 58 + 360, 12 : 12 + 360]
    assert set(np.unique(pixels)) == {0, 255}
    assert (pixels[:180, :180] == 255).all()
    assert (pixels[:180, 180:] == 0).all()


def test_pictures_of_other_shapes_keep_theirs_and_marks_are_where_they_belong(tmp_path):
    wide, tall = flat((0, 0, 0), (10, 20)), flat((255, 0, 0), (20, 10))
    pixels = drawn(save_sheet([[Panel(wide, "", [(4, 3, "i")]), Panel(tall, "")]], "", tmp_path / "sheet.png"))
    red = (pixels == (255, 0, 0)).all(-1)
    assert red.sum() == 180 * 90
    row, column = 58 + round(4.5 * 18), 12 + round(3.5 * 18)
    assert (pixels[row - 2 : row + 2, column - 2 : column + 2] > 250).all()


def test_heat_has_colours_by_value_and_a_bar(tmp_path):
    heat = Heat(torch.tensor([[0.0, 0.5], [1.0, 0.25]]), "kernel", numbers=True, limits=(0.0, 1.0))
    pixels = drawn(save_sheet([[Panel(flat((0, 0, 0), (2, 2)), ""), heat]], "", tmp_path / "sheet.png"))
    part = pixels[58 : 58 + 302, 384 : 384 + 302].astype(int)
    corners = [part[5, 5], part[5, -5], part[-5, 5], part[-5, -5]]
    assert (part[5, 5] == (68, 1, 84)).all()  # viridis from end to end
    assert np.abs(part[-5, 5] - (253, 231, 37)).max() <= 1
    brightness = [corner.sum() for corner in corners]
    assert brightness[0] < brightness[3] < brightness[1] < brightness[2]
    assert len(np.unique(pixels[58 : 58 + 302, 384 + 308 : 384 + 316].reshape(-1, 3), axis=0)) > 50


def test_an_empty_sheet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one picture"):
        save_sheet([[None]], "", tmp_path / "sheet.png")
