import numpy as np
import pytest

from resfu.visualize import Panel, draw_sheet


def flat(colour, size=(8, 16)):
    return np.full((*size, 3), colour, np.uint8)


def test_panels_stand_in_a_grid_with_captions():
    sheet = draw_sheet(
        [
            [Panel(flat((255, 0, 0)), "red"), Panel(flat((0, 0, 255), (4, 8)), "blue")],
            [None, Panel(flat((0, 255, 0)), "")],
        ],
        title="",
        panel_height=40,
        gap=10,
    )
    pixels = np.asarray(sheet)
    # width 80: the first panel's shape; rows of 40 + 24 for the caption + gap
    assert sheet.size == (10 + 2 * 90, 10 + 2 * 74)
    assert (pixels[10:50, 10:90] == (255, 0, 0)).all()
    assert (pixels[10:50, 100:180] == (0, 0, 255)).all()
    assert (pixels[84:124, 100:180] == (0, 255, 0)).all()
    assert (pixels[84:124, 10:90] == 255).all()  # the empty place
    assert (pixels[50:74, 10:90] < 128).any()  # a caption is there
    assert (pixels[124:, 100:180] == 255).all()  # and none where it is empty


def test_title_takes_a_line_and_long_words_are_cut():
    panel = Panel(flat((9, 9, 9)), "a caption that is a good deal longer than its picture")
    sheet = draw_sheet([[panel]], title="title " * 30, panel_height=30)
    assert sheet.size == (10 + 70, 10 + 34 + 64)
    assert (np.asarray(sheet)[:, -10:] == 255).all()


def test_enlarging_keeps_pixels_sharp():
    checks = np.zeros((2, 2, 3), np.uint8)
    checks[0, 0] = checks[1, 1] = 255
    pixels = np.asarray(draw_sheet([[Panel(checks, "")]], panel_height=20, gap=0))[:20, :20]
    assert set(np.unique(pixels)) == {0, 255}
    assert (pixels[:10, :10] == 255).all()


def test_an_empty_sheet_is_refused():
    with pytest.raises(ValueError, match="at least one panel"):
        draw_sheet([[None]])
