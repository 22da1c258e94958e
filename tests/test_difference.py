"""Differences of epochs of known skies: what is constant vanishes, what is new stays, and errors are true."""

import dataclasses

import numpy as np
import pytest
from filtered_skies import filtered_noise
from members import KNEE, NIGHT, make_map, section, true_catalog, write_member

from sotrplib import coadd, coadd_members, difference, geometry, maps, tables

SECTIONS = {
    name: section(name)
    for name in ("search_difference", "coadd_maps", "find_sources", "forced_photometry", "sift_candidates")
}
SECTIONS["coadd_maps"]["flatfield_tile_deg"] = 0.0
REFERENCE = {"freq_ghz": 90.0, "spectral_index": -0.7}
SHAPE = (256, 320)
STEADY, KNOWN, NEW = ([10.2], [0.3]), ([9.7, 10.4, 9.3], [0.2, -0.5, 0.6]), (9.9, -0.4)
COMMON = 12.0  # mJy, rms of sky that no source explains


def epochs(folder, rng, count, *, new_mjy=0.0, known_mjy=3000.0, flare=1.0, errs=None, offsets=True):
    """Headers of ``count`` maps of one sky; the first holds a new source and a flare of its first known source too."""
    sky = COMMON / 5.0 * filtered_noise(SHAPE, np.random.default_rng(3), knee=KNEE)
    catalog = true_catalog(*KNOWN, known_mjy)
    headers = []
    for k in range(count):
        known = known_mjy * np.array([flare if k == 0 else 1.0, 1.0, 1.0])
        fluxes = np.concatenate([[80.0], known, [new_mjy if k == 0 else 0.0]])
        ra, dec = (np.array([*s, *m, n]) for s, m, n in zip(STEADY, KNOWN, NEW, strict=True))
        offset = tuple(8 * rng.standard_normal(2)) if offsets else (0.0, 0.0)
        err = 5.0 if errs is None else errs[k]
        name = f"solat_i1_f090_{NIGHT + 86_400 * k}"
        values = {"map_id": name, "shape": SHAPE, "offset": offset, "err_mjy": err}
        seen = make_map(rng, (ra, dec, fluxes), **values)
        shared = _moved(sky, np.array(offset)) * 5.0 / err**2
        seen = dataclasses.replace(seen, rho=(seen.rho + shared).astype("f4"))
        headers.append(coadd_members.read_header(write_member(folder, seen, catalog, offset=offset)))
    return headers


def _moved(image, offset_arcsec):
    """Image of the sky seen so far off; RA to the left."""
    y, x = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])
    phase = np.exp(-2j * np.pi * (y * offset_arcsec[1] - x * offset_arcsec[0]) / 30.0)
    return np.fft.irfft2(np.fft.rfft2(image) * phase, s=image.shape)


def search(headers, catalog_mjy=3000.0, **changes):
    sections = SECTIONS | {"search_difference": SECTIONS["search_difference"] | changes}
    catalog = true_catalog(*KNOWN, catalog_mjy)
    return difference.search(headers[0], headers[1:], (catalog, REFERENCE), sections)


def test_what_is_constant_vanishes_and_what_is_new_stays(tmp_path, rng):
    """Constant sky of 2.4 sigma, a steady source of 16 sigma and known ones of 600 vanish; a new one of 12 stays."""
    headers = epochs(tmp_path, rng, 5, new_mjy=60.0)
    found, members, attrs = search(headers)
    assert len(found) == 1 and found["class"][0] == "transient"
    assert geometry.separation_arcsec(found["ra_deg"][0], found["dec_deg"][0], *NEW) < 20
    assert abs(found["flux_mjy"][0] - 60) < 3 * found["flux_err_mjy"][0]
    assert members["n_pixels"].gt(0).sum() == 4
    assert attrs["snr_std"] == pytest.approx(1, abs=0.06)  # of some 2000 independent places


@pytest.mark.parametrize("count", [2, 5])
def test_depth_of_the_reference_enters_the_errors(tmp_path, rng, count):
    """The error is (1 / kappa + 1 / kappa_ref)^1/2: 1.41 times that of the map with one other epoch, 1.12 with four."""
    found, *_ = search(epochs(tmp_path, rng, count, new_mjy=150.0, offsets=False))
    assert found["flux_err_mjy"][0] == pytest.approx(5 * np.sqrt(1 + 1 / (count - 1)), rel=0.02)


def test_flares_are_told_by_the_other_epochs(tmp_path, rng):
    """A known source that doubles is a flare though the catalogue has its brighter flux; a steady one is none."""
    headers = epochs(tmp_path, rng, 3, known_mjy=300.0, flare=2.0)
    found, *_ = search(headers, catalog_mjy=600.0)
    assert found[["origin", "class", "matched_name"]].to_numpy().tolist() == [["forced", "flare", "s0"]]
    assert found["catalog_flux_mjy"][0] == pytest.approx(300, abs=15) and "the reference has" in found["reason"][0]
    assert search(headers[1:] + headers[:1], catalog_mjy=150.0)[0].empty


def test_noise_gives_few_false_alarms(tmp_path, rng):
    """Differences of maps without anything new hold no detection at 5 sigma."""
    for trial in range(3):
        assert search(epochs(tmp_path / str(trial), rng, 3))[0].empty


def test_epochs_of_other_depth_count_by_it(tmp_path, rng):
    """A shallow epoch hardly adds to the reference: its weight is that of its kappa."""
    _, members, _ = search(epochs(tmp_path, rng, 3, errs=(5.0, 5.0, 20.0)))
    assert members["weight"][1] / members["weight"][0] == pytest.approx(1 / 16, rel=0.01)


def test_a_coadd_serves_as_reference(tmp_path, rng):
    """A coadd of other epochs from a file gives what these epochs give; one that holds the map itself is refused."""
    headers = epochs(tmp_path, rng, 4, new_mjy=80.0)

    def coadded(name, files):
        sky_map, arrays, _, attrs = coadd.coadd_maps(files, f"solat_coadd{name}_f090_1", SECTIONS["coadd_maps"])
        maps.write_sky_map(tmp_path / f"{name}.h5", sky_map, attrs | {"status": "ok"}, more_arrays=arrays)
        return coadd_members.read_header(coadd_members.MemberFiles(tmp_path / f"{name}.h5", "", ""))

    given = search([headers[0], coadded("rest", [h.files for h in headers[1:]])])[0]
    others = search(headers)[0]
    assert len(given) == len(others) == 1
    assert given["flux_mjy"][0] == pytest.approx(others["flux_mjy"][0], abs=0.5)
    assert given["flux_err_mjy"][0] == pytest.approx(others["flux_err_mjy"][0], rel=0.02)
    with pytest.raises(maps.MapError, match=r"all.h5: holds solat_i1_f090_\d+ itself; give a coadd of other epochs"):
        search([headers[0], coadded("all", [h.files for h in headers])])


def test_sky_without_reference_is_unobserved(tmp_path, rng):
    """Where no other epoch was observed the difference has no data."""
    headers = epochs(tmp_path, rng, 2)
    member = coadd_members.read_member(headers[0], SECTIONS["coadd_maps"] | {"moving_mask_arcmin": 0.0})
    total = difference.reference(headers[0], member, headers[1:], None, SECTIONS)
    total.kappa[:, :40], total.rho[:, :40] = 0, 0
    found = difference.subtract(member.sky_map, total, SECTIONS["coadd_maps"])
    assert (found.kappa[:40] == 0).all() and (found.mask[:40] == tables.MASK_BITS["UNOBSERVED"]).all()
    assert (found.kappa[60:200, 60:200] > 0).all()
