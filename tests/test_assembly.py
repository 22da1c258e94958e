"""Filtered strip by strip, a map is what it is when filtered as a whole, up to the noise measured in each strip."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tall_maps
from astropy.io import fits
from tall_maps import MARGIN, cores, scatter_sources, write_tall_map

from sotrplib import assembly, geometry, maps, store, tables, template

SHAPE = (1201, 480)
STRIP_MPIX = 0.2
SEAMS = [core.start for core in cores(SHAPE, STRIP_MPIX)[1:]]
WHOLE = 64.0


def significance(sky_map):
    return np.divide(sky_map.rho, np.sqrt(sky_map.kappa), out=np.zeros_like(sky_map.rho), where=sky_map.kappa > 0)


def at_sources(tall, sky_map):
    """Flux and error of the sources at their nearest pixels."""
    pixels = np.rint(tall.y).astype(int), np.rint(tall.x).astype(int)
    with np.errstate(invalid="ignore", divide="ignore"):
        return sky_map.rho[pixels] / sky_map.kappa[pixels], sky_map.kappa[pixels] ** -0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tall")


@pytest.fixture(scope="module")
def tall(folder):
    """Sources of up to 20 sigma, on seams of 100, across RA 0; a slanted rim, a hole on a seam, depth that changes."""
    rng = np.random.default_rng(7)
    observed = np.ones(SHAPE, bool)
    observed[SEAMS[0] - 8 : SEAMS[0] + 8, 200:216] = False
    observed &= np.arange(SHAPE[1]) > 6 + 4 * np.sin(np.arange(SHAPE[0]) / 20)[:, None]
    depth = 1 + 0.3 * np.sin(np.arange(SHAPE[0]) / 150)[:, None]
    sources = scatter_sources(rng, SHAPE, [0.0, 15.0, 30.0, 60.0], SEAMS, [15.0, 300.0, 60.0, 0.0, 30.0])
    return write_tall_map(folder, rng, SHAPE, sources, observed=observed, depth=depth)


@pytest.fixture(scope="module")
def whole(tall, folder):
    return tall.filter(folder / "whole.h5", WHOLE)


@pytest.fixture(scope="module")
def strips(tall, folder):
    return tall.filter(folder / "strips.h5", STRIP_MPIX)


def test_the_map_is_cut(folder, whole, strips):
    """The limit cuts this map into five strips, whose seams are edges of the bands of its template."""
    assert len(SEAMS) == 4
    assert set(SEAMS) <= set(strips.template.row_edges.tolist())
    assert strips.template.row_edges[[0, -1]].tolist() == [0, SHAPE[0]]
    assert strips.template.values.shape[1:] == whole.template.values.shape[1:]


def test_pixels_are_those_of_the_whole(whole, strips):
    """Times, masks and the sky of every pixel are those of the map filtered as a whole, at seams and holes too."""
    np.testing.assert_array_equal(strips.mask, whole.mask)
    np.testing.assert_array_equal(strips.time, whole.time)
    np.testing.assert_array_equal(strips.kappa > 0, whole.kappa > 0)
    for y, x in ((0, 0), (1200, 479)):
        assert geometry.pix2sky(strips.wcs, y, x) == geometry.pix2sky(whole.wcs, y, x)


def test_errors_are_those_of_the_whole(whole, strips):
    """Errors agree within 1 % in the mean and 2 % rms: the noise is measured in each strip by itself."""
    good = whole.mask == 0
    ratio = np.sqrt(whole.kappa[good] / strips.kappa[good])
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ratio.std() < 0.02


def test_noise_is_that_of_the_whole_across_seams(tall, whole, strips):
    """Away from bright sources the SNR differs by less than 0.15 rms, in the rows beside a seam as elsewhere."""
    bright = np.flatnonzero(tall.flux > 50)
    rows, columns = np.indices(SHAPE)
    far = whole.mask == 0
    for y, x, flux in zip(tall.y[bright], tall.x[bright], tall.flux[bright], strict=True):
        far &= np.hypot(rows - y, columns - x) > (30 if flux < 100 else 60)
    change = significance(strips) - significance(whole)
    beside = np.min([np.abs(rows - seam) for seam in SEAMS], axis=0) < 10
    assert change[far & ~beside].std() < 0.15
    assert change[far & beside].std() < 0.15


def test_fluxes_are_those_of_the_whole(tall, whole, strips):
    """At the sources the flux differs by less than 0.2 sigma rms and 0.05 in the mean, on seams as elsewhere."""
    (flux, error), (other, _) = at_sources(tall, whole), at_sources(tall, strips)
    good = np.isfinite(flux)
    change = ((other - flux) / error)[good]
    on_seam = np.min([np.abs(tall.y - seam) for seam in SEAMS], axis=0)[good] < 5
    assert abs(change.mean()) < 0.05
    assert change[~on_seam].std() < 0.2
    assert change[on_seam].std() < 0.3


def test_numbers_of_the_map(folder, whole, strips):
    """Area, median error, SNR scatter and bad pixels are those of the whole map."""
    one, other = (store.read_attrs(folder / f"{name}.h5") for name in ("whole", "strips"))
    assert other["area_deg2"] == pytest.approx(one["area_deg2"], rel=1e-9)
    assert other["flux_err_mjy"] == pytest.approx(one["flux_err_mjy"], rel=0.01)
    assert other["snr_std"] == pytest.approx(1, abs=0.03)
    assert other["time_unix_s"] == one["time_unix_s"]
    assert strips.info.info["n_sanitised"] == whole.info.info["n_sanitised"]
    assert strips.info.info["snr_std"] == other["snr_std"]


def test_zones_and_tiles_cover_the_map(folder, strips):
    """Zones of the noise follow each other in rows of the map, and the flat field has the tiles of the whole map."""
    spectra = store.read_table(folder / "strips.h5", "noise_spectra").groupby("zone")[["row_first", "row_stop"]].first()
    assert spectra["row_first"].tolist() == [0, *spectra["row_stop"].tolist()[:-1]]
    assert spectra["row_stop"].tolist()[-1] == SHAPE[0]
    one, other = (store.read_array(folder / f"{name}.h5", "flatfield/local_rms") for name in ("whole", "strips"))
    np.testing.assert_allclose(other, one, atol=0.05)


def test_equal_inputs_give_equal_bytes(tall, folder, strips):
    """Filtered once more, the file has the same bytes."""
    tall.filter(folder / "again.h5", STRIP_MPIX)
    assert (folder / "again.h5").read_bytes() == (folder / "strips.h5").read_bytes()


def test_a_limit_that_holds_the_map_changes_nothing(tall, folder, whole):
    """A map of exactly as many pixels as may be held is filtered as a whole: the same bytes."""
    tall.filter(folder / "exact.h5", SHAPE[0] * SHAPE[1] / 1e6)
    assert (folder / "exact.h5").read_bytes() == (folder / "whole.h5").read_bytes()


def test_a_box_of_the_filtered_map_is_that_part_of_it(tall, folder, strips):
    """Cut after the filter, the box holds the bits of the uncut map, and strips beside it are not filtered at all."""
    box = {"ra_min_deg": -0.5, "ra_max_deg": 0.5, "dec_min_deg": -21.0, "dec_max_deg": -20.0}
    cut = tall.filter(folder / "box.h5", STRIP_MPIX, cut=assembly.Cut(box, 6.0, filtered=True))
    (y, x), (ny, nx) = geometry.sky2pix(strips.wcs, *geometry.pix2sky(cut.wcs, 0, 0)), cut.rho.shape
    window = slice(round(float(y)), round(float(y)) + ny), slice(round(float(x)), round(float(x)) + nx)
    assert ny == pytest.approx(144, abs=2)
    for name in ("rho", "kappa", "mask", "time"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(strips, name)[window])
    inside = maps.cut_window(strips, window)
    rows = np.arange(ny)
    for known in (cut.template.row_edges, inside.template.row_edges):
        assert known[0] <= 0 and known[-1] >= ny
    bands = template.band_of(cut.template, rows), template.band_of(inside.template, rows)
    np.testing.assert_array_equal(cut.template.values[bands[0]], inside.template.values[bands[1]])


# ---- strips with little in them ----------------------------------------------------------------------


@pytest.fixture
def blank(tmp_path, rng):
    """A function that writes a map without sources, with some of its pixels observed and some depth."""
    none = np.zeros((3, 0))
    return lambda **about: write_tall_map(tmp_path, rng, SHAPE, none, **about)


def test_a_strip_without_data_is_unobserved(blank, tmp_path):
    """Where a strip with its margins was not observed, rho and kappa are 0, times unknown, and the rest is there."""
    observed = np.ones(SHAPE, bool)
    observed[SEAMS[0] - MARGIN - 5 : SEAMS[1] + MARGIN + 5] = False
    sky_map = blank(observed=observed).filter(tmp_path / "a.h5", STRIP_MPIX)
    np.testing.assert_array_equal(sky_map.kappa > 0, observed)
    gap = slice(*SEAMS[:2])
    assert not sky_map.rho[gap].any() and np.isnan(sky_map.time[gap]).all()
    assert np.all(sky_map.mask[gap] == tables.MASK_BITS["UNOBSERVED"])
    assert np.all(np.diff(sky_map.template.row_edges) > 0)
    assert significance(sky_map)[sky_map.mask == 0].std() == pytest.approx(1, abs=0.03)


def test_weights_are_judged_by_those_of_the_whole_map(blank, tmp_path):
    """A strip that is ten times as noisy as the rest is below 5 % of the median weight of the map, and dropped."""
    depth = np.ones(SHAPE)
    depth[: SEAMS[0]] = 10
    sky_map = blank(depth=depth).filter(tmp_path / "a.h5", STRIP_MPIX)
    np.testing.assert_array_equal(sky_map.kappa > 0, depth == 1)


def test_a_map_with_nothing_in_it_fails(blank, tmp_path):
    """No weight, or no signal where there is weight, is the same error as of a map read whole; no file is left."""
    tall = blank(observed=np.zeros(SHAPE, bool))
    with pytest.raises(maps.MapError, match="none of 576480 pixels is observed"):
        tall.filter(tmp_path / "a.h5", STRIP_MPIX)
    edit(tall.row["weight_path"], lambda values: values + 1)
    with pytest.raises(maps.MapError, match="all 576480 observed pixels are 0"):
        tall.filter(tmp_path / "a.h5", STRIP_MPIX)
    assert list(tmp_path.glob("*.h5")) + list(tmp_path.glob(".*")) == []


def test_a_map_that_fails_late_leaves_no_file(blank, tmp_path):
    """An error after the first strip, here that the input has changed, leaves neither a file nor a part of one."""
    source = tall_maps.make_source(blank().row)

    def changed():
        raise maps.MapError("map.fits: has changed")

    with pytest.raises(maps.MapError, match="has changed"):
        assembly.filter_map(source, assembly.Cut(), STRIP_MPIX, tmp_path / "a.h5", when_read=changed)
    assert list(tmp_path.glob("*.h5")) + list(tmp_path.glob(".*")) == []


def edit(path, change):
    with fits.open(path) as hdus:
        values, header = change(np.array(hdus[0].data)), hdus[0].header
    fits.writeto(path, values, header, overwrite=True)


def test_little_of_large_files_is_filtered_as_a_whole(blank, tmp_path):
    """Of files larger than may be held the observed part alone counts: one that fits is filtered as ever."""
    observed = np.zeros(SHAPE, bool)
    observed[400:700, 100:400] = True
    tall = blank(observed=observed)
    for name, limit in (("whole", WHOLE), ("strips", STRIP_MPIX)):
        tall.filter(tmp_path / f"{name}.h5", limit)
    assert (tmp_path / "whole.h5").read_bytes() == (tmp_path / "strips.h5").read_bytes()


def test_maps_that_come_filtered_stay_as_they_are(tall, folder, whole):
    """rho and kappa of a map given filtered pass through strips, whatever its template, with one of every strip."""
    tall_maps.write_images(folder, whole.wcs, {"rho": whole.rho, "kappa": whole.kappa})
    paths = {"map_path": str(folder / "rho.fits"), "weight_path": str(folder / "kappa.fits"), "form": "rho_kappa"}
    for shape_from in ("noise", "beam"):
        given = tall.filter(
            folder / "given.h5", STRIP_MPIX, row=paths, given_template=shape_from, flatfield_tile_deg=0.0
        )
        np.testing.assert_array_equal(given.rho, whole.rho)
        np.testing.assert_array_equal(given.kappa, whole.kappa)
        assert given.template.row_edges.tolist() == [0, *SEAMS, SHAPE[0]]


# ---- memory ------------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tall_maps
from sotrplib import logs
folder, strip_mpix = Path(sys.argv[2]), float(sys.argv[3])
source = tall_maps.make_source(tall_maps.make_row(folder))
before = logs.resources_used()["memory_mb"]
filtered = tall_maps.assembly.filter_map(source, tall_maps.assembly.Cut(), strip_mpix, folder / "out.h5")
filtered.write(folder / "out.h5", {"status": "ok", "reason": ""})
print(logs.resources_used()["memory_mb"] - before)
"""


def test_memory_is_bounded(tmp_path, rng):
    """7 million pixels in strips of 0.4 take less than half the memory that they take as a whole, above the imports."""
    shape = (12_000, 600)
    wcs = geometry.make_car(0.0, 0.0, shape[1] / 120, shape[0] / 120, 0.5)[1]
    images = {"map": rng.normal(size=shape) * tall_maps.SIGMA, "ivar": np.full(shape, tall_maps.SIGMA**-2.0)}
    tall_maps.write_images(tmp_path, wcs, images | {"time": np.ones(shape)})
    grown = []
    for strip_mpix in (WHOLE, 0.4):
        command = [sys.executable, "-c", MEASURE, str(Path(__file__).parent), str(tmp_path), str(strip_mpix)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        grown.append(float(done.stdout))
    assert grown[1] < grown[0] / 2
    assert grown[1] < 100
