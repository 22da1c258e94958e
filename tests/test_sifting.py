"""Classes of detections whose truth is known."""

from pathlib import Path

import filtered_skies
import numpy as np
import pandas as pd
import pytest

from sotrplib import configuration, geometry, positions, shapes, sifting, tables

ROOT = Path(__file__).parents[1]
SCHEMA = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
OPTIONS = configuration.fill_defaults({}, SCHEMA["properties"]["sift_candidates"])
BAND = sifting.MapBand(fwhm_arcmin=2.0)
TIME = 1.75e9


def detections(ra_deg, dec_deg, **columns):
    """Clean point-like detections of SNR 10 far from edges, changed by ``columns``."""
    n = np.size(ra_deg)
    given = {name: np.zeros(n) for name in tables.column_names("detections")}
    given |= {"detection_id": np.arange(n), "ra_deg": ra_deg, "dec_deg": dec_deg, "time_unix_s": TIME}
    given |= {"ra_err_arcsec": 6.0, "dec_err_arcsec": 6.0, "flux_mjy": 100.0, "flux_err_mjy": 10.0, "snr": 10.0}
    given |= {"island_fwhm_ratio": 1.0, "island_elongation": 1.0}
    given |= {"template_chi2": 1.0, "fwhm_ratio": 1.0, "elongation": 1.0, "edge_distance_arcmin": 60.0, "n_pixels": 20}
    return tables.make("detections", given | columns)


def catalog(ra_deg, dec_deg, flux_mjy=100.0, flux_err_mjy=5.0):
    """Known sources s0, s1, ..., good to 1.5 arcsec."""
    n = np.size(ra_deg)
    names = [f"s{k}" for k in range(n)]
    columns = {"source_id": names, "source_name": names, "ra_deg": ra_deg, "dec_deg": dec_deg}
    columns |= {"flux_mjy": flux_mjy, "flux_err_mjy": flux_err_mjy, "spectral_index": np.nan, "pos_err_arcsec": 1.5}
    return tables.make("catalog", columns)


def forced(known, flux_mjy=None, flux_err_mjy=10.0, **columns):
    """Forced photometry of a catalogue, as catalogued unless ``flux_mjy`` is given."""
    flux = known["flux_mjy"] if flux_mjy is None else np.full(len(known), flux_mjy)
    given = {name: np.zeros(len(known)) for name in tables.column_names("forced")}
    given |= {name: known[name] for name in ("source_id", "source_name", "ra_deg", "dec_deg")}
    given |= {"flux_mjy": flux, "flux_err_mjy": flux_err_mjy, "snr": flux / flux_err_mjy, "time_unix_s": TIME}
    given |= {"catalog_flux_mjy": known["flux_mjy"], "catalog_flux_err_mjy": known["flux_err_mjy"]}
    return tables.make("forced", given | {"edge_distance_arcmin": 60.0} | columns)


def movers(name, ra_deg, dec_deg, **columns):
    """Moving objects at rest at TIME, good to 2 arcsec, changed by ``columns``."""
    given = {"name": name, "ra_deg": ra_deg, "dec_deg": dec_deg, "time_unix_s": TIME, "kind": "asteroid"}
    given |= {"ra_rate_arcsec_h": 0.0, "dec_rate_arcsec_h": 0.0, "pos_err_arcsec": 2.0, "radius_arcmin": 0.0}
    return tables.make("moving", given | columns)


NOTHING = catalog([], []), movers([], [], [])


def sift(found, known=NOTHING[0], moving=NOTHING[1], *, photometry=None, band=BAND, **changes):
    """Sift with the default options but for ``changes``."""
    photometry = forced(known) if photometry is None else photometry
    return sifting.sift(found, photometry, known, moving, OPTIONS | changes, band=band)


@pytest.mark.parametrize(("ra", "dec"), [(150.0, 0.0), (0.0, -30.0), (359.9999, 45.0), (12.0, 89.99), (200.0, -90.0)])
def test_known_sources_are_matched_by_their_errors(rng, ra, dec):
    """Of sources found with true errors, 4 sigma lose 0.03 %: of 500, at most 2; anywhere on the sky."""
    n, error = 500, 12.0
    total = np.sqrt(error**2 + 1.5**2 + OPTIONS["pointing_floor_arcsec"] ** 2)
    found = detections(
        *geometry.offset_position(ra, dec, *rng.normal(0, total, (2, n))), ra_err_arcsec=error, dec_err_arcsec=error
    )
    found = sift(found, catalog([ra], [dec]), cluster_n_max=n)
    assert (found["class"] == "known").sum() >= n - 2
    assert set(found["matched_name"][found["class"] == "known"]) == {"s0"}


def test_match_needs_significance_and_radius():
    """40 arcsec away is known at an error of 12 arcsec, not at 2 arcsec, and not beyond the maximum radius."""
    known = catalog([10.0], [0.0])
    for error, radius, expected in ((12.0, 1.5, "known"), (2.0, 1.5, "transient"), (12.0, 0.5, "transient")):
        found = detections([10.0], [40 / 3600], ra_err_arcsec=error, dec_err_arcsec=error)
        assert sift(found, known, match_radius_arcmin=radius)["class"].tolist() == [expected]


def test_match_is_the_most_significant_source():
    """Of two sources in reach the detection takes the one more likely, with its catalogue flux."""
    known = catalog([10.0, 10.0], [0.0, 60 / 3600], flux_mjy=[50.0, 70.0])
    found = sift(detections([10.0], [35 / 3600], dec_err_arcsec=12.0), known)
    assert found["matched_name"].tolist() == ["s1"] and found["catalog_flux_mjy"].tolist() == [70.0]
    assert found["matched_sep_arcsec"][0] == pytest.approx(25, abs=0.01)


def test_chance_matches_are_as_rare_as_the_sky_is_empty(rng):
    """Transients among 5 sources a square degree are taken for known ones with the chance of the match area."""
    n, side = 4000, 20.0
    known = catalog(*rng.uniform(0, side, (2, int(5 * side**2))))
    found = sift(detections(*rng.uniform(1, side - 1, (2, n))), known, cluster_n_max=n)
    sigma = np.sqrt(6**2 + 1.5**2 + OPTIONS["pointing_floor_arcsec"] ** 2) / 3600
    expected = n * 5 * np.pi * (4 * sigma) ** 2
    assert abs((found["class"] == "known").sum() - expected) < 4 * np.sqrt(expected)


def test_reason_of_a_transient_names_the_nearest_source():
    """A transient close to a known source says how far, in arcsec and in sigma."""
    found = sift(detections([10.0], [50 / 3600]), catalog([10.0], [0.0]))
    assert found["class"][0] == "transient" and found["matched_name"][0] == ""
    assert found["reason"][0] == "s0 lies 50″ away, 7.3 sigma"


def test_moving_object_is_taken_where_it_was_at_the_time():
    """An object at 60 arcsec an hour, tabulated 30 minutes early, matches 30 arcsec along its way alone."""
    mover = movers(["Ceres"], [0.001], [-10.0], ra_rate_arcsec_h=-60.0, time_unix_s=TIME - 1800)
    ra, dec = geometry.offset_position(0.001, -10.0, -30.0, 0.0)
    found = sift(detections([ra, 0.001], [dec, -10.0], ra_err_arcsec=2.0, dec_err_arcsec=2.0), moving=mover)
    assert found["class"].tolist() == ["moving", "transient"]
    assert found["matched_name"].tolist() == ["Ceres", ""]


def test_closest_time_of_a_moving_object_counts():
    """With positions at several times the one closest to the detection is used: a curved track is followed."""
    mover = movers(["x"] * 3, [10.0, 10.1, 10.1], [0.0, 0.0, 0.1], time_unix_s=TIME + np.array([-7200, 0, 7200]))
    found = sift(detections([10.1, 10.0], [0.0, 0.0]), moving=mover)
    assert found["class"].tolist() == ["moving", "transient"]


def test_planet_matches_anywhere_on_its_disc():
    """Detections on a disc of 5 arcmin are the planet; 3 arcmin beyond its rim they are not."""
    mover = movers(["Jupiter"], [10.0], [0.0], radius_arcmin=5.0)
    found = sift(detections([10.0, 10.0], [4 / 60, 8 / 60]), moving=mover)
    assert found["class"].tolist() == ["moving", "transient"]


def test_detection_without_time_matches_the_tabulated_position():
    """A map without times still recognises objects at their tabulated position."""
    mover = movers(["x"], [10.0], [0.0], ra_rate_arcsec_h=1000.0)
    assert sift(detections([10.0], [0.0], time_unix_s=np.nan), moving=mover)["class"].tolist() == ["moving"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"flags": tables.flag("MASKED")}, "flagged MASKED"),
        ({"edge_distance_arcmin": 0.5}, "edge: 0.5′ from"),
        ({"template_chi2": 9.0}, "shape: reduced chi2 9.0"),
        ({"fwhm_ratio": 0.3}, "shape: width 0.30 of the template's, below 0.80"),
        ({"fwhm_ratio": 2.5}, "shape: width 2.50"),
        ({"elongation": 3.0}, "shape: elongation 3.00"),
    ],
)
def test_noise_cuts_say_why(change, reason):
    """Each cut makes noise of a detection and gives its numbers; shape that is not known cuts nothing."""
    found = sift(
        detections([10.0, 20.0], [0.0, 0.0], **{k: [v, type(v)(0)] if k == "flags" else v for k, v in change.items()})
    )
    assert found["class"][0] == "noise" and reason in found["reason"][0]
    unknown = detections([1.0], [0.0], template_chi2=np.nan, fwhm_ratio=np.nan, elongation=np.nan)
    assert sift(unknown)["class"].tolist() == ["transient"]


def test_shape_limits_widen_where_noise_does():
    """Width 0.8 and elongation 1.9 are noise's doing at SNR 5 and a glitch at SNR 50."""
    for shape in ({"fwhm_ratio": 0.8}, {"elongation": 1.9}):
        found = detections([10.0, 20.0], [0.0, 0.0], snr=[5.0, 50.0], **shape)
        assert sift(found)["class"].tolist() == ["transient", "noise"]


def test_glitches_of_one_pixel_are_told_from_sources(rng):
    """Of true shapes less than 1 % are cut; of one-pixel spikes 3 in 4 at SNR 6 and 99 % at SNR 12."""
    kept = {(snr, power): shape_kept(rng, snr, power) for snr in (6.0, 12.0) for power in (1, 2)}
    assert kept[6.0, 2] > 0.99 and kept[12.0, 2] > 0.995
    assert kept[6.0, 1] < 0.25 and kept[12.0, 1] < 0.01


def shape_kept(rng, snr, power):
    """Share of sources (power 2) or spikes (power 1) of a filtered sky that pass as transients."""
    cells = (np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing="ij")).reshape(2, -1) + 0.5) * 32
    y, x = np.rint(cells + rng.uniform(-5, 5, cells.shape))
    noise = filtered_skies.filtered_noise((512, 512), rng, knee=0.02)
    sources = filtered_skies.filtered_sources(noise.shape, y, x, np.full(y.size, snr), power=power, knee=0.02)
    template = filtered_skies.make_template(n_rows=512, knee=0.02)
    image = (noise + sources).astype("f4")
    peak = positions.refine(image, y, x, template, max_shift_pix=3.0)
    found = shapes.measure(image, peak, template, subtracted=np.zeros(y.size, bool))
    columns = {name: getattr(found, name) for name in ("template_chi2", "fwhm_ratio", "elongation")}
    frame = detections(np.arange(y.size) * 1.0, np.zeros(y.size), snr=peak.s_max, **columns)[peak.s_max >= 5]
    return (sift(frame)["class"] == "transient").mean()


def test_residuals_of_bright_sources_are_noise():
    """SNR 6 next to a source of SNR 1000 is noise; next to one of SNR 100, or far away, a transient."""
    known = catalog([10.0, 20.0], [0.0, 0.0], flux_mjy=[10000.0, 1000.0])
    found = sift(detections([10.0, 10.0, 20.0], [0.05, 0.5, 0.05], snr=6.0), known)
    assert found["class"].tolist() == ["noise", "transient", "transient"]
    assert found["reason"][0] == "bright neighbour: SNR 6.0 below 0.03 of that of s0 (1000), 3.0′ away"


def test_wings_of_a_bright_transient_neither_hide_it_nor_join_it():
    """A transient of SNR 1000 in the middle of eight detections of its wings stays one; they are noise."""
    angle = np.arange(8) * np.pi / 4
    ra, dec = geometry.offset_position(10.0, 0.0, 180 * np.cos(angle), 180 * np.sin(angle))
    found = sift(detections([10.0, *ra], [0.0, *dec], snr=[1000.0] + [6.0] * 8))
    assert found["class"].tolist() == ["transient"] + ["noise"] * 8


def test_clusters_are_noise_but_not_their_known_members():
    """Six detections within 10 arcmin are noise, five are not; known sources among them stay known."""
    ra = 10 + np.arange(6) * 1.5 / 60
    assert set(sift(detections(ra, np.zeros(6)))["class"]) == {"noise"}
    assert set(sift(detections(ra[:5], np.zeros(5)))["class"]) == {"transient"}
    found = sift(detections(ra, np.zeros(6)), catalog(ra[:1], [0.0]))
    assert found["class"].tolist() == ["known"] + ["transient"] * 5


def test_flare_weighs_both_errors():
    """200 mJy of a 100 mJy source is a flare if both fluxes are good, not if either is poor or both differ little."""
    known = catalog([10.0], [0.0])
    assert sift(detections([], []), known, photometry=forced(known, 200.0))["class"].tolist() == ["flare"]
    poor = {"flux_err_mjy": 30.0}
    assert len(sift(detections([], []), known, photometry=forced(known, 200.0, **poor))) == 0
    assert len(sift(detections([], []), known, photometry=forced(known, 200.0, catalog_flux_err_mjy=30.0))) == 0
    assert len(sift(detections([], []), known, photometry=forced(known, 140.0, 1.0))) == 0


def test_flare_significance_adds_four_errors():
    """Flux, calibration, catalogue and spectrum add in quadrature; an unknown catalogue error is 5 per cent."""
    known = catalog([10.0, 10.0], [0.0, 0.0], flux_err_mjy=[7.0, np.nan])
    found = sifting.flare_significance(forced(known, 200.0, 4.0), OPTIONS, 5 / 3)
    spectral = 0.3 * np.log(5 / 3) * 100
    expected = [100 / np.sqrt(4**2 + 10**2 + err**2 + spectral**2) for err in (7.0, 5.0)]
    np.testing.assert_allclose(found, expected)


def test_steady_sources_do_not_flare(rng):
    """Of 20000 steady sources with true errors and 5 per cent calibration, none flares at 5 sigma."""
    flux = rng.uniform(0, 500, 20000)
    known = catalog(
        rng.uniform(0, 360, 20000), np.zeros(20000), flux_mjy=rng.normal(flux, 0.05 * flux), flux_err_mjy=0.05 * flux
    )
    photometry = forced(known, rng.normal(flux * 1.05, 10.0))
    assert len(sift(detections([], []), known, photometry=photometry)) == 0


def test_flare_row_is_that_of_the_source():
    """A flare carries the catalogue position and name, origin forced, no detection number and no shape."""
    known = catalog([10.0, 20.0], [0.0, 5.0])
    photometry = forced(known).assign(flux_mjy=[100.0, 300.0], snr=[10.0, 30.0])
    row = sift(detections([1.0], [1.0]), known, photometry=photometry).iloc[1]
    assert (row["class"], row["origin"], row["detection_id"], row["matched_name"]) == ("flare", "forced", -1, "s1")
    assert (row["ra_deg"], row["dec_deg"], row["flux_mjy"], row["catalog_flux_mjy"]) == (20.0, 5.0, 300.0, 100.0)
    assert "300.0 mJy where the catalogue has 100.0: 3.0 times" in row["reason"] and np.isnan(row["fwhm_ratio"])


def test_flare_is_not_trusted_where_the_flux_is_not():
    """Masked positions, wings of brighter sources, edges and missing fluxes make no flare."""
    known = catalog([10.0], [0.0])
    for bad in ({"flags": tables.flag("MASKED")}, {"flags": tables.flag("NEAR_BRIGHT")}, {"edge_distance_arcmin": 1.0}):
        assert len(sift(detections([], []), known, photometry=forced(known, 300.0, **bad))) == 0
    assert len(sift(detections([], []), known, photometry=forced(known, np.nan))) == 0


def test_asteroid_on_a_known_source_is_no_flare():
    """A known source brightened by an asteroid passing over it is the asteroid."""
    known = catalog([10.0], [0.0])
    found = sift(detections([], []), known, movers(["Pallas"], [10.0], [0.001]), photometry=forced(known, 300.0))
    assert found["class"].tolist() == ["moving"] and found["matched_name"].tolist() == ["Pallas"]


def test_empty_tables_give_an_empty_table():
    """No detections and no sources give no rows of the right types."""
    found = sift(detections([], []))
    assert found.dtypes.equals(tables.empty("sifted").dtypes) and len(found) == 0


def test_inputs_are_left_alone():
    """Sifting changes none of its tables."""
    known = catalog([10.0], [0.0])
    given = detections([10.0, 11.0], [0.0, 0.0]), forced(known, 300.0), known, movers(["x"], [11.0], [0.0])
    copies = [frame.copy(deep=True) for frame in given]
    sifting.sift(*given, OPTIONS, band=BAND)
    for frame, copy in zip(given, copies, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


@pytest.mark.parametrize(("flux", "reach"), [(3000.0, 10.0), (1000.0, 10.0), (300.0, 3.0), (-5.0, 0.0)])
def test_surroundings_of_bright_sources_grow_with_flux(flux, reach):
    """Radius 10 arcmin at 1 Jy: 10 at 3 Jy, 3 at 0.3 Jy are noise inside, and transients outside or if it is off."""
    known = catalog([10.0], [0.0], flux_mjy=flux)
    found = detections([10.0] * 2, np.array([0.95, 1.05]) * max(reach, 1.6) / 60)
    expected = ["noise", "transient"] if reach else ["transient"] * 2
    settings = {"cluster_n_max": 9, "bright_residual_fraction": 0.0, "bright_radius_arcmin_1jy": 10.0}
    assert sift(found, known, **settings)["class"].tolist() == expected
    assert sift(found, known, **settings | {"bright_radius_arcmin_1jy": 0.0})["class"].tolist() == ["transient"] * 2


def test_bright_source_itself_stays_known():
    """A detection on the source is known, and a moving object beside it moving, however large the surroundings."""
    known, asteroid = catalog([10.0], [0.0], flux_mjy=2000.0), movers("Ceres", [10.05], [0.0])
    found = sift(detections([10.0, 10.05, 10.02], [0.0] * 3), known, asteroid, bright_radius_arcmin_1jy=10.0)
    assert found[found["origin"] == "blind"]["class"].tolist() == ["known", "moving", "noise"]
    assert "bright neighbour: s0 (2000 mJy), 1.2′ away, closer than 10.0′" in found["reason"][2]


@pytest.mark.parametrize(("chosen", "cut"), [("curvature", []), ("photutils", [1, 2, 3]), ("both", [1, 2, 3])])
def test_shapes_of_photutils_serve_the_cuts(chosen, cut):
    """Islands too narrow, too wide or too long are noise where the configuration cuts on photutils' shapes."""
    place = np.arange(4.0) * 10, np.zeros(4)
    shape = {"island_fwhm_ratio": [1.0, 0.5, 2.0, 1.0], "island_elongation": [1.0, 1.0, 1.0, 4.0]}
    found = sift(detections(*place, **shape), shapes=chosen)
    assert np.flatnonzero(found["class"] == "noise").tolist() == cut
    assert all("island" in reason for reason in found["reason"][cut])


def test_light_of_a_detection_beside_it_makes_no_flare():
    """A source at ten times its catalogue flux flares; flagged for a brighter detection beside it, it does not."""
    known = catalog([150.0], [0.0])
    photometry = forced(known, 1000.0)
    beside = sifting.sort_detections(detections([150.03], [0.0]), photometry, known, NOTHING[1], OPTIONS, band=BAND)
    assert list(beside["class"]) == ["transient"]
    near = photometry.assign(flags=np.uint32(tables.flag("NEAR_BRIGHT")))
    for given, classes in ((photometry, ["transient", "flare"]), (near, ["transient"])):
        found = sifting.add_flares(beside, given, known, NOTHING[1], OPTIONS, band=BAND)
        assert list(found["class"]) == classes
