"""Injected sources are found, measured and missed as theory says, and noise is counted as noise."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import skies
from filtered_skies import filtered_noise, filtered_sources, make_sky_map, make_template
from test_preprocessing import OPTIONS, SHAPE, input_map

from sotrplib import beams, detection, geometry, maps, photometry, pointing, preprocessing, recovery, tables
from sotrplib import template as templates

SECTIONS = {
    "measure_recovery": {
        "level_unit": "snr",
        "levels": [0.0, 4.5, 6.0, 30.0],
        "n_per_level": 60,
        "fwhm2_per_source": 100.0,
        "separation_fwhm": 2.5,
        "edge_arcmin": 1.0,
        "match_fwhm": 0.5,
        "false_alarm_snr": [3.0, 3.5],
    },
    "preprocess_map": OPTIONS,
    "forced_photometry": {
        "method": "matched_filter",
        "flux_min_mjy": 0.0,
        "offset_snr_min": 5.0,
        "offset_max_arcmin": 1.5,
        "chi2_max": 0.0,
        "interpolation": "template",
        "blend_limit": 0.01,
        "near_edge_arcmin": 6.0,
    },
    "find_sources": {
        "finder": "peaks",
        "subtract_known": True,
        "snr_min": 5.0,
        "min_separation_fwhm": 1.0,
        "template_err": 0.02,
        "near_edge_arcmin": 6.0,
        "chi2_max": 3.0,
        "fwhm_ratio_min": 0.7,
        "fwhm_ratio_max": 1.5,
    },
}
BEAM = beams.gaussian(2.05)
OFFSET_ARCSEC = (25.0, -10.0)  # pointing error of the map, measured minus true


def with_options(**values):
    return SECTIONS | {"measure_recovery": SECTIONS["measure_recovery"] | values}


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
    return recovery.Scene(given, BEAM, sky_map, catalog_of(*true, known_mjy), model, tables.empty("detections"))


@pytest.fixture(scope="module")
def scene():
    """The map with a source of 3 Jy, 6000 times its error."""
    return make_scene(3000.0)


@pytest.fixture(scope="module")
def result(scene):
    return recovery.measure(scene, SECTIONS, 1)


# ---- what is injected ------------------------------------------------------------------------------------------------


def test_injections_keep_apart(scene):
    """In a copy no source is nearer than stated to another, to the known source, or to masked sky."""
    drawn = recovery.draw_injections(scene, SECTIONS["measure_recovery"], 1)
    limit = 60 * 2.5 * templates.fwhm_arcmin(scene.sky_map.template, 150)
    for _, rows in drawn.groupby("realisation"):
        ra, dec = (np.append(rows[name], scene.catalog[name]) for name in recovery.RADEC)
        apart = geometry.separation_arcsec(ra[:, None], dec[:, None], ra, dec)[~np.eye(len(ra), dtype=bool)]
        assert apart.min() >= limit
    place = photometry.expected_positions(scene.sky_map, drawn["ra_deg"], drawn["dec_deg"], scene.pointing)
    bad = np.argwhere(scene.sky_map.mask > 0)
    distance = np.sqrt(((np.stack([place.y, place.x], 1)[:, None] - bad) ** 2).sum(-1).min(axis=1))
    assert distance.min() > 1.5  # pixels: the arcminute less half a pixel


def test_injections_fall_anywhere_in_a_pixel(scene):
    """Positions are uniform within pixels, and all levels come equally often."""
    drawn = recovery.draw_injections(scene, SECTIONS["measure_recovery"], 1)
    place = photometry.expected_positions(scene.sky_map, drawn["ra_deg"], drawn["dec_deg"], scene.pointing)
    for part in (place.y % 1, place.x % 1):
        assert np.histogram(part, 4, (0, 1))[0] == pytest.approx(60, abs=30)
    assert drawn["level"].value_counts().tolist() == [60] * 4


def test_injections_follow_seed_and_map(scene):
    """Equal seed and map_id give equal injections; another of either gives others."""

    def draw(scene, seed):
        return recovery.draw_injections(scene, SECTIONS["measure_recovery"], seed)

    info = dataclasses.replace(scene.sky_map.info, map_id="solat_i3_f090_1763085600")
    other = dataclasses.replace(scene, sky_map=dataclasses.replace(scene.sky_map, info=info))
    pd.testing.assert_frame_equal(draw(scene, 1), draw(scene, 1))
    assert not np.isin(draw(scene, 1)["ra_deg"], np.append(draw(scene, 2)["ra_deg"], draw(other, 1)["ra_deg"])).any()


def test_fluxes_in_mjy(scene):
    """With levels in mJy every source of a level has that flux, and the SNR its place in the map gives it."""
    options = SECTIONS["measure_recovery"] | {"level_unit": "mjy", "levels": [40.0], "n_per_level": 30}
    drawn = recovery.draw_injections(scene, options, 1)
    assert (drawn["true_flux_mjy"] == 40).all() and drawn["true_snr"].std() > 0.1
    per_error = drawn["true_flux_mjy"] / drawn["true_snr"]
    assert per_error.median() == pytest.approx(np.median(scene.sky_map.kappa[scene.sky_map.mask == 0]) ** -0.5, rel=0.1)


@pytest.mark.parametrize("window", [True, False])
def test_injected_flux_is_in_the_map(scene, window):
    """The sum over the map of what was added, times the pixels' area, is the flux; the map given stays as it was."""
    before = scene.given.signal.copy()
    ra, dec = geometry.pix2sky(scene.given.wcs, np.array([80.3, 200.0]), np.array([90.6, 300.2]))
    place = photometry.expected_positions(scene.sky_map, ra, dec)
    copy = recovery.inject(scene, place, np.array([200.0, 0.0]), window)
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
        recovery.draw_injections(scene, SECTIONS["measure_recovery"] | values, 1)


# ---- what is recovered -----------------------------------------------------------------------------------------------


def test_completeness_is_that_of_theory(result):
    """Found shares agree with theory within 3 binomial errors, and within 0.08 with the noise at each source known."""
    found = result.recovery
    assert found["n_injected"].tolist() == [60] * 4
    difference = abs(found["completeness"] - found["completeness_theory"])
    np.testing.assert_array_less(difference, 3 * found["completeness_err"])
    np.testing.assert_allclose(found["completeness"], found["completeness_forced"], atol=0.08)
    assert found["completeness"].iloc[-1] == 1


def test_forced_fluxes_are_true(result):
    """Forced fluxes have no bias within 3 errors, at zero flux too, and pulls of standard deviation 1."""
    found = result.recovery
    assert (abs(found["forced_pull_mean"]) < 3 / np.sqrt(60)).all()
    assert (abs(found["forced_bias"]) < 3 * found["forced_bias_err"]).tolist() == [False, True, True, True]  # first NaN
    np.testing.assert_allclose(found["forced_pull_sd"], 1, atol=3 / np.sqrt(120))


def test_detections_are_where_they_were_injected(result):
    """With the pointing model taken off, positions of bright sources are right to their errors, and fluxes too."""
    bright = result.recovery.iloc[-1]
    assert bright["position_pull_sd"] == pytest.approx(1, abs=0.2)
    assert bright["position_rms_arcsec"] == pytest.approx(67.8 / 30, rel=0.25)
    assert abs(bright["detected_bias"] - bright["detected_bias_theory"]) < 3 * bright["detected_bias_err"]


def test_few_sources_leave_the_noise_alone(result):
    """The errors of the copies are those of the map within 3 %, in as many copies as the sources needed."""
    assert result.numbers["flux_err_ratio"] == pytest.approx(1, abs=0.03)
    assert result.numbers["n_copies"] == result.injections["realisation"].nunique() > 2


def test_missed_sources_have_no_detection(result):
    """A source not found has NaN for its detection; one found has all numbers."""
    found, missed = (result.injections[result.injections["found"] == value] for value in (True, False))
    assert np.isfinite(found.drop(columns="forced_flags")).all(axis=None)
    assert missed["detected_snr"].isna().all() and (missed["detected_flags"] == 0).all()


def test_false_alarms_are_those_of_noise(result):
    """The map without its known source and its negative hold what noise makes, within 4 times its scatter."""
    table = result.false_alarms
    assert table["snr_min"].tolist() == [3.0, 3.5, 5.0]
    for name in ("n_detections", "n_negative"):
        assert (abs(table[name] - table["n_expected"]) < 4 * np.sqrt(table["n_expected"] + 0.2)).all()
    assert table["purity"][0] < 0.5 and np.isnan(table["purity"][2])


def test_real_sources_make_detections_pure(rng):
    """Ten sources nobody knows in a field of noise leave no trace in its negative and are 10 pure detections."""
    y, x = (values.ravel() for values in np.meshgrid([80.3, 200.7], np.linspace(40, 240, 5)))
    s = filtered_noise((280, 280), rng) + filtered_sources((280, 280), y, x, np.full(10, 60.0))
    sky_map = make_sky_map(s, make_template(n_rows=280))
    model, find = pointing.PointingModel(), SECTIONS["find_sources"]
    found = detection.find_peaks(sky_map, sky_map.rho, find, model)
    scene = recovery.Scene(None, None, sky_map, tables.empty("catalog"), model, found)
    table = recovery.count_false_alarms(scene, SECTIONS).iloc[-1]
    assert (table["n_detections"], table["n_negative"], table["purity"]) == (10, 0, 1)


def test_maps_that_come_filtered():
    """In a map given as rho and kappa, sources are injected as its template and recovered with their flux."""
    scene = make_scene(0.0)
    given = dataclasses.replace(scene.given, form="filtered", signal=scene.sky_map.rho, weight=scene.sky_map.kappa)
    scene = dataclasses.replace(scene, given=given, sky_map=preprocessing.preprocess(given, BEAM, OPTIONS))
    found = recovery.measure(scene, with_options(levels=[30.0], n_per_level=40), 1).recovery.iloc[0]
    assert found["completeness"] == 1
    assert found["forced_bias"] == pytest.approx(0, abs=3 * found["forced_bias_err"])


def test_levels_are_summarised_by_hand():
    """Two sources of 10 mJy, one of them found 1 mJy too bright, give the numbers a pencil gives."""
    columns = {name: np.nan for name in tables.column_names("injections")}
    columns |= {"level": [5.0, 5.0], "true_flux_mjy": 10.0, "true_snr": 5.0, "found": [True, False]}
    columns |= {"forced_flux_mjy": [11.0, 9.0], "forced_flux_err_mjy": 2.0, "forced_pull": [0.5, -0.5]}
    columns |= {"detected_flux_mjy": [11.0, np.nan], "detected_flux_err_mjy": 2.0, "detected_pull": [0.5, np.nan]}
    columns |= {"ra_offset_arcsec": [3.0, np.nan], "dec_offset_arcsec": [4.0, np.nan]}
    columns |= {"ra_pull": [1.0, np.nan], "dec_pull": [2.0, np.nan]}
    columns |= dict.fromkeys(("injection_id", "realisation", "forced_flags", "detected_flags"), 0)
    found = recovery.summarize(tables.make("injections", columns), "snr", 5.0).iloc[0]
    assert (found["n_injected"], found["n_found"], found["completeness"]) == (2, 1, 0.5)
    assert found["completeness_err"] == pytest.approx(np.sqrt(1 / 20))  # Beta(2, 2)
    assert found["forced_bias"] == 0 and found["detected_bias"] == pytest.approx(0.1)
    assert found["position_rms_arcsec"] == pytest.approx(np.sqrt(12.5))
    assert found["position_err_arcsec"] == pytest.approx(np.sqrt((9 + 4) / 2))
    assert found["position_pull_sd"] == pytest.approx(np.sqrt(2.5))
