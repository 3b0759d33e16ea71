"""Pixels of every mode that image files have: the range of the file becomes 0..255, or the range is named."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.datasets.pixels import IMAGE_SUFFIXES, open_picture
from ssl_risk_rs.errors import DataError

RAMP = np.tile(np.linspace(0, 1, 64), (8, 1))
#: what 8 bits make of the ramp; half a step of rounding on either side of a 16-bit file's own rounding
EIGHT = np.rint(RAMP * 255)


def pixels(path, mode="RGB"):
    return np.asarray(open_picture(path).image.convert(mode)).astype(float)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def grey_tiff(path, values, bits, sample_format=1):
    """A plain grey TIFF with one strip, little-endian."""
    height, width = values.shape
    kind = {1: "u", 2: "i", 3: "f"}[sample_format]
    data = values.astype(f"<{kind}{bits // 8}").tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, 1),
            (278, 4, height), (279, 4, len(data)), (339, 3, sample_format)]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", t, k, 1, start if t == 273 else v) for t, k, v in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + data)
    return path


def test_16_bit_png_and_tiff_keep_their_grey_values(tmp_path):
    deep = np.rint(RAMP * 65535).astype(np.uint16)
    for path in (save(tmp_path / "a.png", deep), save(tmp_path / "a.tif", deep), tmp_path / "big.tif"):
        if path.name == "big.tif":
            Image.fromarray(deep.astype(">u2")).save(path)
        # a 16-bit level lies within 1/514 of its ramp value, so that rounding to 8 bits may go either way
        assert np.abs(pixels(path) - EIGHT[:, :, None]).max() <= 1, path
        assert abs(pixels(path).mean() - 127.5) < 0.5


def test_a_16_bit_pgm_keeps_its_grey_values(tmp_path):
    deep = np.rint(RAMP * 65535).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n64 8\n65535\n" + deep.tobytes())
    assert np.abs(pixels(tmp_path / "a.pgm") - EIGHT[:, :, None]).max() <= 1


def test_16_bit_rgb_png_keeps_its_colours(tmp_path):
    levels = np.rint(np.stack([RAMP, 1 - RAMP, RAMP * 0], axis=2) * 65535).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in levels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 64, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    # Pillow takes the high byte: up to one step below the rounded value
    assert np.abs(pixels(tmp_path / "a.png") - levels.astype(float) / 257).max() <= 1


def test_signed_16_bit_tiff(tmp_path):
    path = grey_tiff(tmp_path / "a.tif", np.rint(RAMP * 32767), 16, sample_format=2)
    assert np.abs(pixels(path) - EIGHT[:, :, None]).max() <= 1
    below = grey_tiff(tmp_path / "b.tif", np.rint(RAMP * 2000 - 1000), 16, sample_format=2)
    with pytest.raises(DataError, match=r"16-bit pixels from -1000 to 1000.*black to white is 0 to 32767"):
        open_picture(below)


def test_32_bit_integers_have_no_scale(tmp_path):
    path = grey_tiff(tmp_path / "a.tif", np.rint(RAMP * 4095), 32, sample_format=2)
    with pytest.raises(DataError, match=r"32-bit integers from 0 to 4095.*8 or 16 bits"):
        open_picture(path)


def test_float_tiff_is_taken_from_0_to_1(tmp_path):
    path = save(tmp_path / "a.tif", RAMP.astype(np.float32))
    assert np.array_equal(pixels(path), np.repeat(EIGHT[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("values", "found"), [(RAMP * 255, "0 to 255"), (RAMP - 0.5, "-0.5 to 0.5"), (RAMP * np.nan, "nan")]
)
def test_float_pixels_of_another_range_are_named(tmp_path, values, found):
    path = save(tmp_path / "a.tif", values.astype(np.float32))
    with pytest.raises(DataError, match=rf"floating-point pixels from {found}.*black to white is 0 to 1"):
        open_picture(path)


def test_one_bit_grey_alpha_palette_and_cmyk(tmp_path):
    grey = EIGHT.astype(np.uint8)
    save(tmp_path / "bit.png", RAMP > 0.5)
    assert set(np.unique(pixels(tmp_path / "bit.png"))) == {0, 255}
    Image.fromarray(np.stack([grey, 255 - grey], axis=2)).save(tmp_path / "la.png")
    assert open_picture(tmp_path / "la.png").image.mode == "LA"
    assert np.array_equal(pixels(tmp_path / "la.png"), np.repeat(grey[:, :, None], 3, axis=2))  # alpha is dropped
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "p.png", transparency=1)
    assert pixels(tmp_path / "p.png").tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # cyan
    ink.save(tmp_path / "cmyk.tif")
    assert pixels(tmp_path / "cmyk.tif")[0, 0].tolist() == [0, 255, 255]
    ink.save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(pixels(tmp_path / "cmyk.jpg")[0, 0] - [0, 255, 255]).max() <= 3  # JPEG


def test_a_mode_without_a_way_to_rgb_is_named(tmp_path):
    Image.new("LAB", (4, 4)).save(tmp_path / "lab.tif")
    with pytest.raises(DataError, match=r"mode LAB.*save it as RGB"):
        open_picture(tmp_path / "lab.tif")


# --- orientation


def turned(path, orientation):
    """A JPEG whose left half is dark, with an EXIF orientation."""
    image = np.zeros((16, 32), np.uint8)
    image[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(path, exif=exif, quality=95)
    return path


def write_oriented(root):
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            turned(root / part / name / "0.jpg", 6 if part == "train" else 1)
    return f"folder:{root}"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_reported_and_applied_as_pillow_does(tmp_path, orientation):
    from PIL import ImageOps
    from ssl_risk_rs.datasets.pixels import upright

    path = turned(tmp_path / "a.jpg", orientation)
    picture = open_picture(path)
    assert picture.orientation == orientation and picture.image.size == (32, 16)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(np.asarray(upright(picture).image), wanted)


def test_an_orientation_that_xmp_alone_tells_is_reported(tmp_path):
    said = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (4, 2)).save(tmp_path / "a.webp", xmp=said)
    assert open_picture(tmp_path / "a.webp").orientation == 6


def test_a_data_set_turns_images_only_if_told(tmp_path):
    uri = write_oriented(tmp_path)
    plain, applied = create_dataset(uri), create_dataset(uri, exif_orientation=True)
    assert plain.load(0).size == (32, 16) and applied.load(0).size == (16, 32)
    assert applied.picture(0).orientation == 6  # as the file has it, so that it can be counted
    assert plain.oriented(True).load(0).size == (16, 32) and applied.without(["test/ant/0.jpg"]).exif_orientation


# --- which files are images


def test_every_ending_is_one_that_pillow_opens():
    Image.init()
    opened = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    optional = {".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".qoi", ".webp", ".dds", ".pfm"}
    assert set(IMAGE_SUFFIXES) <= opened | optional  # a Pillow built without a codec, or an older one
    assert ".jfif" in IMAGE_SUFFIXES


def test_jfif_is_an_image(tmp_path):
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / part / name / "0.jfif", "JPEG")
    assert len(create_dataset(f"folder:{tmp_path}")) == 4


def test_more_pixels_than_pillow_opens(tmp_path, monkeypatch):
    Image.new("1", (300, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with (
        warnings.catch_warnings(),
        pytest.raises(DataError, match=r"more pixels than Pillow opens \(2,000.*--skip-corrupt"),
    ):
        warnings.simplefilter("error")
        open_picture(tmp_path / "a.png")
