"""Sky matching against brute force, over RA 0 and at the poles."""

import numpy as np
import pytest

from sotrplib import crossmatch, geometry


def crowd(rng, n, ra=0.0, dec=0.0, size_deg=0.5):
    """Positions around (ra, dec), in a square on the sky."""
    return geometry.offset_position(ra, dec, *rng.uniform(-1800, 1800, (2, n)) * size_deg)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (180.0, -60.0), (77.0, 90.0), (359.99, -89.9)])
def test_match_finds_exactly_the_pairs_of_brute_force(ra, dec, rng):
    """All pairs below the radius and no other, ordered by i then separation, at any place of the sky."""
    first, second = crowd(rng, 150, ra, dec), crowd(rng, 200, ra, dec)
    i, j, separation = crossmatch.match(*first, *second, 120.0)
    table = geometry.separation_arcsec(first[0][:, None], first[1][:, None], *second)
    assert set(zip(i, j, strict=True)) == set(zip(*np.nonzero(table <= 120.0), strict=True)) != set()
    np.testing.assert_array_equal(separation, table[i, j])
    assert np.all(np.diff(i) >= 0) and np.all(np.diff(separation)[np.diff(i) == 0] >= 0)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (180.0, -60.0), (77.0, 90.0), (359.99, -89.9)])
def test_close_pairs_are_those_of_brute_force(ra, dec, rng):
    """Each pair once, the smaller index first; of two radii the larger counts."""
    place, radius = crowd(rng, 150, ra, dec), rng.uniform(0, 150, 150)
    table = geometry.separation_arcsec(place[0][:, None], place[1][:, None], *place)
    close = np.triu(table <= np.maximum(radius[:, None], radius), 1)
    assert set(zip(*crossmatch.close_pairs(*place, radius), strict=True)) == set(zip(*np.nonzero(close), strict=True))


def test_match_takes_a_radius_for_each_position():
    """A position with a small radius does not take what one with a large radius takes."""
    i, j, _ = crossmatch.match([10.0, 20.0], [0.0, 0.0], [10.001, 20.001], [0.0, 0.0], [3.0, 4.0])
    assert (list(i), list(j)) == ([1], [1])


def test_nothing_matches_nothing():
    """Empty lists and NaN positions match nothing and break nothing."""
    assert [len(a) for a in crossmatch.match([], [], [1.0], [2.0], 10)] == [0, 0, 0]
    assert [len(a) for a in crossmatch.match([1.0], [2.0], [], [], 10)] == [0, 0, 0]
    i, j, _ = crossmatch.match([np.nan, 1.0], [2.0, 2.0], [1.0, 1.0], [np.nan, 2.0], 10)
    assert (list(i), list(j)) == ([1], [1])
    j, separation = crossmatch.nearest([1.0, np.nan], [2.0, 2.0], [], [])
    assert list(j) == [-1, -1] and np.isnan(separation).all()
    assert len(crossmatch.groups([], [], 10)) == 0


def test_match_at_zero_radius_finds_the_same_position():
    """A radius of 0 still matches identical positions, at any RA turn."""
    i, _, separation = crossmatch.match([10.0], [-33.0], [370.0], [-33.0], 1e-6)
    assert len(i) == 1 and separation[0] < 1e-6


def test_nearest_is_the_nearest(rng):
    """nearest gives the smallest separation of the whole list, and -1 beyond its radius."""
    first, second = crowd(rng, 100), crowd(rng, 50)
    table = geometry.separation_arcsec(first[0][:, None], first[1][:, None], *second)
    j, separation = crossmatch.nearest(*first, *second)
    np.testing.assert_array_equal(j, table.argmin(axis=1))
    np.testing.assert_allclose(separation, table.min(axis=1))
    j, separation = crossmatch.nearest(*first, *second, 60.0)
    np.testing.assert_array_equal(j >= 0, table.min(axis=1) <= 60.0)
    assert np.isnan(separation[j < 0]).all()


def test_groups_are_chains():
    """A chain of steps below the radius is one group though its ends are far apart; labels count from 0."""
    ra = np.array([359.998, 50.0, 0.0, 0.002, np.nan, 50.001])
    labels = crossmatch.groups(ra, np.zeros(6), 8.0)
    assert list(labels) == [0, 1, 0, 0, 2, 1]


def test_connected_labels_in_order_of_appearance():
    """Components are numbered by their first node, whatever the order of the pairs."""
    labels = crossmatch.connected(6, np.array([5, 3]), np.array([1, 4]))
    assert list(labels) == [0, 1, 2, 3, 3, 1]


def test_count_is_the_number_of_matches(rng):
    """Neighbours counted are those that match, over RA 0, at the pole, and none for a position that is NaN."""
    ra, dec = rng.uniform(-3, 3, 400) % 360, rng.uniform(-3, 3, 400)
    for shift in (0.0, 87.0):
        first = np.append(ra[:20], np.nan), np.append(dec[:20], 0.0) + shift
        i, _, _ = crossmatch.match(*first, ra, np.minimum(dec + shift, 90), 3600.0)
        found = crossmatch.count(*first, ra, np.minimum(dec + shift, 90), 3600.0)
        np.testing.assert_array_equal(found, np.bincount(i, minlength=21))
