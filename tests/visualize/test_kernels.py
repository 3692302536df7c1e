import numpy as np
import pytest
import torch

from resfu.visualize import draw_kernels, find_edges


def test_cells_lie_where_the_neighbours_are():
    kernel = torch.zeros(9, 30, 40)
    kernel[1, 15, 20] = 0.75  # above
    kernel[5, 15, 20] = 0.25  # to the right
    black = np.zeros((30, 40, 3), np.uint8)
    drawn = draw_kernels(black, kernel, (8, 8), [(15, 20)]).astype(int)
    # the middle is (15.5, 20.5); a cell is 8 wide, so the one above spans rows 3.5 to 11.5
    inside = {n: drawn[15 + 8 * (n // 3 - 1), 20 + 8 * (n % 3 - 1)] for n in (0, 1, 3, 5, 7)}
    above, right = inside[1][0], inside[5][0]
    assert above > 2 * right > 0
    assert all(inside[n].sum() == 0 for n in (0, 3, 7))
    assert drawn[15, 20].tolist() == [0, 255, 255]
    assert drawn[:2].sum() == drawn[:, :7].sum() == 0


def test_a_larger_picture_gets_larger_cells():
    kernel = torch.full((9, 10, 10), 1 / 9)
    drawn = draw_kernels(np.zeros((40, 40, 3), np.uint8), kernel, (2, 2), [(5, 5)])
    rows = np.flatnonzero(drawn.sum((1, 2)))
    assert rows[-1] - rows[0] + 1 == pytest.approx(3 * 2 * 4, abs=1)


def test_a_kernel_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"\[K \* K, H, W\]"):
        draw_kernels(np.zeros((4, 4, 3), np.uint8), torch.zeros(8, 4, 4), (1, 1), [])


def test_edges_are_found_in_every_part():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 22:] = 200  # one vertical edge in the left half
    picture[18:, 40:] = 50  # one horizontal edge in the right half
    (_, column), (row, right) = find_edges(picture, 1, 2)
    assert column in (20, 21, 22, 23)
    assert row in (16, 17, 18, 19)
    assert right >= 40
