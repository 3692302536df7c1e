"""The parts of the scene generator, on cases worked by hand."""

import numpy as np
import pytest
from scipy import ndimage

from resfu.data.generated.scenes import shapes
from resfu.data.generated.scenes.classes import CLASSES
from resfu.data.generated.scenes.layout import layout
from resfu.data.generated.scenes.materials import HUES, TEXTURES, choose_material
from resfu.data.generated.scenes.raster import Placement, Polygon, Stroke, rasterise
from resfu.data.generated.scenes.render import _majority
from resfu.data.generated.scenes.textures import PERIOD, cut, texture_bank

SQUARE = np.array([(0, 0), (10, 0), (10, -10), (0, -10)], dtype=float)


def canvas_of(stamp, height, width):
    canvas = np.zeros((height, width), dtype=bool)
    canvas[stamp.window] = stamp.mask
    return canvas


def test_a_square_is_filled_where_it_is_placed():
    canvas = canvas_of(rasterise([Polygon(SQUARE)], Placement(x=5, y=20), 40, 40), 40, 40)
    rows, columns = np.nonzero(canvas)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 20, 5, 15)
    assert canvas.sum() == 121  # both end pixels belong to an outline


def test_mirroring_and_scaling_act_about_the_foot():
    placement = Placement(x=30, y=30, scale=0.5, mirrored=True)
    rows, columns = np.nonzero(canvas_of(rasterise([Polygon(SQUARE)], placement, 40, 40), 40, 40))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 30, 25, 30)


def test_a_quarter_turn_moves_right_to_down():
    moved = Placement(angle=np.pi / 2).apply(np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(moved, [[0, 1], [-1, 0]], atol=1e-12)


def test_a_hole_takes_away_and_a_later_part_fills_again():
    hole = np.array([(3, -3), (7, -3), (7, -7), (3, -7)], dtype=float)
    bar = Stroke(np.array([(0, -5), (10, -5)], dtype=float), 1)
    canvas = canvas_of(rasterise([Polygon(SQUARE), Polygon(hole, hole=True), bar], Placement(y=15), 20, 20), 20, 20)
    assert not canvas[9, 5]
    assert canvas[10, 5]
    assert canvas[6, 1]


def test_a_thin_line_is_two_pixels_wide():
    line = Stroke(np.array([(0, 0), (30, 0)], dtype=float), 0.01)
    canvas = canvas_of(rasterise([line], Placement(x=2, y=10), 20, 40), 20, 40)
    assert (canvas[:, 5:30].sum(0) == 2).all()


def test_a_shape_is_cut_at_the_canvas_and_gone_outside():
    assert canvas_of(rasterise([Polygon(SQUARE)], Placement(x=-5, y=3), 20, 20), 20, 20).sum() == 4 * 6
    assert rasterise([Polygon(SQUARE)], Placement(x=-50, y=3), 20, 20) is None
    assert rasterise([Polygon(SQUARE)], Placement(x=5, y=70), 20, 20) is None


@pytest.mark.parametrize("name", ["ring", "cart", "fence"])
def test_shapes_with_holes_have_them(name):
    for seed in range(10):
        shape = shapes.STANDING[name](np.random.default_rng(seed))
        mask = np.pad(rasterise(shape, Placement(x=150, y=190, scale=150), 200, 300).mask, 1)
        holes = ndimage.binary_fill_holes(mask) & ~mask
        assert holes.sum() > 0.05 * mask.sum()


@pytest.mark.parametrize("name", sorted(shapes.STANDING))
def test_shapes_stand_on_their_foot_and_are_about_one_unit_high(name):
    for seed in range(10):
        shape = shapes.STANDING[name](np.random.default_rng(seed))
        rows = np.nonzero(canvas_of(rasterise(shape, Placement(x=200, y=300, scale=100), 400, 400), 400, 400))[0]
        assert 280 <= rows.max() <= 320
        assert 40 <= rows.max() - rows.min() <= 190


def test_the_layers_cover_the_canvas():
    for seed in range(20):
        covered = np.zeros((64, 96), dtype=bool)
        for layer in layout(np.random.default_rng(seed), 64, 96):
            covered[layer.stamp.window] |= layer.stamp.mask
        assert covered.all()


def test_a_block_takes_its_commonest_id_and_of_two_the_nearer():
    def block(*values):
        return int(_majority(np.array(values, dtype=np.uint8).reshape(2, 2))[0, 0])

    assert block(1, 1, 1, 5) == 1
    assert block(5, 1, 5, 5) == 5
    assert block(2, 7, 7, 2) == 7
    assert block(1, 3, 3, 9) == 3
    assert block(4, 4, 8, 9) == 4
    assert block(1, 2, 8, 8) == 8
    assert block(1, 2, 3, 4) == 4


def test_textures_use_their_range_and_repeat_without_a_seam():
    for name, texture in texture_bank().items():
        assert texture.shape == (PERIOD, PERIOD)
        assert 40 < texture.std() < 110, name
        steps = np.abs(np.diff(texture.astype(int), axis=0)).mean(1)
        seam = np.abs(texture[0].astype(int) - texture[-1]).mean()
        assert seam <= 1.5 * steps.max(), name
        steps = np.abs(np.diff(texture.astype(int), axis=1)).mean(0)
        seam = np.abs(texture[:, 0].astype(int) - texture[:, -1]).mean()
        assert seam <= 1.5 * steps.max(), name


def test_a_window_wraps_round():
    texture = np.arange(PERIOD * PERIOD).reshape(PERIOD, PERIOD)
    window = cut(texture, PERIOD - 1, PERIOD - 2, 3, 1000)
    assert window.shape == (3, 1000)
    assert window[1, 2] == texture[0, 0]
    assert window[0, 2 + PERIOD] == texture[PERIOD - 1, 0]


def test_every_class_has_a_material():
    assert set(TEXTURES) == set(HUES) == set(CLASSES)
    assert {name for names in TEXTURES.values() for name in names} == set(texture_bank())


def test_difficulty_pulls_colours_towards_what_lies_behind():
    behind = np.full((10, 3), 0.4, dtype=np.float32)
    distance = {0.0: [], 1.0: []}
    for seed in range(40):
        for difficulty, values in distance.items():
            material = choose_material(np.random.default_rng(seed), "cart", behind, difficulty)
            values.append(np.linalg.norm((material.light + material.dark) / 2 - 0.4))
    assert np.mean(distance[0.0]) > 0.3
    assert np.mean(distance[1.0]) < 0.65 * np.mean(distance[0.0])
