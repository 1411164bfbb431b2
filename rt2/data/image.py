"""Decode and resize images: the same few lines for training and for serving (OpenCV, Pillow)."""

import struct
import zlib
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from rt2.data.errors import ImageError

MAX_PIXELS = 64_000_000  # 192 MB as RGB; the largest camera stills have about 50 Mpx
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette decodes to RGB
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG start-of-frame markers


class Header(NamedTuple):
    """What an image says of itself before it is decoded."""

    format: str
    height: int
    width: int
    channels: int
    bits: int


def decode(data: bytes, where: str = "image", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """RGB uint8 [H, W, 3] of a JPEG or PNG; grey is repeated over the three channels.

    JPEG pixels equal TensorFlow's `decode_jpeg(dct_method="INTEGER_ACCURATE")`. EXIF orientation is
    not applied. Raises ImageError, beginning with `where` (the example id), for anything
    truncated, damaged, above `max_pixels`, CMYK, with an alpha channel or of 16 bits.
    """
    header = read_header(data, where, max_pixels)
    if header.channels not in (1, 3) or header.bits != 8:
        raise ImageError(
            f"{where}: a {header.format} of {header.channels} channels of {header.bits} bits "
            "cannot be read as RGB without loss. Convert it to 8-bit RGB."
        )
    return _decode(data, where, header, cv2.IMREAD_COLOR_RGB)


def check_declared(data: bytes, shape: tuple[int, ...], dtype: str, where: str = "image") -> Header:
    """The header, checked against `shape` [H, W, C] (-1: any) and `dtype` of features.json.

    A grey image may stand for a declared RGB one, as TFDS repeats its channel.
    Raises ImageError as `read_header` does, and where the header says otherwise.
    """
    header = read_header(data, where)
    height, width, channels = shape
    grey = header.channels == 1 and channels == 3
    same = header.channels == channels or grey
    same &= height in (-1, header.height) and width in (-1, header.width)
    if not same or header.bits != 8 * np.dtype(dtype).itemsize:
        raise ImageError(
            f"{where}: {header.height} x {header.width} x {header.channels} of {header.bits} bits, "
            f"features.json says {' x '.join(map(str, shape))} of {dtype}. Write the data set "
            "again with the true shape."
        )
    return header


def decode_declared(
    data: bytes, shape: tuple[int, ...], dtype: str, where: str = "image"
) -> np.ndarray:
    """The image as features.json declares it, `dtype` [H, W, C]; see `check_declared`, `decode`."""
    header = check_declared(data, shape, dtype, where)
    channels = shape[-1]
    if channels == 3:
        deep = cv2.IMREAD_ANYDEPTH if header.bits == 16 else 0
        return _decode(data, where, header, cv2.IMREAD_COLOR_RGB | deep)
    if channels == 4:
        decoded = _decode(data, where, header, cv2.IMREAD_UNCHANGED)
        return cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA)
    grey = _decode(data, where, header, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    return grey.reshape(header.height, header.width, 1)


def resize(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """`image` uint8 [H, W, 3] at `size` (int: a square; or height, width), aspect not kept.

    Bilinear, the triangle as wide as a pixel of the smaller picture: what `jax.image.resize`,
    torch and TensorFlow call antialiased, and what robots that resize with Pillow send.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def read_header(data: bytes, where: str = "image", max_pixels: int = MAX_PIXELS) -> Header:
    """Format and shape from the header; the body is checked for completeness, not decoded.

    Raises ImageError where the bytes are no whole JPEG or PNG, or hold more than `max_pixels`.
    """
    try:
        if data[:2] == b"\xff\xd8":
            header = _jpeg(data)
        elif data[:8] == _PNG:
            header = _png(data)
        else:
            raise ValueError(f"neither JPEG nor PNG (begins with {bytes(data[:8])!r})")
    except (ValueError, IndexError, struct.error) as error:
        reason = str(error) if isinstance(error, ValueError) else "the header is cut off"
        raise ImageError(f"{where}: undecodable: {reason}. Replace the image.") from None
    pixels = header.height * header.width
    if not 0 < pixels <= max_pixels:
        raise ImageError(
            f"{where}: {header.height} x {header.width} pixels; an image must have between 1 and "
            f"{max_pixels}. Replace it or scale it down."
        )
    return header


def _decode(data: bytes, where: str, header: Header, flags: int) -> np.ndarray:
    if flags != cv2.IMREAD_UNCHANGED:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != (header.height, header.width):
        raise ImageError(f"{where}: undecodable {header.format}: the body is damaged. Replace it.")
    return image


def _jpeg(data: bytes) -> Header:
    pos, frame = 2, None
    while True:
        if data[pos] != 0xFF:
            raise ValueError(f"a JPEG marker is missing at byte {pos}")
        marker = data[pos + 1]
        if marker == 0xFF:  # fill byte
            pos += 1
            continue
        if marker == 0xD9:
            raise ValueError("the JPEG ends before its image data")
        (length,) = struct.unpack_from(">H", data, pos + 2)
        if marker in _SOF:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, pos + 4)
            frame = Header("JPEG", height, width, channels, bits)
        if marker == 0xDA:
            break
        pos += 2 + length
    if frame is None:
        raise ValueError("the JPEG has no frame header")
    if data.rfind(b"\xff\xd9") < pos:
        raise ValueError("the JPEG is truncated (no end marker)")
    return frame


def _png(data: bytes) -> Header:
    pos, header, ended = 8, None, False
    while pos < len(data) and not ended:
        length, kind = struct.unpack_from(">I4s", data, pos)
        (crc,) = struct.unpack_from(">I", data, pos + 8 + length)
        body = data[pos + 4 : pos + 8 + length]
        if zlib.crc32(body) != crc:
            raise ValueError(f"the PNG chunk at byte {pos} does not match its CRC")
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack_from(">IIBB", body, 4)
            palette = colour == 3
            header = Header("PNG", height, width, _PNG_CHANNELS[colour], 8 if palette else bits)
        elif kind == b"tRNS":
            raise ValueError("the PNG has a transparent colour")
        ended = kind == b"IEND"
        pos += 12 + length
    if header is None or not ended:
        raise ValueError("the PNG is truncated")
    return header
