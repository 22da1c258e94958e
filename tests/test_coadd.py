"""Coadds of maps of known skies: fluxes, errors, times, shapes, and what is left out."""

import dataclasses
import weakref

import numpy as np
import pytest
import skies
from astropy.io import fits
from filtered_skies import filtered_noise
from members import NIGHT, cut, make_map, section, true_catalog, write_member

from sotrplib import (
    beams,
    coadd,
    coadd_members,
    detection,
    geometry,
    ingest,
    mapindex,
    maps,
    photometry,
    pointing,
    preprocessing,
    subtraction,
    tables,
    units,
)
from sotrplib import template as templates

OPTIONS = section("coadd_maps") | {"flatfield_tile_deg": 0.0}
COADD = f"solat_coadd_f090_{NIGHT}"
NONE = ([], [], [])
KINDS = (("map", "map"), ("weight", "ivar"))
CENTRE = (10.0, 0.0)


def names(count, band="f090"):
    return [f"solat_i{k}_{band}_{NIGHT + 600 * k}" for k in range(1, count + 1)]


def grid_sources(flux_mjy, step_arcmin=16.0):
    """Sources on a loose grid around the centre, at all parts of a pixel."""
    axis = np.arange(-2, 3) * step_arcmin * 60
    east, north = (part.ravel() + 7.0 * np.arange(25) % 30 for part in np.meshgrid(axis, axis * 0.7))
    ra, dec = geometry.offset_position(*CENTRE, east, north)
    return ra, dec, np.broadcast_to(np.asarray(flux_mjy, float), ra.shape)


def measured(sky_map, catalog):
    return photometry.forced_photometry(sky_map, catalog, None, section("forced_photometry"))


def test_coadd_is_the_weighted_mean(tmp_path, rng):
    """rho and kappa of aligned maps add up: the flux is the mean weighted by kappa, its error that of the mean."""
    sky = [make_map(rng, NONE, map_id=name, err_mjy=err) for name, err in zip(names(3), (4.0, 5.0, 8.0), strict=True)]
    found, arrays, members, attrs = coadd.coadd_maps([write_member(tmp_path, m) for m in sky], COADD, OPTIONS)
    np.testing.assert_allclose(found.rho, sum(m.rho for m in sky), atol=1e-6)
    np.testing.assert_allclose(found.kappa, sum(m.kappa for m in sky), rtol=1e-6)
    assert (arrays["coadd/hits"][0] == 3).all() and members["reason"].tolist() == [""] * 3
    assert attrs["fwhm_arcmin"] == 2.0 and found.info.info["members"] == names(3)
    assert members["weight"].tolist() == pytest.approx([m.kappa.sum() for m in sky], rel=1e-5)


def test_maps_in_kelvin_and_microkelvin_add_up(tmp_path, rng):
    """Files of one sky and depth in K and in uK have equal shares in their coadd, with the fluxes of the sky."""
    shape, middle = (200, 240), (99.3, 120.4)
    wcs, files = geometry.make_car(10.0, 0.0, 2.0, shape[0] / 120, 0.5)[1], []
    band = beams.BandInfo(90.0, 2.05)
    for map_id, unit in zip(names(2), ("K", "uK"), strict=True):
        sky = skies.make_sky(shape, rng)
        signal = sky.signal + skies.point_source(sky, *middle, 2000.0)
        factor = units.intensity_factor(unit, 90.0)
        for name, image, bunit in (("map", signal / factor, unit), ("ivar", sky.ivar * factor**2, f"{unit}^-2")):
            header = wcs.to_header()
            header["BUNIT"] = bunit
            fits.writeto(tmp_path / f"{map_id}_{name}.fits", image.astype("f4"), header)
        row = dict.fromkeys(mapindex.COLUMNS, "") | {"form": "intensity_ivar", "map_id": map_id}
        row |= dict(zip(("instrument", "array", "band"), map_id.split("_"), strict=False))
        row |= {f"{key}_path": str(tmp_path / f"{map_id}_{name}.fits") for key, name in KINDS}
        given = ingest.read_map(row, band)
        seen = preprocessing.preprocess(given, beams.gaussian(2.05), section("preprocess_map"))
        files.append(write_member(tmp_path, seen))
    found, _, members, _ = coadd.coadd_maps(files, COADD, OPTIONS)
    assert members["weight"][0] == pytest.approx(members["weight"][1], rel=0.1)  # two measured noises
    catalog = true_catalog(*(np.atleast_1d(v) for v in geometry.pix2sky(wcs, *middle)), 2000.0)
    single, both = (measured(m, catalog).iloc[0] for m in (maps.read_sky_map(files[0].preprocessed), found))
    assert both["flux_err_mjy"] == pytest.approx(single["flux_err_mjy"] / np.sqrt(2), rel=0.07)
    assert abs(both["flux_mjy"] - 2000) < 4 * both["flux_err_mjy"] < 200


def test_times_are_right_where_maps_overlap(tmp_path, rng):
    """First, last and mean time (weighted by kappa) hold in the overlap, and each map's own time outside it."""
    late = (0.0, 9000.0)
    whole = [
        make_map(rng, NONE, map_id=n, late_s=s, err_mjy=e) for n, s, e in zip(names(2), late, (5, 10), strict=True)
    ]
    parts = [cut(whole[0], (0, 150), (0, 200)), cut(whole[1], (50, 192), (60, 256))]
    found, arrays, *_ = coadd.coadd_maps([write_member(tmp_path, m) for m in parts], COADD, OPTIONS)
    assert found.info.t_ref_unix_s == NIGHT and found.rho.shape == (192, 256)
    hits, first, last = (arrays[f"coadd/{name}"][0] for name in ("hits", "first_time", "last_time"))
    both = np.zeros((192, 256), bool)
    both[50:150, 60:200] = True
    np.testing.assert_array_equal(hits == 2, both)
    for image, value in ((first, 100.0), (last, 9100.0), (found.time, 100 + 9000 * 0.2)):
        np.testing.assert_allclose(image[both], value, atol=1e-2)
    one, two = (hits == 1) & ~np.isnan(found.time) & (found.time < 5000), (hits == 1) & (found.time > 5000)
    assert (first[one] == 100).all() and (last[one] == 100).all() and (first[two] == 9100).all()
    assert np.isnan(found.time[hits == 0]).all() and (found.mask[hits == 0] == tables.MASK_BITS["UNOBSERVED"]).all()
    assert found.info.duration_s == pytest.approx(9000)


def test_maps_without_times_make_a_coadd_without(tmp_path, rng):
    """Maps whose times are not known are summed all the same."""
    sky = [dataclasses.replace(make_map(rng, NONE, map_id=name), time=None) for name in names(2)]
    found, *_ = coadd.coadd_maps([write_member(tmp_path, m) for m in sky], COADD, OPTIONS)
    assert found.time is None and found.info.duration_s is None


def test_maps_are_summed_where_they_truly_point(tmp_path, rng):
    """Pointing offsets of 20 arcsec lose 0.2 % of a source when taken off, and the stated several percent when not."""
    offsets = [(20.0, 20.0), (-20.0, 20.0), (20.0, -20.0), (-20.0, -20.0)]
    true = grid_sources(800.0)
    sky = [make_map(rng, true, map_id=n, offset=o, noise=0.0) for n, o in zip(names(4), offsets, strict=True)]
    files = [write_member(tmp_path, m, offset=o) for m, o in zip(sky, offsets, strict=True)]
    catalog = true_catalog(*true)
    lossless = measured(make_map(rng, true, noise=0.0), catalog)["flux_mjy"]
    ratio = {}
    for kept in (True, False):
        found, *_ = coadd.coadd_maps(files, COADD, OPTIONS | {"correct_pointing": kept})
        ratio[kept] = (measured(found, catalog)["flux_mjy"] / lossless).to_numpy()
    m = templates.curvature(sky[0].template, 0)
    expected = 1 - 0.5 * (20 / 60) ** 2 * np.trace(m)
    np.testing.assert_allclose(ratio[True], 1.0, atol=2e-3)
    assert expected < 0.95
    assert ratio[False].mean() == pytest.approx(expected, abs=0.01)


def test_fluxes_and_errors_of_faint_sources_are_true(tmp_path, rng):
    """Sources of 1.5 sigma in each of six maps that point 12 arcsec off: fluxes unbiased, pulls of unit width."""
    pulls = []
    for trial in range(4):
        true, sky = grid_sources(7.5), []
        for name in names(6):
            offset = 12 * rng.standard_normal(2)
            sky.append(
                write_member(tmp_path / str(trial), make_map(rng, true, map_id=name, offset=offset), offset=offset)
            )
        found, *_ = coadd.coadd_maps(sky, COADD, OPTIONS)
        rows = measured(found, true_catalog(*true))
        assert rows["flux_err_mjy"].mean() == pytest.approx(5 / np.sqrt(6), rel=0.01)
        pulls += ((rows["flux_mjy"] - 7.5) / rows["flux_err_mjy"]).tolist()
    assert abs(np.mean(pulls)) < 0.3 and 0.85 < np.std(pulls) < 1.15  # 3 sigma of 100 values


def test_bands_are_linked_by_the_spectral_index(tmp_path, rng):
    """With f = (nu / nu_0)^alpha a source has its flux at nu_0, and the error of the best combination."""
    alpha, nu = -0.7, (90.0, 150.0)
    nu_0 = np.sqrt(90 * 150)
    factors = [(value / nu_0) ** alpha for value in nu]
    ids = [f"solat_i1_f090_{NIGHT}", f"solat_i1_f150_{NIGHT}"]
    sky = [
        make_map(rng, grid_sources(500.0 * f), map_id=name, freq_ghz=value, fwhm_arcmin=width, noise=0.0, err_mjy=err)
        for name, f, value, width, err in zip(ids, factors, nu, (2.0, 1.3), (5.0, 8.0), strict=True)
    ]
    found, *_ = coadd.coadd_maps([write_member(tmp_path, m) for m in sky], COADD, OPTIONS, alpha)
    rows = measured(found, true_catalog(*grid_sources(500.0)))
    single = [
        measured(m, true_catalog(*grid_sources(500.0)))["flux_mjy"] / f for m, f in zip(sky, factors, strict=True)
    ]
    assert found.info.freq_ghz == pytest.approx(nu_0)
    assert rows["flux_mjy"].mean() == pytest.approx(np.mean(single), rel=5e-3)
    kappa = sum(f**2 / err**2 for f, err in zip(factors, (5, 8), strict=True))
    assert rows["flux_err_mjy"].mean() == pytest.approx(kappa**-0.5, rel=2e-3)


def test_template_is_the_shape_of_noise_and_sources(tmp_path, rng):
    """The template of a coadd of two beams is the autocorrelation of its noise, to 3 sigma of so many pixels."""
    ids = names(2)
    sky = [make_map(rng, NONE, map_id=n, fwhm_arcmin=w, shape=(256, 384)) for n, w in zip(ids, (2.2, 1.2), strict=True)]
    found, *_ = coadd.coadd_maps([write_member(tmp_path, m) for m in sky], COADD, OPTIONS)
    widths = [templates.fwhm_arcmin(m.template, 10) for m in (*sky, found)]
    assert widths[1] < widths[2] < widths[0]
    s = found.rho / np.sqrt(found.kappa)
    lags = [np.mean(s[:-k] * s[k:]) / np.mean(s**2) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(lags, templates.evaluate_pixels(found.template, np.arange(1, 5), 0, 10), atol=0.05)


def test_bright_known_sources_leave_nothing(tmp_path, rng):
    """Sources of SNR 400 and other shape in each of two bands, some where a map ends, leave no detection behind."""
    true = grid_sources(2000.0, 17.3)
    catalog, ids = true_catalog(*true), [f"solat_i1_f090_{NIGHT}", f"solat_i1_f150_{NIGHT}"]
    sky = [make_map(rng, true, map_id=n, fwhm_arcmin=w) for n, w in zip(ids, (2.2, 1.3), strict=True)]
    y, x = geometry.sky2pix(sky[1].wcs, *true[:2])
    half = cut(sky[1], (0, 192), (0, int(x[12]) + 3))  # three columns beside a source
    found, *_ = coadd.coadd_maps([write_member(tmp_path, m, catalog) for m in (sky[0], half)], COADD, OPTIONS)
    rows = measured(found, catalog)
    np.testing.assert_allclose(rows["flux_mjy"], 2000, rtol=0.02)
    y, x, flux = photometry.fitted_sources(found, rows)
    rest = subtraction.subtract_sources(found.rho, found.kappa, y, x, flux, found.template)
    assert detection.find(found, rest, section("find_sources"), pointing.PointingModel()).empty
    assert np.abs(rest / np.sqrt(np.maximum(found.kappa, 1e-9))).max() < 6


def test_moving_objects_are_left_out(tmp_path, rng):
    """An asteroid that each map sees elsewhere is in none of the coadd; with the mask off it is."""
    sky, files = [], []
    for k, name in enumerate(names(2)):
        place = np.atleast_1d(geometry.offset_position(*CENTRE, 600.0 * k, 0.0)).T
        m = make_map(rng, (*np.array(place).reshape(2, 1), [500.0]), map_id=name)
        columns = {"name": ["(1) Ceres"], "kind": "asteroid", "radius_arcmin": 0.0, "pos_err_arcsec": 0.2}
        columns |= dict(zip(("ra_deg", "dec_deg"), np.array(place).reshape(2, 1), strict=True)) | {"time_unix_s": NIGHT}
        moving = tables.make("moving", columns | {"ra_rate_arcsec_h": 0.0, "dec_rate_arcsec_h": 0.0})
        files.append(write_member(tmp_path, m, moving=moving))
        sky.append(m)
    found, arrays, *_ = coadd.coadd_maps(files, COADD, OPTIONS | {"moving_mask_arcmin": 3.0})
    assert np.max(found.rho / np.sqrt(found.kappa)) < 8
    assert np.count_nonzero(arrays["coadd/hits"][0] == 1) == pytest.approx(2 * np.pi * 6**2, rel=0.1)
    kept, *_ = coadd.coadd_maps(files, COADD, OPTIONS | {"moving_mask_arcmin": 0.0})
    assert np.max(kept.rho / np.sqrt(kept.kappa)) > 50


def test_edges_of_a_map_are_not_used(tmp_path, rng):
    """Pixels under the edge mask of a map take no part, and the coadd has no edge but its own."""
    sky = make_map(rng, NONE)
    mask = np.zeros(sky.rho.shape, "u1")
    mask[:, :6], mask[50:60, 50:60] = tables.MASK_BITS["EDGE"], tables.MASK_BITS["GALAXY"]
    found, *_ = coadd.coadd_maps([write_member(tmp_path, dataclasses.replace(sky, mask=mask))], COADD, OPTIONS)
    assert (found.kappa[:, :6] == 0).all() and (found.mask[:, :6] == tables.MASK_BITS["UNOBSERVED"]).all()
    assert (found.mask[50:60, 50:60] == tables.MASK_BITS["GALAXY"]).all() and (found.kappa[50:60, 50:60] > 0).all()


def test_what_the_maps_share_enters_the_errors(tmp_path, rng):
    """Unknown sky of 1 sigma in each of nine maps adds up faster than noise; the flat field makes the SNR true."""
    common = 0.2 * filtered_noise((384, 384), rng, knee=0.02)
    sky = [make_map(rng, NONE, map_id=n, shape=(384, 384)) for n in names(9)]
    sky = [dataclasses.replace(m, rho=(m.rho + common).astype("f4")) for m in sky]
    files = [write_member(tmp_path, m) for m in sky]
    plain, *_ = coadd.coadd_maps(files, COADD, OPTIONS)
    found, *_ = coadd.coadd_maps(files, COADD, section("coadd_maps"))
    assert plain.info.info["snr_std"] == pytest.approx(np.sqrt(1 + 9), rel=0.1)
    assert np.std(found.rho / np.sqrt(found.kappa)) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(found.rho / found.kappa, plain.rho / plain.kappa, rtol=1e-4, atol=1e-3)


def test_one_bad_map_costs_that_map(tmp_path, rng):
    """A failed map and one of another sky are left out with their reasons; with none left the coadd says why."""
    good = write_member(tmp_path, make_map(rng, NONE, map_id=names(3)[0]))
    bad = write_member(tmp_path, make_map(rng, NONE, map_id=names(3)[1]), reason="map.fits: is truncated")
    found, _, members, _ = coadd.coadd_maps([good, bad], COADD, OPTIONS)
    assert members["reason"].tolist() == ["", "map.fits: is truncated"] and found.info.info["members"] == names(1)
    with pytest.raises(maps.MapError, match=r"none of 1 maps can be summed \(.*is truncated\)"):
        coadd.coadd_maps([bad], COADD, OPTIONS)


@pytest.mark.parametrize("cores", [1, 2])
def test_one_map_is_held_at_a_time(tmp_path, rng, monkeypatch, cores):
    """When a map is read, the one before is no longer in memory; a second core may read it while that one is added."""
    alive, read = weakref.WeakSet(), coadd_members.read_member
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))

    def counted(header, options):
        assert len(alive) < cores
        member = read(header, options)
        alive.add(member.sky_map)
        return member

    monkeypatch.setattr(coadd_members, "read_member", counted)
    files = [write_member(tmp_path, make_map(rng, NONE, map_id=name)) for name in names(4)]
    assert coadd.coadd_maps(files, COADD, OPTIONS)[2]["n_pixels"].gt(0).all()


def test_file_is_that_of_a_map(tmp_path, rng):
    """A coadd written and read again is a map with all it needs: images, template, labels, site and beam."""
    files = [write_member(tmp_path, make_map(rng, NONE, map_id=name)) for name in names(2)]
    found, arrays, members, attrs = coadd.coadd_maps(files, COADD, OPTIONS)
    path, frames = tmp_path / "coadd.h5", {"members": ("coadd_members", members)}
    maps.write_sky_map(path, found, attrs | {"status": "ok"}, more_arrays=arrays, frames=frames)
    again = maps.read_sky_map(path)
    np.testing.assert_array_equal(again.rho, found.rho)
    assert (again.info.map_id, again.info.array, again.info.band) == (COADD, "coadd", "f090")
    header = coadd_members.read_header(coadd_members.MemberFiles(path, *files[0][1:]))
    assert header.site == (-22.96, -67.79, 5147.0) and header.grid.shape == found.rho.shape
