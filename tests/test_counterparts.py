"""Counterparts in catalogues whose truth is known."""

import nights
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from sotrplib import counterparts, geometry, sources

OPTIONS = {"external_radius_arcmin": 2.0, "external_match_sigma": 3.0, "external_priors": {}}
OPTIONS |= {"external_score_min": 0.0, "external_choice": "closest"}
ENTRY = {"name": "quasars", "ra_deg": "RA", "dec_deg": "DE", "label": "id", "type": "AGN"}


def candidates(ra_deg, dec_deg, error=5.0):
    one = nights.candidate_table()
    many = pd.concat([one] * np.size(ra_deg), ignore_index=True)
    many = many.assign(candidate_id=[f"C{k}" for k in range(len(many))])
    return many.assign(ra_deg=ra_deg, dec_deg=dec_deg, ra_err_arcsec=error, dec_err_arcsec=error)


def named(found, catalogs, options):
    """Candidates with the counterpart that is chosen for them."""
    return counterparts.choose(found, counterparts.find(found, catalogs, options), options)


def offsets(ra, dec, *arcsec, name="quasars", kind=""):
    """A catalogue with sources so many arcsec east of a position."""
    ra, dec = geometry.offset_position(np.full(len(arcsec), ra), np.full(len(arcsec), dec), np.array(arcsec), 0.0)
    return counterparts.Catalog(name, ra, dec, np.array([f"{name} {k:g}" for k in arcsec], object), kind)


@pytest.mark.parametrize(("ra", "dec"), [(0.001, -30.0), (359.9999, 60.0), (10.0, 89.99)])
def test_nearest_of_all_catalogues_is_named(ra, dec):
    """Of sources at 12 and 7 arcsec in one catalogue and 9 in another, that at 7 is named, anywhere on the sky."""
    both = [offsets(ra, dec, 12.0, 7.0), offsets(ra, dec, 9.0, name="stars")]
    for catalogs in (both, both[::-1]):
        found = named(candidates([ra], [dec]), catalogs, OPTIONS).iloc[0]
        assert (found["external_name"], found["external_catalog"]) == ("quasars 7", "quasars")
        assert found["external_sep_arcsec"] == pytest.approx(7.0, abs=1e-3)


@pytest.mark.parametrize(
    ("error", "radius", "hit"), [(5, 2, True), (3, 2, False), (5, 0.15, False), (np.nan, 2, False)]
)
def test_reach_is_the_smaller_of_radius_and_errors(error, radius, hit):
    """10 arcsec away is a counterpart at an error of 5 arcsec, not at 3, not beyond the radius; else empty and NaN."""
    options = OPTIONS | {"external_radius_arcmin": radius}
    found = named(candidates([20.0], [5.0], error), [offsets(20.0, 5.0, 10.0)], options).iloc[0]
    assert (found["external_name"], found["external_catalog"]) == (("quasars 10", "quasars") if hit else ("", ""))
    assert np.isfinite([found["external_sep_arcsec"], found["external_p_chance"]]).tolist() == [hit, hit]


def test_without_catalogues_or_candidates_nothing_changes():
    """No catalogue, an empty catalogue or no candidate leaves the table as it was."""
    some = candidates([1.0, 2.0], [0.0, 0.0])
    for catalogs in ([], [offsets(1.0, 0.0)]):
        pd.testing.assert_frame_equal(named(some, catalogs, OPTIONS), some, check_dtype=False)
    assert named(some[:0], [offsets(1.0, 0.0, 1.0)], OPTIONS).empty


def test_chance_is_the_share_of_random_positions_that_match(rng):
    """Of 4000 random positions among 300 sources a square degree, 30 arcsec find as many as the probability says."""
    n, side, density, reach = 4000, 8.0, 300, 30.0
    sky = counterparts.Catalog("stars", *rng.uniform(0, side, (2, int(density * side**2))), np.full(19200, "", object))
    options = OPTIONS | {"external_match_sigma": 1.0}
    found = named(candidates(*rng.uniform(1, side - 1, (2, n)), reach), [sky], options)
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
    there = named(candidates([2.0], [-4.0]), [plain], OPTIONS)
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


def test_score_is_the_share_of_true_counterparts(rng):
    """Half of 4000 candidates have a true counterpart, 400 sources a square degree are there by chance: of the matches
    with a score around s a share s is true, if the prior says that half the candidates have one.
    """
    n, side, density, error = 4000, 9.0, 400, 12.0
    place = rng.uniform(1, side - 1, (2, n))
    true = geometry.offset_position(*place[:, : n // 2], *rng.normal(0, error, (2, n // 2)))
    field = rng.uniform(0, side, (2, int(density * side**2)))
    labels = np.array(["true"] * (n // 2) + ["chance"] * field.shape[1], object)
    sky = counterparts.Catalog("stars", *np.concatenate([true, field], axis=1), labels, "star")
    # n counts the true ones too: 2000 in 49 square degrees. One of two candidates has one, where n says 1 of all.
    options = OPTIONS | {"external_priors": {"star": 0.5}, "external_choice": "score"}
    found = counterparts.find(candidates(*place, error), [sky], options)
    for low, high in ((0.5, 0.8), (0.8, 0.9), (0.9, 1.0)):
        part = found[found["external_score"].between(low, high)]
        share = (part["external_name"] == "true").mean()
        assert share == pytest.approx(part["external_score"].mean(), abs=0.08), (low, high, len(part))


def test_prior_of_a_type_and_density_decide(rng):
    """Of a star at 8 arcsec and a quasar at 6 the quasar is closer; with a prior of 10 for stars the star scores more,
    and with 5000 other stars around it the quasar does again. All are in the table, one with the candidate.
    """
    some = candidates([20.0], [5.0])
    pair = [offsets(20.0, 5.0, 6.0, kind="AGN"), offsets(20.0, 5.0, 8.0, name="stars", kind="star")]
    crowd = geometry.offset_position(20.0, 5.0, *rng.uniform(-2500, 2500, (2, 5000)))
    far = geometry.separation_arcsec(*crowd, 20.0, 5.0) > 60
    many = [np.append(a, b[far]) for a, b in zip((pair[1].ra_deg, pair[1].dec_deg), crowd, strict=True)]
    crowded = counterparts.Catalog("stars", *many, np.append(pair[1].labels, np.full(far.sum(), "x", object)), "star")
    score = OPTIONS | {"external_choice": "score", "external_priors": {"star": 10.0}}
    for catalogs, options, expected in (
        (pair, OPTIONS, "quasars 6"),
        (pair, score, "stars 8"),
        ([pair[0], crowded], score, "quasars 6"),
    ):
        assert named(some, catalogs, options)["external_name"].tolist() == [expected]
        assert set(counterparts.find(some, catalogs, options)["external_name"]) == {"quasars 6", "stars 8"}
    assert named(some, pair, score)["external_type"].tolist() == ["star"]
    weak = counterparts.find(some, [crowded], OPTIONS)["external_score"][0]
    assert counterparts.find(some, [crowded], OPTIONS | {"external_score_min": weak + 1e-6}).empty
