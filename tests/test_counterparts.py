"""Counterparts in catalogues whose truth is known."""

import nights
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from sotrplib import counterparts, geometry, sources

OPTIONS = {"external_radius_arcmin": 2.0, "external_match_sigma": 3.0}
ENTRY = {"name": "quasars", "ra_deg": "RA", "dec_deg": "DE", "label": "id"}


def candidates(ra_deg, dec_deg, error=5.0):
    one = nights.candidate_table()
    many = pd.concat([one] * np.size(ra_deg), ignore_index=True)
    return many.assign(ra_deg=ra_deg, dec_deg=dec_deg, ra_err_arcsec=error, dec_err_arcsec=error)


def offsets(ra, dec, *arcsec, name="quasars"):
    """A catalogue with sources so many arcsec east of a position."""
    ra, dec = geometry.offset_position(np.full(len(arcsec), ra), np.full(len(arcsec), dec), np.array(arcsec), 0.0)
    return counterparts.Catalog(name, ra, dec, np.array([f"{name} {k:g}" for k in arcsec], object))


@pytest.mark.parametrize(("ra", "dec"), [(0.001, -30.0), (359.9999, 60.0), (10.0, 89.99)])
def test_nearest_of_all_catalogues_is_named(ra, dec):
    """Of sources at 12 and 7 arcsec in one catalogue and 9 in another, that at 7 is named, anywhere on the sky."""
    both = [offsets(ra, dec, 12.0, 7.0), offsets(ra, dec, 9.0, name="stars")]
    for catalogs in (both, both[::-1]):
        found = counterparts.find(candidates([ra], [dec]), catalogs, OPTIONS).iloc[0]
        assert (found["external_name"], found["external_catalog"]) == ("quasars 7", "quasars")
        assert found["external_sep_arcsec"] == pytest.approx(7.0, abs=1e-3)


@pytest.mark.parametrize(
    ("error", "radius", "hit"), [(5, 2, True), (3, 2, False), (5, 0.15, False), (np.nan, 2, False)]
)
def test_reach_is_the_smaller_of_radius_and_errors(error, radius, hit):
    """10 arcsec away is a counterpart at an error of 5 arcsec, not at 3, not beyond the radius; else empty and NaN."""
    options = OPTIONS | {"external_radius_arcmin": radius}
    found = counterparts.find(candidates([20.0], [5.0], error), [offsets(20.0, 5.0, 10.0)], options).iloc[0]
    assert (found["external_name"], found["external_catalog"]) == (("quasars 10", "quasars") if hit else ("", ""))
    assert np.isfinite([found["external_sep_arcsec"], found["external_p_chance"]]).tolist() == [hit, hit]


def test_without_catalogues_or_candidates_nothing_changes():
    """No catalogue, an empty catalogue or no candidate leaves the table as it was."""
    some = candidates([1.0, 2.0], [0.0, 0.0])
    for catalogs in ([], [offsets(1.0, 0.0)]):
        pd.testing.assert_frame_equal(counterparts.find(some, catalogs, OPTIONS), some, check_dtype=False)
    assert counterparts.find(some[:0], [offsets(1.0, 0.0, 1.0)], OPTIONS).empty


def test_chance_is_the_share_of_random_positions_that_match(rng):
    """Of 4000 random positions among 300 sources a square degree, 30 arcsec find as many as the probability says."""
    n, side, density, reach = 4000, 8.0, 300, 30.0
    sky = counterparts.Catalog("stars", *rng.uniform(0, side, (2, int(density * side**2))), np.full(19200, "", object))
    options = OPTIONS | {"external_match_sigma": 1.0}
    found = counterparts.find(candidates(*rng.uniform(1, side - 1, (2, n)), reach), [sky], options)
    expected = counterparts.chance(reach, density * np.pi, 1.0)
    share = (found["external_name"] != "").mean()
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
    p_chance = found["external_p_chance"].dropna()
    assert p_chance.between(0, 1.35 * expected).all()
    assert p_chance.mean() == pytest.approx(expected / 2, rel=0.1)


@pytest.mark.parametrize("name", ["q.csv", "q.fits", "q.ecsv"])
def test_any_table_is_read(tmp_path, name):
    """CSV, FITS and ECSV give the same positions and names; rows without a position are left out."""
    table = Table({"id": ["a", "b", "c"], "RA": [-1.0, 2.0, np.nan], "DE": [3.0, -4.0, 5.0]})
    kind = {"csv": "ascii.csv", "ecsv": "ascii.ecsv"}.get(name[2:], "fits")
    table.write(tmp_path / name, format=kind)
    found = counterparts.read_catalog(ENTRY | {"path": tmp_path / name})
    assert (found.name, found.ra_deg.tolist(), found.dec_deg.tolist()) == ("quasars", [359.0, 2.0], [3.0, -4.0])
    assert found.labels.tolist() == ["a", "b"]
    plain = counterparts.read_catalog(ENTRY | {"path": tmp_path / name, "label": None})
    there = counterparts.find(candidates([2.0], [-4.0]), [plain], OPTIONS)
    assert there["external_name"].tolist() == [sources.position_name(2.0, -4.0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"ra_deg": "alpha"}, r"has no column \['alpha'\], only"), ({"ra_deg": "id"}, "is a position in degrees")],
)
def test_mistake_is_named(tmp_path, change, message):
    """A column that is missing or holds no positions is an error that names the key to correct."""
    Table({"id": ["a"], "RA": [1.0], "DE": [2.0]}).write(tmp_path / "q.csv", format="ascii.csv")
    with pytest.raises(sources.CatalogError, match=rf"q\.csv: .*{message}.*correct confirm_candidates\.external"):
        counterparts.read_catalog(ENTRY | {"path": tmp_path / "q.csv"} | change)
