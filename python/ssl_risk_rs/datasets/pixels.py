"""An image file → 8-bit pixels, whatever the file's depth, and the orientation its EXIF data ask for.

Encoders take 8-bit images, and Pillow's `convert("RGB")` cuts deeper ones off at 255, which makes them white or
black. Here the range of the mode is scaled to 0..255:

    I;16, I;16L, I;16B      16 bits, or as many as the TIFF says (12-bit scanners)
    I                       the file's bit depth, up to 16; 32-bit integers have no range one could scale by: refused
    F                       [0, 1]; any other range is refused, with the range that was found
    1, L, LA, P, PA, RGB, RGBA, RGBX, CMYK, YCbCr, HSV   are left to the encoder's transform: `convert("RGB")`, as in
                            torchvision: transparency is dropped, CMYK is taken as plain ink
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ssl_risk_rs.datasets.sources import Picture, regular_file
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGE_SUFFIXES", "PIXELS_VERSION", "eight_bit", "open_picture", "upright"]

#: rises when a file gives other pixels than before: part of a bank's key
PIXELS_VERSION = 2

#: file name endings taken for images, in lower case: raster formats that Pillow reads without help
IMAGE_SUFFIXES = (
    ".apng", ".avif", ".avifs", ".bmp", ".dds", ".dib", ".gif", ".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2",
    ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd",
    ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip

#: modes that `convert("RGB")` brings to RGB without losing their range
_EIGHT_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")

_EXIF_ORIENTATION, _TIFF_BITS, _TIFF_FORMAT = 0x0112, 258, 339
_SIGNED = 2  # a TIFF's sample format


def open_picture(file: str | bytes | Path | BinaryIO) -> Picture:
    """Decode a file, by its name or open.

    Raises
    ------
    DataError for a named pipe or a device, for pixels that have no scale, or for more of them than Pillow opens; else
    whatever the decoder raises.
    """
    from PIL import Image

    if isinstance(file, (str, bytes, Path)):
        file = os.fsdecode(file)
        regular_file(file)
    try:
        with Image.open(file) as image:
            image.load()  # decode now: a truncated file must fail here, not in the transform
            return Picture(eight_bit(image), _orientation(image), image.mode)
    except Image.DecompressionBombError as error:
        raise DataError(
            f"it has more pixels than Pillow opens ({2 * (Image.MAX_IMAGE_PIXELS or 0):,}, against decompression "
            f"bombs); make it smaller, or leave it out with --skip-corrupt ({error})"
        ) from error


def upright(picture: Picture) -> Picture:
    """The picture turned as its EXIF orientation asks."""
    from PIL import Image

    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(picture.orientation)
    return picture if turn is None else picture._replace(image=picture.image.transpose(turn))


def eight_bit(image: "Image.Image") -> "Image.Image":
    """The image in a mode of 8 bits, its range scaled to 0..255 (the module's docs say how).

    Raises
    ------
    DataError for a mode or a range that has no scale.
    """
    if image.mode in _EIGHT_BIT:
        return image
    if image.mode == "F":
        return _scaled(image, 0.0, 1.0, "floating-point pixels")
    if image.mode == "I" or image.mode.startswith("I;16"):
        bits, signed = _depth(image)
        if bits > 16:
            low, high = _extrema(np.asarray(image))
            raise DataError(
                f"its pixels are {bits}-bit integers from {low:g} to {high:g}, a range that says nothing of black and "
                "white; save it with 8 or 16 bits, or as floating-point pixels in [0, 1]"
            )
        return _scaled(image, 0.0, float(2 ** (bits - signed) - 1), f"{bits}-bit pixels")
    raise DataError(f"its pixels are of mode {image.mode}, which has no plain way to RGB; save it as RGB")


def _depth(image: "Image.Image") -> tuple[int, bool]:
    """Bits of a pixel as the file has them, and whether one of them is a sign."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:  # a TIFF
        bits, kind = tags.get(_TIFF_BITS, (16,)), tags.get(_TIFF_FORMAT, (1,))
        return int(bits[0]), int(kind[0]) == _SIGNED
    # PNG and PGM files deeper than 8 bits, and JPEG 2000: Pillow gives 16 bits, in mode I before Pillow 11
    return (16, False) if image.mode != "I" or image.format in ("PNG", "PPM", "JPEG2000") else (32, True)


def _scaled(image: "Image.Image", black: float, white: float, what: str) -> "Image.Image":
    from PIL import Image

    values = np.asarray(image).astype(np.float64)  # I;16B has a dtype of its own
    low, high = _extrema(values)
    if not (black <= low and high <= white):  # NaN fails too
        raise DataError(
            f"it has {what} from {low:g} to {high:g}, and black to white is {black:g} to {white:g}; "
            "scale it to that range, or save it with 8 bits"
        )
    return Image.fromarray(np.rint((values - black) * (255 / (white - black))).astype(np.uint8))


def _extrema(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _orientation(image: "Image.Image") -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    if "exif" not in image.info and getattr(image, "tag_v2", None) is None and "xmp" not in image.info:
        return 1
    try:
        found = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF data are no reason to refuse sound pixels
        return 1
    return found if 1 <= found <= 8 else 1
