"""One tile at a time: known colours come out, and nothing is taken for a tile that is none."""

import imagecodecs
import numpy as np
import pytest

from tiling.tile_codec import Jpeg2000Codec, JpegCodec, UndecodableTile


def flat(colour, side=64):
    return np.full((side, side, 3), colour, np.uint8)


def jpeg_2000(pixels):
    return imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", mct=False, reversible=True)


def decoded(codec, stream, side=64, scale=1):
    out = np.zeros((side // scale, side // scale, 3), np.uint8)
    codec.decode(memoryview(stream), out, scale)
    return out


@pytest.mark.parametrize("is_ycbcr", [False, True])
def test_jpeg_at_each_scale(is_ycbcr):
    space = "YCBCR" if is_ycbcr else "RGB"
    stream = imagecodecs.jpeg8_encode(flat((200, 40, 90)), 95, colorspace="RGB", outcolorspace=space)
    codec = JpegCodec(b"", is_ycbcr=is_ycbcr)
    for scale in codec.scales:
        assert abs(decoded(codec, stream, scale=scale).astype(int) - (200, 40, 90)).max() <= 3


def test_jpeg_2000_without_loss():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(Jpeg2000Codec(is_ycbcr=False), jpeg_2000(pixels)), pixels)


@pytest.mark.parametrize(
    ("ycbcr", "rgb"),
    [
        ((100, 128, 128), (100, 100, 100)),
        ((100, 128, 138), (114, 93, 100)),  # 1.402 * 10, -0.71414 * 10
        ((100, 138, 128), (100, 97, 118)),  # -0.34414 * 10, 1.772 * 10
        ((250, 128, 255), (255, 159, 250)),
        ((0, 0, 0), (0, 135, 0)),
    ],
)
def test_jpeg_2000_of_ycbcr(ycbcr, rgb):
    found = decoded(Jpeg2000Codec(is_ycbcr=True), jpeg_2000(flat(ycbcr)))
    np.testing.assert_array_equal(found, flat(rgb))


@pytest.mark.parametrize("codec", [JpegCodec(b"", is_ycbcr=True), Jpeg2000Codec(is_ycbcr=False)])
def test_what_is_no_such_tile_is_told(codec):
    jpeg = imagecodecs.jpeg8_encode(flat((9, 9, 9)), 90)
    other = jpeg_2000(flat((9, 9, 9)))
    own = jpeg if isinstance(codec, JpegCodec) else other
    for stream in (b"", bytes(500), own[:60], jpeg if own is other else other):
        with pytest.raises(UndecodableTile):
            decoded(codec, stream)
    with pytest.raises(UndecodableTile):
        decoded(codec, own, side=128)  # a smaller tile than stated


def test_a_hostile_size_takes_no_memory():
    stream = bytearray(jpeg_2000(flat((9, 9, 9))))
    stream[8:16] = b"\x7f\xff\xff\xff" * 2
    with pytest.raises(UndecodableTile):
        decoded(Jpeg2000Codec(is_ycbcr=False), bytes(stream))


@pytest.mark.parametrize("bits", [1, 12, 16, 38])
def test_jpeg_2000_of_components_unlike_each_other_is_no_tile(bits):
    stream = bytearray(jpeg_2000(flat((200, 40, 90))))
    stream[45] = bits - 1  # of the second component, in the first segment
    with pytest.raises(UndecodableTile):
        decoded(Jpeg2000Codec(is_ycbcr=False), bytes(stream))
