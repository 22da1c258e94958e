"""Injected sources are found, measured and missed as theory says, and noise is counted as noise."""

import dataclasses

import numpy as np
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_sky_map, make_template
from test_injections import BEAM, RECOVERY, make_scene
from test_photometry import OPTIONS as FORCED
from test_preprocessing import OPTIONS

from sotrplib import detection, injections, pointing, preprocessing, recovery, tables

SECTIONS = {
    "measure_recovery": RECOVERY,
    "preprocess_map": OPTIONS,
    "forced_photometry": {"method": "matched_filter"} | FORCED,
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


def with_options(**values):
    return SECTIONS | {"measure_recovery": RECOVERY | values}


@pytest.fixture(scope="module")
def scene():
    """The map with a source of 3 Jy, 6000 times its error."""
    return make_scene(3000.0)


@pytest.fixture(scope="module")
def result(scene):
    return recovery.measure(scene, SECTIONS, 1)


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
    scene = injections.Scene(None, None, sky_map, tables.empty("catalog"), model, found)
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
