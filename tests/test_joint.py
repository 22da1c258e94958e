"""Sources too faint for any map, found in several together; what they say of known sources, and of nothing."""

import numpy as np
import pandas as pd
import pytest
from members import NIGHT, make_map, section, true_catalog, write_member

from sotrplib import (
    association,
    coadd,
    coadd_members,
    confirmation,
    crossmatch,
    detection,
    geometry,
    joint,
    maps,
    pointing,
    revisits,
    selection,
    tables,
)

SECTIONS = {
    name: section(name)
    for name in ("search_jointly", "coadd_maps", "find_sources", "forced_photometry", "sift_candidates")
}
SECTIONS["coadd_maps"]["flatfield_tile_deg"] = 0.0
OBSERVATION = f"solat_joint_multi_{NIGHT}"
TUBES = (("i1", "f090"), ("i1", "f150"), ("i3", "f090"), ("i3", "f150"))
FREQ, WIDTH, ERR = {"f090": 90.0, "f150": 150.0}, {"f090": 2.0, "f150": 1.3}, {"f090": 5.0, "f150": 5.0}
REFERENCE = {"freq_ghz": 90.0, "spectral_index": -0.7}


def places(step=24):
    """Positions on a loose grid: every source 12 arcmin from its neighbours."""
    axis = np.arange(-3, 4) * step * 30.0
    east, north = (part.ravel() + 11.0 * np.arange(49) % 30 for part in np.meshgrid(axis * 1.3, axis))
    return geometry.offset_position(10.0, 0.0, east, north)


def observe(folder, rng, flux, *, tubes=TUBES, catalog=None, noise=1.0, shape=(256, 320)):
    """Headers of the maps of one observation of sources at :func:`places`; ``flux(band)`` gives their mJy (n,)."""
    headers = []
    for k, (array, band) in enumerate(tubes):
        offset = tuple(8 * rng.standard_normal(2))
        values = {"map_id": f"solat_{array}_{band}_{NIGHT + 60 * k}", "freq_ghz": FREQ[band], "noise": noise}
        values |= {"fwhm_arcmin": WIDTH[band], "err_mjy": ERR[band], "offset": offset, "shape": shape}
        values |= {"late_s": 60.0 * k}
        sky = make_map(rng, (*places(), np.broadcast_to(flux(band), 49)), **values)
        own = None if catalog is None else catalog(band)
        headers.append(coadd_members.read_header(write_member(folder, sky, own, offset=offset)))
    return headers


def search(headers, catalog=None, **changes):
    """What the joint search finds."""
    sky = joint.Sky(
        tables.empty("catalog") if catalog is None else catalog, REFERENCE, lambda *where: tables.empty("moving")
    )
    sections = SECTIONS | {"search_jointly": SECTIONS["search_jointly"] | changes}
    return joint.search(headers, OBSERVATION, sky, sections)


def match(found):
    """Detection nearest each source within 40 arcsec, -1 for none."""
    return crossmatch.nearest(*places(), found["ra_deg"], found["dec_deg"], 40.0)[0]


@pytest.fixture(scope="module")
def faint(tmp_path_factory):
    """49 sources of 3.5 sigma in each of four maps: headers and what is found."""
    rng = np.random.default_rng(5)
    headers = observe(tmp_path_factory.mktemp("faint"), rng, lambda band: 3.5 * ERR[band])
    return headers, *search(headers)


def test_sources_of_three_and_a_half_sigma_in_four_maps_are_found(faint):
    """Of 49 sources as many are found as 7 sigma at a threshold of 5.5 promise; each map alone finds a few."""
    headers, found, members = faint
    hit = match(found) >= 0
    expected = selection.completeness(np.array([7.0]), 5.5)[0]
    assert expected > 0.9 and hit.mean() > expected - 3 * np.sqrt(expected * (1 - expected) / 49)
    assert (found["class"] == "transient").all() and len(found) == hit.sum()
    assert members["n_pixels"].gt(0).all() and len(members) == 4
    for header in headers[:2]:
        alone = maps.read_sky_map(header.files.preprocessed)
        seen = detection.find(alone, alone.rho, SECTIONS["find_sources"], pointing.PointingModel())
        assert len(seen) < 0.3 * 49


def test_joint_positions_and_fluxes_are_true(faint):
    """Fluxes at nu_0 and positions of what is found scatter about the truth as their errors say."""
    _, found, _ = faint
    index = match(found)
    rows, ra, dec = found.iloc[index[index >= 0]], *(p[index >= 0] for p in places())
    offset = np.array(geometry.tangent_offsets(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy(), ra, dec))
    pull = offset / rows[["ra_err_arcsec", "dec_err_arcsec"]].to_numpy().T
    assert 0.75 < pull.std() < 1.25 and np.abs(pull.mean(axis=1)).max() < 0.6
    assert ((rows["flux_mjy"] - 17.5) / rows["flux_err_mjy"]).mean() == pytest.approx(0.1, abs=0.6)


@pytest.mark.parametrize(("alpha", "nearest"), [(-1.0, -0.7), (2.0, 1.5)])
def test_spectrum_chooses_the_sum(tmp_path, rng, alpha, nearest):
    """Sources of a steep spectrum are most significant in the sum of the nearest index, and listed once."""
    found, _ = search(observe(tmp_path, rng, lambda band: 60.0 * (FREQ[band] / 116) ** alpha))
    assert len(found) == 49 and (match(found) >= 0).all()
    assert (found["spectral_index"] == nearest).mean() > 0.9


def test_one_band_is_summed_once(tmp_path, rng):
    """Where all maps have one band the spectral index does nothing, and one sum is searched."""
    headers = observe(tmp_path, rng, lambda band: 30.0, tubes=TUBES[::2])
    assert search(headers)[0]["spectral_index"].nunique() == 1


def test_known_sources_are_not_found_and_their_flares_are(tmp_path, rng):
    """Known sources of SNR 60 and their own spectra leave nothing; one 1.6 times brighter in all maps is a flare."""
    flux = {band: 300.0 * (FREQ[band] / 90) ** -0.7 * np.ones(49) for band in FREQ}
    seen = {band: values * np.where(np.arange(49) == 7, 1.6, 1.0) for band, values in flux.items()}
    base = true_catalog(*places(), flux["f090"]).assign(spectral_index=-0.7)

    def in_band(band):
        return base.assign(flux_mjy=flux[band])

    found, _ = search(observe(tmp_path, rng, seen.get, catalog=in_band), base)
    assert found[["origin", "class", "matched_name"]].to_numpy().tolist() == [["forced", "flare", "s7"]]
    assert found["flux_mjy"][0] / found["catalog_flux_mjy"][0] == pytest.approx(1.6, rel=0.05)


def test_noise_gives_the_false_alarms_of_theory(tmp_path, rng):
    """At a threshold of 4 sigma two sums of noise give between one and two times the false alarms of one."""
    counts, expected = 0, 0.0
    for trial in range(3):
        headers = observe(tmp_path / str(trial), rng, lambda band: 0.0)
        counts += len(search(headers, snr_min=4.0)[0])
        total = coadd.add_all(coadd.start_sum(headers), headers, SECTIONS["coadd_maps"] | {"moving_mask_arcmin": 0.0})
        labels = {"map_id": OBSERVATION, "instrument": "solat", "array": "joint", "band": "multi"}
        expected += selection.expected_false_alarms(total.sky_map(labels, SECTIONS["coadd_maps"]), 4.0)
    assert 0.9 * expected - 3 * np.sqrt(expected) < counts < 2 * expected + 3 * np.sqrt(2 * expected)


def test_failed_maps_cost_themselves(tmp_path, rng):
    """Of two maps one of which failed nothing is searched, and the table says why."""
    headers = observe(tmp_path, rng, lambda band: 100.0, tubes=TUBES[:2])
    bad = coadd_members.Header(headers[1].files, headers[1].map_id, "map.fits: is truncated")
    found, members = search([headers[0], bad])
    assert found.empty and "map.fits: is truncated" in set(members["reason"])


def test_noise_of_one_map_stays_noise(faint):
    """A detection to which a map gives most that its own search calls noise is noise; beside weak noise it is not."""
    _, found, _ = faint
    noise = found.iloc[:2].assign(map_id="m1", reason="shape: width 0.6", snr=[0.9, 0.2] * found["snr"].iloc[:2])
    kept = joint.keep_noise(found, noise.assign(**{"class": "noise"}).reset_index(drop=True), 2.0)
    assert kept["class"].tolist() == ["noise"] + ["transient"] * (len(found) - 1)
    assert kept["reason"][0] == "noise in m1: shape: width 0.6"


# ---- with the detections of single maps ------------------------------------------------------------------------------


def test_joint_detections_leave_those_of_single_maps_alone(faint):
    """An event that a map has found keeps that map, SNR and position when the joint search finds it too."""
    options = section("confirm_candidates")
    shared = faint[1].iloc[:1].drop(columns="spectral_index").assign(map_id=OBSERVATION, array="joint", band="multi")
    single = shared.assign(map_id=f"solat_i1_f090_{NIGHT}", array="i1", band="f090", snr=5.1, snr_peak=5.3)
    single = single.assign(ra_deg=single["ra_deg"] + 0.002, detection_id=0)
    both = pd.concat([single, shared], ignore_index=True)
    alone, together = (
        association.summarize(rows, association.associate(rows, options), options) for rows in (single, both)
    )
    assert len(together) == 1 and together["n_detections"][0] == 2
    columns = ["ra_deg", "dec_deg", "ra_err_arcsec", "snr", "map_id", "flux_mjy"]
    pd.testing.assert_frame_equal(alone[columns], together[columns])


def test_candidate_of_the_joint_search_is_judged_by_its_maps(faint):
    """A source of 3.5 sigma in each of four maps, found jointly, is a transient confirmed by two arrays."""
    headers, found, _ = faint
    options = section("confirm_candidates")
    rows = found.iloc[:1].drop(columns="spectral_index").assign(map_id=OBSERVATION, array="joint", band="multi")
    events = association.summarize(rows, association.associate(rows, options), options)
    maps = pd.DataFrame(
        [
            {"map_id": h.map_id, "array": h.info.array, "band": h.info.band, "freq_ghz": h.info.freq_ghz}
            | {"time_unix_s": h.info.t_ref_unix_s, "area_deg2": 5.0, "fwhm_arcmin": 2.0}
            for h in headers
        ]
    )
    files = {h.map_id: h.files for h in headers}

    def measure(map_id, targets):
        paths = revisits.MapFiles(*files[map_id][:3])
        return revisits.measure_in_map(paths, targets, SECTIONS["forced_photometry"])

    candidate = confirmation.confirm(events, measure, maps, options)[0].iloc[0]
    assert candidate["found_by"] == "joint" and candidate["map_id"] in files
    assert candidate["band"] == candidate["map_id"].split("_")[2] and candidate["confirmed"]
    assert candidate["flux_mjy"] / candidate["flux_err_mjy"] < candidate["max_snr"] - 1
    assert candidate["class"] == "transient" and candidate["n_covering"] == 4
    assert candidate["combined_snr"] == pytest.approx(candidate["max_snr"], rel=0.15)
