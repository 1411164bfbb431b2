"""What a WebP says of itself before it is decoded (RFC 9649)."""

import struct

_CANVAS_ALPHA, _CANVAS_MOVES = 0x10, 0x02  # flags of the extended header
_STILL = (b"VP8 ", b"VP8L")


def is_webp(data: bytes) -> bool:
    """Whether the bytes begin as a WebP does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_header(data: bytes) -> tuple[int, int, int]:
    """(height, width, channels) of a WebP whose chunks are all there; 4 channels mean alpha.

    Raises ValueError or struct.error where it is cut off, damaged in its frame or animated. The
    format has no checksum: a flipped bit within the coded picture cannot be known here.
    """
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise ValueError(f"the WebP is truncated ({len(data)} of {length + 8} bytes)")
    canvas, still, alpha, pos = None, None, False, 12
    while pos < length + 8:
        kind, size = struct.unpack_from("<4sI", data, pos)
        if pos + 8 + size > length + 8:
            raise ValueError(f"the WebP chunk at byte {pos} reaches past the end")
        body = data[pos + 8 : pos + 8 + size]
        if kind == b"VP8X":
            canvas, flags = _canvas(body), body[0]
            if flags & _CANVAS_MOVES:
                raise ValueError("the WebP is an animation")
            alpha = bool(flags & _CANVAS_ALPHA)
        elif kind in _STILL and still is None:
            *still, has_alpha = _lossy(body) if kind == b"VP8 " else _lossless(body)
            alpha |= has_alpha
        pos += 8 + size + size % 2
    if still is None:
        raise ValueError("the WebP has no picture")
    height, width = still
    if canvas not in (None, (height, width)):
        raise ValueError(f"the WebP's canvas is {canvas}, its picture {(height, width)}")
    return height, width, 4 if alpha else 3


def _canvas(body: bytes) -> tuple[int, int]:
    width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
    if len(body) < 10:
        raise ValueError("the WebP's extended header is cut off")
    return height, width


def _lossy(body: bytes) -> tuple[int, int, bool]:
    if len(body) < 10 or body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
        raise ValueError("the WebP's picture is not a whole VP8 key frame")
    width, height = struct.unpack_from("<HH", body, 6)
    return height & 0x3FFF, width & 0x3FFF, False


def _lossless(body: bytes) -> tuple[int, int, bool]:
    if len(body) < 5 or body[0] != 0x2F:
        raise ValueError("the WebP's picture is not a whole VP8L frame")
    bits = int.from_bytes(body[1:5], "little")
    if bits >> 29:
        raise ValueError("the WebP's picture is of an unknown version of VP8L")
    return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, bool(bits >> 28 & 1)
