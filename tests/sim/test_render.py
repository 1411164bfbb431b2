import numpy as np
import pytest

from rt2.sim import render


def changed(image, size):
    """Rows and columns of the pixels that differ from an empty board."""
    return np.nonzero((image != render.board(size)).any(axis=-1))


@pytest.mark.parametrize("size", [64, 97, 128])
@pytest.mark.parametrize("x, y", [(0.3, 0.3), (0.15, 0.42)])
def test_an_object_is_drawn_where_it_is_and_as_large_as_it_is(size, x, y):
    image = render.board(size)
    render.draw_object(image, "red heart", x, y)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    rows, columns = changed(image, size)
    pixel = render.BOARD_M / size
    assert abs((columns.min() + columns.max() + 1) / 2 * pixel - x) < pixel
    assert abs((rows.min() + rows.max() + 1) / 2 * pixel - y) < pixel
    assert abs((np.ptp(columns) + 1) * pixel - render.OBJECT_DIAMETER_M) < 2.5 * pixel


def test_scale_and_rotation():
    upright, turned, large = (render.board(128) for _ in range(3))
    render.draw_object(upright, "candle", 0.3, 0.3)
    render.draw_object(turned, "candle", 0.3, 0.3, angle=np.pi / 2)
    render.draw_object(large, "candle", 0.3, 0.3, scale=2.0)
    height, width = (np.ptp(axis) for axis in changed(upright, 128))
    assert height > 1.5 * width
    assert abs(np.ptp(changed(turned, 128)[1]) - height) <= 2
    assert abs(np.ptp(changed(large, 128)[0]) - 2 * height) <= 3


def test_a_quarter_turn_is_clockwise_as_seen():
    image = render.board(128)
    render.draw_object(image, "candle", 0.3, 0.3, angle=np.pi / 2)
    yellow = (image[..., 0] > 200) & (image[..., 1] > 150) & (image[..., 2] < 90)
    assert np.nonzero(yellow)[1].mean() > 64  # the flame points to the right


def test_what_leaves_the_picture_is_cut_off():
    image = render.board(64)
    render.draw_object(image, "red heart", 0.0, 0.6)
    rows, columns = changed(image, 64)
    assert rows.max() == 63 and columns.min() == 0
    render.draw_object(image, "red heart", 2.0, 2.0)


def test_the_effector_lies_above_the_objects():
    frame = render.tabletop_frame(
        render.board(128), ["red heart"], np.array([[0.3, 0.3]]), np.zeros(1), (0.3, 0.3)
    )
    assert frame[64, 64].max() < 100
    assert frame[64, 64 + 6].min() > 240
    moved = render.board(64)
    render.draw_effector(moved, 0.1, 0.5)
    rows, columns = changed(moved, 64)
    assert abs(columns.mean() - (0.1 / 0.6 * 64 - 0.5)) < 0.3
    assert abs(rows.mean() - (0.5 / 0.6 * 64 - 0.5)) < 0.3
