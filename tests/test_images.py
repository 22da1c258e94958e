"""FITS images that the workflow writes."""

import numpy as np
import pytest
from astropy.io import fits

from sotrplib import geometry, images


@pytest.mark.parametrize(("dtype", "stored"), [("f8", ">f4"), ("f4", ">f4"), ("u1", "u1"), ("i4", ">i4")])
def test_image_keeps_values_cards_and_sky(tmp_path, dtype, stored):
    """Pixels come back, floats as float32 and integers as they are, with the cards and the same sky at the corners."""
    shape, wcs = geometry.make_car(0.2, -40.0, 2.0, 1.0, 0.5)
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    images.write_image(tmp_path / "i.fits", values, wcs, {"BUNIT": "mJy"})
    with fits.open(tmp_path / "i.fits") as hdus:
        np.testing.assert_array_equal(hdus[0].data, values)
        assert (hdus[0].data.dtype, hdus[0].header["BUNIT"]) == (np.dtype(stored), "mJy")
        there = geometry.pix2sky(geometry.header_to_wcs(hdus[0].header), *np.array([[0, 0], [shape[0] - 1, 7]]).T)
    np.testing.assert_allclose(there, geometry.pix2sky(wcs, *np.array([[0, 0], [shape[0] - 1, 7]]).T), atol=1e-9)


def test_equal_images_give_equal_bytes(tmp_path):
    """The same image written twice is the same file: no dates in the header."""
    shape, wcs = geometry.make_car(10.0, 0.0, 1.0, 0.5, 0.5)
    for name in "ab":
        images.write_image(tmp_path / name, np.zeros(shape), wcs, {"BUNIT": "s"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failed_image_holds_cards_alone(tmp_path):
    """In place of an image there is a file without pixels that says why."""
    images.write_no_image(tmp_path / "i.fits", {"STATUS": "failed", "REASON": "x" * 200})
    with fits.open(tmp_path / "i.fits") as hdus:
        assert hdus[0].data is None
        assert (hdus[0].header["STATUS"], hdus[0].header["REASON"]) == ("failed", "x" * 200)
