"""Sources are injected apart from each other and from what is known, anywhere in a pixel, with the flux they should."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import skies
from test_preprocessing import OPTIONS, SHAPE, input_map

from sotrplib import beams, geometry, injections, maps, photometry, pointing, preprocessing, tables
from sotrplib import template as templates

RECOVERY = {
    "level_unit": "snr",
    "levels": [0.0, 4.5, 6.0, 30.0],
    "n_per_level": 60,
    "fwhm2_per_source": 100.0,
    "separation_fwhm": 2.5,
    "edge_arcmin": 1.0,
    "match_fwhm": 0.5,
    "false_alarm_snr": [3.0, 3.5],
}
BEAM = beams.gaussian(2.05)
OFFSET_ARCSEC = (25.0, -10.0)  # pointing error of the map, measured minus true


def catalog_of(ra_deg, dec_deg, flux_mjy):
    columns = {name: np.nan for name in tables.column_names("catalog")}
    known = {"source_id": "known", "source_name": "known", "flux_err_mjy": 0.0, "pos_err_arcsec": 0.0}
    return tables.make("catalog", columns | known | {"ra_deg": [ra_deg], "dec_deg": dec_deg, "flux_mjy": flux_mjy})


def make_scene(known_mjy):
    """A map that points 27 arcsec off, with one known source in its middle."""
    sky = skies.make_sky(SHAPE, np.random.default_rng(8))
    given = input_map(sky.signal + skies.point_source(sky, 150, 180, known_mjy), sky.ivar)
    measured = geometry.pix2sky(given.wcs, 150.0, 180.0)
    true = geometry.offset_position(*measured, *(-value for value in OFFSET_ARCSEC))
    model = pointing.PointingModel("constant", 0, true, 1.0, np.array(OFFSET_ARCSEC)[:, None], np.ones((2, 1, 1)))
    sky_map = preprocessing.preprocess(given, BEAM, OPTIONS)
    return injections.Scene(given, BEAM, sky_map, catalog_of(*true, known_mjy), model, tables.empty("detections"))


@pytest.fixture(scope="module")
def scene():
    """The map with a source of 3 Jy, 6000 times its error."""
    return make_scene(3000.0)


def test_injections_keep_apart(scene):
    """In a copy no source is nearer than stated to another, to the known source, or to masked sky."""
    drawn = injections.draw_injections(scene, RECOVERY, 1)
    limit = 60 * 2.5 * templates.fwhm_arcmin(scene.sky_map.template, 150)
    for _, rows in drawn.groupby("realisation"):
        ra, dec = (np.append(rows[name], scene.catalog[name]) for name in injections.RADEC)
        apart = geometry.separation_arcsec(ra[:, None], dec[:, None], ra, dec)[~np.eye(len(ra), dtype=bool)]
        assert apart.min() >= limit
    place = photometry.expected_positions(scene.sky_map, drawn["ra_deg"], drawn["dec_deg"], scene.pointing)
    bad = np.argwhere(scene.sky_map.mask > 0)
    distance = np.sqrt(((np.stack([place.y, place.x], 1)[:, None] - bad) ** 2).sum(-1).min(axis=1))
    assert distance.min() > 1.5  # pixels: the arcminute less half a pixel


def test_injections_fall_anywhere_in_a_pixel(scene):
    """Positions are uniform within pixels, and all levels come equally often."""
    drawn = injections.draw_injections(scene, RECOVERY, 1)
    place = photometry.expected_positions(scene.sky_map, drawn["ra_deg"], drawn["dec_deg"], scene.pointing)
    for part in (place.y % 1, place.x % 1):
        assert np.histogram(part, 4, (0, 1))[0] == pytest.approx(60, abs=30)
    assert drawn["level"].value_counts().tolist() == [60] * 4


def test_injections_follow_seed_and_map(scene):
    """Equal seed and map_id give equal injections; another of either gives others."""

    def draw(scene, seed):
        return injections.draw_injections(scene, RECOVERY, seed)

    info = dataclasses.replace(scene.sky_map.info, map_id="solat_i3_f090_1763085600")
    other = dataclasses.replace(scene, sky_map=dataclasses.replace(scene.sky_map, info=info))
    pd.testing.assert_frame_equal(draw(scene, 1), draw(scene, 1))
    assert not np.isin(draw(scene, 1)["ra_deg"], np.append(draw(scene, 2)["ra_deg"], draw(other, 1)["ra_deg"])).any()


def test_fluxes_in_mjy(scene):
    """With levels in mJy every source of a level has that flux, and the SNR its place in the map gives it."""
    options = RECOVERY | {"level_unit": "mjy", "levels": [40.0], "n_per_level": 30}
    drawn = injections.draw_injections(scene, options, 1)
    assert (drawn["true_flux_mjy"] == 40).all() and drawn["true_snr"].std() > 0.1
    per_error = drawn["true_flux_mjy"] / drawn["true_snr"]
    assert per_error.median() == pytest.approx(np.median(scene.sky_map.kappa[scene.sky_map.mask == 0]) ** -0.5, rel=0.1)


@pytest.mark.parametrize("window", [True, False])
def test_injected_flux_is_in_the_map(scene, window):
    """The sum over the map of what was added, times the pixels' area, is the flux; the map given stays as it was."""
    before = scene.given.signal.copy()
    ra, dec = geometry.pix2sky(scene.given.wcs, np.array([80.3, 200.0]), np.array([90.6, 300.2]))
    place = photometry.expected_positions(scene.sky_map, ra, dec)
    copy = injections.inject(scene, place, np.array([200.0, 0.0]), window)
    np.testing.assert_array_equal(scene.given.signal, before)
    added = (copy.signal - before).astype(float) * geometry.pixel_area_sr(SHAPE, scene.given.wcs)[:, None]
    assert added.sum() == pytest.approx(200, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"separation_fwhm": 200.0}, "known sources are everywhere: lower measure_recovery.separation_fwhm"),
        ({"edge_arcmin": 300.0}, "every pixel is masked or near an edge: lower measure_recovery.edge_arcmin"),
    ],
)
def test_no_room_is_an_error(scene, values, message):
    """A map without room for a source is refused with the key to change."""
    with pytest.raises(maps.MapError, match=f"solat_i1_f090_1763085600: no room to inject a source, {message}"):
        injections.draw_injections(scene, RECOVERY | values, 1)
