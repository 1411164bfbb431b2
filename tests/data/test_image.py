"""Decoding and resizing: equal to TensorFlow where that is exact, and safe on hostile bytes."""

import struct
import zlib

import cv2
import jax
import numpy as np
import pytest

from rt2.data import image
from rt2.data.errors import ImageError


@pytest.fixture(scope="module")
def pixels():
    small = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(small, (80, 60), interpolation=cv2.INTER_CUBIC)


def encode(pixels, suffix, *flags):
    return cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels, flags)[
        1
    ].tobytes()


def test_png_is_exact(pixels):
    np.testing.assert_array_equal(image.decode(encode(pixels, ".png")), pixels)


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_equals_tensorflow(pixels, progressive):
    tf = pytest.importorskip("tensorflow")
    data = encode(pixels, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    theirs = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    np.testing.assert_array_equal(image.decode(data), theirs)


def test_grey_is_repeated(pixels):
    grey = image.decode(encode(pixels[..., 0], ".png"))
    assert grey.shape == (60, 80, 3) and (grey == pixels[..., :1]).all()


def test_exif_orientation_is_not_applied(pixels):
    """As TensorFlow: a photo taken on its side stays as it is stored."""
    data = encode(pixels, ".jpg")
    tiff = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    np.testing.assert_array_equal(image.decode(turned), image.decode(data))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_every_truncation_is_refused(pixels, suffix):
    data = encode(pixels, suffix)
    for cut in [0, 1, 2, 3, 8, 20, 24, 33, len(data) // 2, len(data) - 2, len(data) - 1]:
        with pytest.raises(ImageError, match="^row 7: undecodable"):
            image.decode(data[:cut], "row 7")


def test_a_damaged_png_is_refused(pixels):
    data = bytearray(encode(pixels, ".png"))
    data[len(data) // 2] ^= 4
    with pytest.raises(ImageError, match="CRC"):
        image.decode(bytes(data))


def test_a_bomb_is_refused_by_its_header():
    body = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    end = b"IEND"
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (body, end)
    )
    with pytest.raises(ImageError, match="60000 x 60000 pixels"):
        image.decode(png)


def test_the_cap_can_be_set(pixels):
    data = encode(pixels, ".jpg")
    assert image.decode(data, max_pixels=4800).shape == (60, 80, 3)
    with pytest.raises(ImageError, match="60 x 80 pixels"):
        image.decode(data, max_pixels=4799)


def test_alpha_and_sixteen_bits_are_not_silently_lost(pixels):
    alpha = np.dstack([pixels, pixels[..., 0]])
    with pytest.raises(ImageError, match="4 channels of 8 bits"):
        image.decode(encode(alpha, ".png"))
    with pytest.raises(ImageError, match="3 channels of 16 bits"):
        image.decode(encode(pixels.astype(np.uint16) * 257, ".png"))


def test_resize_shapes_and_identity(pixels):
    assert image.resize(pixels, (60, 80)) is pixels
    assert image.resize(pixels, 32).shape == (32, 32, 3)
    assert image.resize(pixels, (30, 160)).shape == (30, 160, 3)


def test_shrinking_does_not_alias():
    """A one-pixel checkerboard becomes even grey; point sampling leaves it black and white."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    shrunk = image.resize(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), 32)
    assert np.abs(shrunk[1:-1, 1:-1].astype(int) - 127).max() <= 1


@pytest.mark.parametrize("size", [(24, 24), (41, 40), (60, 20), (100, 100), (31, 97)])
def test_resize_is_the_antialiased_bilinear_of_jax_and_tensorflow(size):
    tf = pytest.importorskip("tensorflow")
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    resized = image.resize(noise, size)
    by_jax = jax.image.resize(noise.astype(np.float32), (*size, 3), "linear", antialias=True)
    by_tensorflow = tf.image.resize(noise, size, "bilinear", antialias=True)
    np.testing.assert_allclose(resized, by_jax, atol=1.01)
    np.testing.assert_allclose(resized, by_tensorflow, atol=1.01)
