"""Strips: they tile a map whatever its shape, and what several of them found is counted once."""

import numpy as np
import pytest

from sotrplib import strips

SHAPES = [(1000, 300), (1001, 300), (7, 300), (1, 300), (21600, 43200), (10000, 50)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strip_mpix", [1e-5, 0.03, 0.1, 64.0])
def test_cores_tile_the_map(shape, strip_mpix):
    """Every row is in one core, every core has rows, and margins reach as far as asked for or to the border."""
    cut = strips.plan(shape, strip_mpix, 20)
    rows = np.concatenate([np.arange(strip.core.start, strip.core.stop) for strip in cut])
    assert rows.tolist() == list(range(shape[0]))
    for strip in cut:
        assert strip.core.start < strip.core.stop
        assert strip.margin_rows == (min(20, strip.core.start), min(20, shape[0] - strip.core.stop))


def test_maps_that_may_be_held_are_one_strip():
    """A map of no more pixels than may be held is one strip of all rows, and one pixel more makes two."""
    assert strips.plan((800, 1000), 0.8, 20) == [strips.Strip(slice(0, 800), slice(0, 800))]
    assert len(strips.plan((801, 1000), 0.8, 20)) == 2


def test_strips_are_no_larger_than_may_be_held():
    """The sky in pixels of half an arcminute is cut so that no strip with its margins is above the limit."""
    cut = strips.plan((21600, 43200), 64.0, 100)
    assert max(strip.rows.stop - strip.rows.start for strip in cut) * 43200 <= 64e6 + 128 * 43200
    assert [strip.core.start % 256 for strip in cut] == [0] * len(cut)


def test_cores_are_as_high_as_a_noise_zone():
    """The least height goes before the limit on pixels; one row more than two of them does not make a third."""
    cut = strips.plan((1201, 5000), 0.1, 20, least_rows=600)
    assert [strip.core for strip in cut] in ([slice(0, 512), slice(512, 1201)], [slice(0, 600), slice(600, 1201)])


def test_a_row_has_one_owner():
    """Positions on a seam, half a pixel below a row, are owned by one strip."""
    cut = strips.plan((1000, 300), 0.1, 20)
    y = np.array([strip.core.start - 0.5 for strip in cut[1:]] + [-0.5, 999.4999])
    assert np.sum([strips.owns(strip, y) for strip in cut], axis=0).tolist() == [1] * len(y)


@pytest.mark.parametrize("first", [99.4999999, 99.5000001])
@pytest.mark.parametrize("second", [99.4999999, 99.5000001])
def test_a_source_on_the_seam_is_counted_once(first, second):
    """Two strips that place a source on either side of their seam, or each beyond its own core, count it once."""
    cut = [strips.Strip(slice(0, 100), slice(0, 120)), strips.Strip(slice(100, 200), slice(80, 200))]
    keep = strips.once(cut, np.array([0, 1]), np.array([first, second]), np.array([50.0, 50.0]))
    assert keep.sum() == 1


def test_neighbours_on_the_seam_are_both_counted():
    """Two sources two pixels apart on either side, seen by both strips, are two; one only in a margin is none."""
    cut = [strips.Strip(slice(0, 100), slice(0, 120)), strips.Strip(slice(100, 200), slice(80, 200))]
    y = np.array([98.5, 100.5, 98.5, 100.5, 101.0])
    keep = strips.once(cut, np.array([0, 0, 1, 1, 0]), y, np.array([50.0, 50.0, 50.0, 50.0, 80.0]))
    assert keep.tolist() == [True, False, False, True, False]


def test_of_two_findings_the_deeper_one_stays():
    """A source near a seam is taken from the strip in whose core it lies."""
    cut = [strips.Strip(slice(0, 100), slice(0, 120)), strips.Strip(slice(100, 200), slice(80, 200))]
    keep = strips.once(cut, np.array([0, 1]), np.array([98.6, 98.7]), np.array([50.0, 50.0]))
    assert keep.tolist() == [True, False]
