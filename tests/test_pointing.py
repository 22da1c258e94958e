"""Pointing offsets and their model."""

import json

import numpy as np
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_filtered_sky, make_sky_map, make_template

from sotrplib import geometry, pointing, tables

OPTIONS = {
    "model": "constant",
    "order": 1,
    "average": "mean",
    "ra_shift_arcsec": 0.0,
    "dec_shift_arcsec": 0.0,
    "snr_min": 10.0,
    "n_min": 3,
    "radius_arcmin": 2.0,
    "flux_min_mjy": 0.0,
    "isolation_arcmin": 5.0,
    "isolation_flux_ratio": 0.1,
    "chi2_max": None,
    "clip_sigma": 4.0,
    "catalog_err_arcsec": 1.5,
}


def make_offsets(rng, dra, ddec, *, ra=None, dec=None, error=2.0, scatter=0.0):
    """Table of offsets (dra, ddec) with noise of ``error`` and more scatter that the errors do not know of."""
    n = len(dra)
    noise = rng.normal(0, np.hypot(error, scatter), (2, n))
    return tables.make(
        "pointing_sources",
        {
            "source_id": [f"s{k}" for k in range(n)],
            "ra_deg": rng.uniform(20, 40, n) if ra is None else ra,
            "dec_deg": rng.uniform(-10, 0, n) if dec is None else dec,
            "snr": 30.0,
            "ra_offset_arcsec": np.asarray(dra) + noise[0],
            "dec_offset_arcsec": np.asarray(ddec) + noise[1],
            "ra_offset_err_arcsec": np.full(n, error),
            "dec_offset_err_arcsec": np.full(n, error),
            "used": np.ones(n, bool),
        },
    )


def make_catalog(wcs, y, x, snr, *, shift=(0.0, 0.0), pos_err=1.5):
    """Catalogue whose positions lie ``shift`` arcsec (RA, Dec) before those of pixels (y, x), kappa being 0.04."""
    ra, dec = geometry.offset_position(*geometry.pix2sky(wcs, y, x), -np.asarray(shift[0]), -np.asarray(shift[1]))
    names = [f"s{k}" for k in range(len(ra))]
    unknown = {"flux_err_mjy": np.nan, "spectral_index": np.nan, "pos_err_arcsec": pos_err}
    columns = {"source_id": names, "source_name": names, "ra_deg": ra, "dec_deg": dec, "flux_mjy": np.asarray(snr) * 5}
    return tables.make("catalog", columns | unknown)


@pytest.mark.parametrize("average", ["mean", "median"])
def test_constant_offset_and_its_error(rng, average):
    """The mean of 100 fits is the truth and their scatter the error the model gives, by mean and by median."""
    options = OPTIONS | {"average": average}
    tried = [make_offsets(rng, np.full(20, 12.0), np.full(20, -7.0)) for _ in range(100)]
    fits = [pointing.evaluate(pointing.fit(table, options)[0], 30, -5) for table in tried]
    values = np.array(fits)
    assert values[:, :2].mean(axis=0) == pytest.approx([12, -7], abs=0.2)
    assert values[:, :2].std(axis=0) == pytest.approx(values[:, 2:].mean(axis=0), rel=0.2)


def test_median_has_a_larger_error(rng):
    """The error of the median is 1.2533 times that of the mean of the same sources."""
    table = make_offsets(rng, np.zeros(30), np.zeros(30))
    mean, median = (pointing.fit(table, OPTIONS | {"average": name})[0] for name in ("mean", "median"))
    np.testing.assert_allclose(median.covariance / mean.covariance, 1.2533**2, rtol=1e-3)


def test_outliers_are_left_out(rng):
    """Three of twelve sources 60 arcsec off change nothing and are marked as not used."""
    dra = np.full(12, 5.0)
    dra[[1, 4, 7]] += 60
    model, table = pointing.fit(make_offsets(rng, dra, np.zeros(12)), OPTIONS)
    assert np.flatnonzero(~table["used"]).tolist() == [1, 4, 7]
    assert model.n_used == 9
    assert pointing.evaluate(model, 30.0, -5.0)[0] == pytest.approx(5, abs=2.5)


def test_scatter_beyond_the_errors_is_found(rng):
    """Scatter of 8 arcsec with errors of 2 is measured to 15 %, and is 0 where the errors explain all."""
    noisy, _ = pointing.fit(make_offsets(rng, np.zeros(200), np.zeros(200), scatter=8.0), OPTIONS)
    assert noisy.scatter_arcsec == pytest.approx(8, rel=0.15)
    assert noisy.n_used >= 195
    assert pointing.evaluate(noisy, 30.0, -5.0)[2] > 7
    quiet, _ = pointing.fit(make_offsets(rng, np.zeros(200), np.zeros(200)), OPTIONS)
    assert quiet.scatter_arcsec < 1


@pytest.mark.parametrize("ra0_deg", [30.0, 0.0])
def test_polynomial_follows_gradients_over_the_wrap_of_ra(rng, ra0_deg):
    """Offsets linear in both coordinates come back to 1 arcsec all over the map, at RA 0 as well."""
    u, v = rng.uniform(-10, 10, (2, 80))
    ra, dec = geometry.offset_position(ra0_deg, -30.0, 3600 * u, 3600 * v)
    table = make_offsets(rng, 10 + 2 * u - v, -5 + 0.5 * u + 3 * v, ra=ra, dec=dec, error=0.5)
    model, _ = pointing.fit(table, OPTIONS | {"model": "polynomial"}, centre=(ra0_deg, -30.0))
    dra, ddec, _, _ = pointing.evaluate(model, ra, dec)
    assert dra == pytest.approx(10 + 2 * u - v, abs=1)
    assert ddec == pytest.approx(-5 + 0.5 * u + 3 * v, abs=1)
    assert (model.kind, model.order, model.n_used) == ("polynomial", 1, 80)


@pytest.mark.parametrize(
    ("n", "kind", "order"), [(0, "identity", 0), (2, "identity", 0), (4, "constant", 0), (5, "polynomial", 1)]
)
def test_few_sources_lower_the_order(rng, n, kind, order):
    """Below n_min the model is the identity; a plane needs five sources, else it is a constant."""
    model, table = pointing.fit(make_offsets(rng, np.zeros(n), np.zeros(n)), OPTIONS | {"model": "polynomial"})
    assert (model.kind, model.order) == (kind, order)
    assert table["used"].sum() == model.n_used


def test_identity_changes_nothing(rng):
    """The identity has offsets and errors 0 everywhere, whatever the sources."""
    model, table = pointing.fit(make_offsets(rng, np.full(9, 50.0), np.zeros(9)), OPTIONS | {"model": "identity"})
    assert model.kind == "identity"
    assert not table["used"].any()
    assert np.array(pointing.evaluate(model, np.array([1.0, 200.0]), np.array([0.0, 80.0]))) == pytest.approx(
        np.zeros((4, 2))
    )


def test_unknown_model_is_an_error(rng):
    """A model that does not exist is named together with those that do."""
    with pytest.raises(ValueError, match="'linear'; expected one of identity, fixed, constant, polynomial"):
        pointing.fit(make_offsets(rng, [0.0], [0.0]), OPTIONS | {"model": "linear"})


def test_model_survives_json(rng):
    """A model written as JSON and read again gives the same offsets."""
    model, _ = pointing.fit(
        make_offsets(rng, np.full(30, 3.0), np.zeros(30)), OPTIONS | {"model": "polynomial", "order": 2}
    )
    again = pointing.from_dict(json.loads(json.dumps(pointing.to_dict(model))))
    assert pointing.evaluate(again, 25.0, -3.0) == pytest.approx(pointing.evaluate(model, 25.0, -3.0))
    assert (again.kind, again.order, again.n_used) == (model.kind, model.order, model.n_used)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (40.0, -25.0), (-85.0, 60.0)])
def test_offsets_of_a_map_are_measured(rng, shift):
    """A map off by up to 100 arcsec: the model is right to 3 of its errors, and the pulls of the sources are 1."""
    sky = make_filtered_sky((960, 960), rng, [6, 15, 25, 60], spacing_pix=48, knee=0.0)
    skymap = make_sky_map(sky.s, sky.template, dec0_deg=-40.0, ra0_deg=0.0)
    errors = rng.normal(0, 1.5, (2, len(sky.y)))
    catalog = make_catalog(skymap.wcs, sky.y, sky.x, sky.snr, shift=(shift[0] + errors[0], shift[1] + errors[1]))
    model, table = pointing.fit(pointing.measure_offsets(skymap, catalog, OPTIONS), OPTIONS)
    dra, ddec, dra_err, ddec_err = pointing.evaluate(model, 0.0, -40.0)
    assert len(table) > 0.7 * np.sum(sky.snr > 10)
    assert abs(dra - shift[0]) < 3.5 * dra_err
    assert abs(ddec - shift[1]) < 3.5 * ddec_err
    assert np.std((table["ra_offset_arcsec"] - dra) / table["ra_offset_err_arcsec"]) == pytest.approx(1, abs=0.12)
    assert np.std((table["dec_offset_arcsec"] - ddec) / table["dec_offset_err_arcsec"]) == pytest.approx(1, abs=0.12)


def test_only_bright_isolated_sources_on_good_pixels_are_measured(rng):
    """Faint, crowded, masked and outside sources are left out; a faint neighbour does no harm."""
    y = np.array([40.0, 40.0, 120.0, 120.0, 200.0, 200.0, 40.0, -50.0])
    x = np.array([40.0, 120.0, 40.0, 46.0, 40.0, 120.0, 200.0, 40.0])
    snr = np.array([50.0, 6.0, 50.0, 40.0, 50.0, 50.0, 50.0, 50.0])
    image = filtered_noise((256, 256), rng) + filtered_sources((256, 256), y[:7], x[:7], snr[:7])
    mask = np.zeros(image.shape, int)
    mask[180:, 100:] = tables.MASK_BITS["GALAXY"]
    skymap = make_sky_map(image.astype("f4"), make_template(n_rows=256), mask=mask)
    faint = np.append(y, 46.0), np.append(x, 202.0), np.append(snr, 1.0)
    table = pointing.measure_offsets(skymap, make_catalog(skymap.wcs, *faint), OPTIONS)
    assert table["source_id"].tolist() == ["s0", "s4", "s6"]


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_to_measure_is_a_table_without_rows(rows):
    """An empty catalogue, or a map without signal, gives zero rows and the identity."""
    skymap = make_sky_map(np.zeros((96, 96), "f4"), make_template(n_rows=96))
    place = np.linspace(20, 70, rows)
    table = pointing.measure_offsets(skymap, make_catalog(skymap.wcs, place, place, np.full(rows, 50.0)), OPTIONS)
    assert len(table) == 0
    assert pointing.fit(table, OPTIONS)[0].kind == "identity"


def test_sources_unlike_the_template_are_left_out(rng):
    """With chi2_max a streak is left out and point sources stay; without it all are used."""
    y, x = np.array([60.0, 60.0, 180.0, 180.0]), np.array([60.0, 180.0, 60.0, 180.0])
    streak = 180 + np.arange(-3.0, 4.0)
    rows, columns = np.append(y[:3], np.full(7, 180.0)), np.append(x[:3], streak)
    snr = np.append(np.full(3, 50.0), np.full(7, 20.0))
    image = filtered_noise((256, 256), rng) + filtered_sources((256, 256), rows, columns, snr)
    skymap = make_sky_map(image.astype("f4"), make_template(n_rows=256))
    catalog = make_catalog(skymap.wcs, y, x, np.full(4, 50.0))
    for limit, expected in ((None, ["s0", "s1", "s2", "s3"]), (3.0, ["s0", "s1", "s2"])):
        table = pointing.measure_offsets(skymap, catalog, OPTIONS | {"chi2_max": limit})
        assert table["source_id"].tolist() == expected


def test_fixed_shift_is_taken_as_it_is(rng):
    """The model fixed is the given shift without error, whatever the sources say, and so it is stored."""
    options = OPTIONS | {"model": "fixed", "ra_shift_arcsec": 12.0, "dec_shift_arcsec": -7.0}
    model, table = pointing.fit(make_offsets(rng, np.full(9, 50.0), np.zeros(9)), options)
    again = pointing.from_dict(json.loads(json.dumps(pointing.to_dict(model))))
    assert np.array(pointing.evaluate(again, [1.0, 200.0], [0.0, 80.0])).T.tolist() == [[12.0, -7.0, 0.0, 0.0]] * 2
    assert (model.kind, model.n_used, table["used"].any()) == ("fixed", 0, False)


@pytest.mark.parametrize(("shift", "kind"), [((0.0, 0.0), "identity"), ((12.0, -7.0), "fixed")])
def test_too_few_sources_leave_the_known_shift(rng, shift, kind):
    """A constant that two sources do not allow falls back on the shift known beforehand; of zero it is the identity."""
    options = OPTIONS | dict(zip(("ra_shift_arcsec", "dec_shift_arcsec"), shift, strict=True))
    model, _ = pointing.fit(make_offsets(rng, np.full(2, 50.0), np.zeros(2)), options)
    assert model.kind == kind
    assert pointing.evaluate(model, 30.0, -5.0)[:2] == shift


def test_fit_starts_at_the_known_shift(rng):
    """A map off by 5 arcmin is beyond the search of 2, but measured to 3 errors from a shift wrong by 20 arcsec."""
    sky = make_filtered_sky((480, 480), rng, [15, 25, 60], spacing_pix=48, knee=0.0)
    skymap = make_sky_map(sky.s, sky.template, dec0_deg=-40.0)
    catalog = make_catalog(skymap.wcs, sky.y, sky.x, sky.snr, shift=(300.0, 20.0))
    near = OPTIONS | {"ra_shift_arcsec": 280.0, "dec_shift_arcsec": 20.0}
    model, blind = (pointing.fit(pointing.measure_offsets(skymap, catalog, o), o)[0] for o in (near, OPTIONS))
    dra, ddec, dra_err, ddec_err = pointing.evaluate(model, 10.0, -40.0)
    assert model.n_used > 50 and abs(dra - 300) < 3 * dra_err and abs(ddec - 20) < 3 * ddec_err
    assert blind.n_used < 5
