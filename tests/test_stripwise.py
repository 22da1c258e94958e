"""Measured and searched strip by strip, a filtered map gives the numbers that it gives as a whole."""

import numpy as np
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_sky_map, make_template
from scipy.spatial import cKDTree
from tall_maps import CONFIG, make_catalog

from sotrplib import (
    detection,
    ephemerides,
    geometry,
    maps,
    photometry,
    pointing,
    revisits,
    store,
    strips,
    stripwise,
    tables,
)
from sotrplib.template import Template

SHAPE = (1001, 320)
STRIP_MPIX = 0.15
MARGIN = 96  # rows: two half sizes of the template, and some to spare
SEAMS = [strip.core.start for strip in strips.plan(SHAPE, STRIP_MPIX, MARGIN)[1:]]
WHOLE = 64.0
KAPPA = 0.04
NO_POINTING = pointing.PointingModel(kind="constant")
SEAM_OFFSETS = np.array([-0.5, -0.5 + 1e-9, -0.5 - 1e-9, 0.0, -1.0, 2.0, -3.0])
BLEND = np.array([[-2.0, 0.0], [2.5, 1.0]])  # across a seam: rows and columns from its middle


def place_sources(rng):
    """Rows, columns and SNR: scattered ones, those on seams, and a blend across every seam."""
    y, x = rng.uniform(15, SHAPE[0] - 15, 150), rng.uniform(15, SHAPE[1] - 15, 150)
    away = np.min([np.abs(y - seam) for seam in SEAMS], axis=0) > 25
    y, x, snr = y[away], x[away], rng.choice([6.0, 10.0, 30.0, 150.0], 150)[away]
    columns = np.linspace(20, 250, len(SEAM_OFFSETS))
    for seam in SEAMS:
        y, x = np.append(y, seam + SEAM_OFFSETS), np.append(x, columns)
        y, x = np.append(y, seam + BLEND[:, 0]), np.append(x, 290 + BLEND[:, 1])
        snr = np.append(snr, [*np.full(len(SEAM_OFFSETS), 12.0), 20.0, 40.0])
    return y, x, snr


class Case:
    """A filtered map with holes and a masked area across a seam in its file, and its sources."""

    def __init__(self, folder):
        rng = np.random.default_rng(3)
        self.y, self.x, self.snr = place_sources(rng)
        s = filtered_noise(SHAPE, rng, knee=0.02) + filtered_sources(SHAPE, self.y, self.x, self.snr, knee=0.02)
        s = s.astype("f4")
        s[SEAMS[0] - 10 : SEAMS[0] + 5, 120:150] = s[:, 300:303] = np.nan
        sky_map = make_sky_map(s, make_template(n_rows=SHAPE[0], knee=0.02), kappa=KAPPA, ra0_deg=0.0)
        mask = sky_map.mask.copy()
        mask[SEAMS[1] - 30 : SEAMS[1] + 20, 40:60] |= tables.MASK_BITS["PLANET"]
        time = np.where(np.isfinite(s), np.arange(SHAPE[0])[:, None] / 7, np.nan).astype("f4")
        self.sky_map = maps.SkyMap(
            sky_map.rho, sky_map.kappa, time, mask, *(getattr(sky_map, name) for name in ("wcs", "info", "template"))
        )
        self.path = folder / "map.h5"
        maps.write_sky_map(self.path, self.sky_map, {"status": "ok", "reason": ""})
        self.catalog = make_catalog(sky_map.wcs, self.y, self.x, self.snr / np.sqrt(KAPPA))

    def pixels(self, table):
        return np.stack(geometry.sky2pix(self.sky_map.wcs, table["ra_deg"], table["dec_deg"]), 1)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("filtered"))


def measure_in(path, catalog, model, options, strip_mpix):
    """Forced photometry with cutouts, as the script does it."""
    sheet = stripwise.open_map(path, strip_mpix, photometry.reach_arcmin(options))

    def measure_on(sky_map, catalog):
        table = photometry.measure_known(sky_map, catalog, model, options)
        return table, photometry.cutout_arrays(sky_map, table, options["cutout_arcmin"], pointing=model)

    catalog = photometry.to_measure(catalog, options)
    return stripwise.measure_known(sheet, catalog, model, measure_on, photometry.unusable_pixels)


def find_in(path, known, options, strip_mpix):
    """Blind search with cutouts, as the script does it."""
    sheet = stripwise.open_map(path, strip_mpix, photometry.reach_arcmin(options))

    def search(sky_map):
        unknown = sky_map if known is None else revisits.without_known(sky_map, known, NO_POINTING)
        table = detection.find(sky_map, unknown.rho, options, NO_POINTING)
        return table, photometry.cutout_arrays(unknown, table, options["cutout_arcmin"], pointing=NO_POINTING)

    return stripwise.find(sheet, NO_POINTING, search)


def offsets_in(path, catalog, options, strip_mpix):
    return stripwise.measure_offsets(
        stripwise.open_map(path, strip_mpix, pointing.reach_arcmin(options)), catalog, options
    )


def measure(case, strip_mpix, model=NO_POINTING, **options):
    return measure_in(case.path, case.catalog, model, CONFIG["forced_photometry"] | options, strip_mpix)


def find(case, strip_mpix, forced=None, **options):
    return find_in(case.path, forced, CONFIG["find_sources"] | options, strip_mpix)


@pytest.fixture(scope="module")
def forced(case):
    """Tables and cutouts of the whole map and of its strips."""
    return measure(case, WHOLE), measure(case, STRIP_MPIX)


@pytest.fixture(scope="module")
def found(case):
    return find(case, WHOLE), find(case, STRIP_MPIX)


# ---- known sources -----------------------------------------------------------------------------------


def test_forced_photometry_is_that_of_the_whole(forced):
    """Every source has one row, in the order of the catalogue, with fluxes within 0.002 sigma and the same flags."""
    (whole, _), (cut, _) = forced
    assert len(SEAMS) == 3
    assert cut["source_id"].tolist() == whole["source_id"].tolist()
    change = (cut["flux_mjy"] - whole["flux_mjy"]) / whole["flux_err_mjy"]
    assert np.nanmax(np.abs(change)) < 0.002
    for name in ("flags", "n_blend", "source_id"):
        assert cut[name].tolist() == whole[name].tolist()
    for name in ("flux_err_mjy", "ra_offset_arcsec", "dec_offset_arcsec", "time_unix_s", "edge_distance_arcmin"):
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-3, atol=1e-3)


def test_forced_photometry_is_unbiased(case, forced):
    """On and beside seams the pulls of 12 sigma sources have a mean of 0 within 0.5 and a scatter of 1 within 0.4."""
    cut = forced[1][0].merge(case.catalog[["source_id"]].assign(y=case.y, snr_true=case.snr), on="source_id")
    beside = (np.min([np.abs(cut["y"] - seam) for seam in SEAMS], axis=0) < 5) & np.isfinite(cut["flux_mjy"])
    pull = ((cut["flux_mjy"] - cut["catalog_flux_mjy"]) / cut["flux_err_mjy"])[beside]
    assert len(pull) > 20
    assert pull.mean() == pytest.approx(0, abs=0.5)
    assert pull.std() == pytest.approx(1, abs=0.4)


def test_blends_across_a_seam_are_solved_together(case, forced):
    """Two sources on either side of a seam, less than two widths apart, are one blend in both."""
    cut = forced[1][0].set_index("source_id")
    pairs = [cut.iloc[-9 * k - 2 :].iloc[:2] for k in range(len(SEAMS))]
    assert [pair["n_blend"].tolist() for pair in pairs] == [[2, 2]] * len(SEAMS)


@pytest.mark.parametrize("name", ["flux", "snr", "offset"])
def test_cutouts_are_whole(forced, found, name):
    """Cutouts are those of the whole map, also over a seam; halfway between pixels either may be the middle one."""
    (_, whole), (_, cut) = forced
    sure = np.abs(np.abs(whole["cutouts/offset"][0]) - 0.5).min(axis=1) > 1e-6
    assert sure.sum() > 100
    np.testing.assert_allclose(cut[f"cutouts/{name}"][0][sure], whole[f"cutouts/{name}"][0][sure], atol=1e-8)
    assert cut[f"cutouts/{name}"][1] == whole[f"cutouts/{name}"][1]
    (_, whole), (_, cut) = found
    np.testing.assert_allclose(cut[f"cutouts/{name}"][0], whole[f"cutouts/{name}"][0], atol=0.02)


def test_method_none_measures_nothing(case):
    """No photometry is a table without rows, with cutouts of no source."""
    table, arrays = measure(case, STRIP_MPIX, method="none")
    assert len(table) == 0 and len(arrays["cutouts/flux"][0]) == 0
    assert list(table.dtypes) == list(tables.empty("forced").dtypes)


def test_faint_sources_can_be_left_out(case):
    """The limit in flux leaves out the same sources as in the whole map, and cutouts can be left out."""
    whole, cut = (measure(case, limit, flux_min_mjy=55.0, cutout_arcmin=0.0) for limit in (WHOLE, STRIP_MPIX))
    assert cut[0]["source_id"].tolist() == whole[0]["source_id"].tolist()
    assert cut[1] == whole[1] == {}


def test_pointing_moves_sources_over_seams(case):
    """With a pointing model of two pixels each source still has one row, with the numbers of the whole map."""
    model = pointing.PointingModel("fixed", coefficients=np.array([[0.0], [60.0]]))
    (whole, _), (cut, _) = (measure(case, limit, model) for limit in (WHOLE, STRIP_MPIX))
    assert cut["source_id"].tolist() == whole["source_id"].tolist()
    np.testing.assert_allclose(cut["flux_mjy"], whole["flux_mjy"], atol=0.01)


# ---- blind search ------------------------------------------------------------------------------------


def test_blind_search_is_that_of_the_whole(case, found):
    """Strips find what the whole map finds, each once, brightest first, with fluxes within 0.01 sigma."""
    (whole, _), (cut, _) = found
    assert len(cut) == len(whole)
    distance, index = cKDTree(case.pixels(cut)).query(case.pixels(whole))
    assert distance.max() < 0.05 and sorted(index) == list(range(len(cut)))
    assert cut["detection_id"].tolist() == list(range(len(cut)))
    assert np.all(np.diff(cut["flux_mjy"]) <= 0)
    cut = cut.iloc[index].reset_index(drop=True)
    assert np.max(np.abs(cut["flux_mjy"] - whole["flux_mjy"]) / whole["flux_err_mjy"]) < 0.01
    assert cut["flags"].tolist() == whole["flags"].tolist()
    np.testing.assert_allclose(cut["edge_distance_arcmin"], whole["edge_distance_arcmin"], atol=0.01)


def test_sources_on_seams_are_found_once(case, found):
    """Each source above 6 sigma on a seam, on good sky, is one detection."""
    cut = found[1][0]
    pixels = np.rint(case.y).astype(int), np.rint(case.x).astype(int)
    beside = np.min([np.abs(case.y - seam) for seam in SEAMS], axis=0) < 5
    seen = beside & (case.sky_map.mask[pixels] == 0) & (case.snr >= 12)
    near = cKDTree(case.pixels(cut)).query_ball_point(np.stack([case.y, case.x], 1)[seen], 2.5)
    assert seen.sum() > 20
    assert [len(each) for each in near] == [1] * seen.sum()


def test_known_sources_leave_nothing(case, forced):
    """With the known sources taken out, strips find as little as the whole map."""
    whole, cut = (find(case, limit, forced[0][0])[0] for limit in (WHOLE, STRIP_MPIX))
    assert len(cut) == len(whole) < 5


def test_islands_are_found_across_seams(case):
    """The finder of islands finds the same number of sources."""
    whole, cut = (find(case, limit, finder="segments", snr_min=8.0)[0] for limit in (WHOLE, STRIP_MPIX))
    assert len(cut) == len(whole)


def test_no_finder_finds_nothing(case):
    """The finder none gives a table without rows."""
    assert len(find(case, STRIP_MPIX, finder="none")[0]) == 0


@pytest.fixture(scope="module")
def turn(tmp_path_factory):
    """A map of a full turn in RA, in pixels of half a degree, with a source on the seam of RA; path and positions."""
    shape = (240, 720)
    y, x = np.array([60.0, 119.5, 200.3, 130.0]), np.array([0.2, 719.6, 718.0, 360.0])
    s = filtered_noise(shape, np.random.default_rng(8)) + filtered_sources(shape, y, x, np.full(4, 30.0))
    s[20:40, 300:320] = np.nan
    template = make_template(n_rows=shape[0])
    coarse = Template(template.values, template.row_edges, np.array([[30.0, 30.0]]))
    sky_map = make_sky_map(s.astype("f4"), coarse)
    wcs = geometry.make_car(0.0, 0.0, 360.0, 120.0, 30.0)[1]
    path = tmp_path_factory.mktemp("turn") / "map.h5"
    about = {"status": "ok", "reason": ""}
    maps.write_sky_map(
        path, maps.SkyMap(sky_map.rho, sky_map.kappa, None, sky_map.mask, wcs, sky_map.info, coarse), about
    )
    return path, make_catalog(wcs, y, x, np.full(4, 150.0))


def test_a_map_of_all_ra_continues_on_its_other_side(turn):
    """Distances to the edge go over the seam of RA in strips as in the whole map, and sources there are found once."""
    path, catalog = turn
    options = CONFIG["forced_photometry"] | {"cutout_arcmin": 0.0}
    (whole, _), (cut, _) = (measure_in(path, catalog, NO_POINTING, options, limit) for limit in (WHOLE, 0.1))
    np.testing.assert_allclose(cut["edge_distance_arcmin"], whole["edge_distance_arcmin"], rtol=1e-6)
    assert cut["edge_distance_arcmin"].min() > 1000
    assert cut["source_id"].tolist() == whole["source_id"].tolist() == catalog["source_id"].tolist()
    options = CONFIG["find_sources"] | {"cutout_arcmin": 0.0, "snr_min": 10.0}
    (whole, _), (cut, _) = (find_in(path, None, options, limit) for limit in (WHOLE, 0.1))
    assert len(cut) == len(whole)
    np.testing.assert_allclose(cut["ra_deg"], whole["ra_deg"], atol=1e-6)


# ---- pointing and time -------------------------------------------------------------------------------


def test_pointing_sources_are_those_of_the_whole(case):
    """Offsets are measured for the same sources, each once, and are those of the whole map."""
    options = CONFIG["fit_pointing"] | {"isolation_arcmin": 2.0}
    shifted = case.catalog.assign(dec_deg=case.catalog["dec_deg"] - 50 / 3600)
    whole, cut = (offsets_in(case.path, shifted, options, limit) for limit in (WHOLE, STRIP_MPIX))
    cut = cut.set_index("source_id").loc[whole["source_id"]]
    assert len(cut) == len(whole) > 40
    np.testing.assert_allclose(cut["dec_offset_arcsec"], whole["dec_offset_arcsec"], atol=0.01)
    assert np.median(cut["dec_offset_arcsec"]) == pytest.approx(50, abs=1)


def test_a_strip_without_known_sources_is_no_trouble(case):
    """Catalogues of one source, and of none, give a table of one row and of none."""
    for n in (1, 0):
        catalog = case.catalog[np.flatnonzero(case.snr > 100)[0] :][:n]
        assert len(offsets_in(case.path, catalog, CONFIG["fit_pointing"], STRIP_MPIX)) == n
        options = CONFIG["forced_photometry"]
        assert len(measure_in(case.path, catalog, NO_POINTING, options, STRIP_MPIX)[0]) == n


def test_times_are_read_where_they_are_asked_for(case):
    """The clock of a map whose times stay in the file tells the times of the map in memory."""
    rng = np.random.default_rng(2)
    y, x = rng.uniform(-5, SHAPE[0] + 5, 500), rng.uniform(-5, SHAPE[1] + 5, 500)
    times, clocks = [], []
    for limit in (WHOLE, STRIP_MPIX):
        time, wcs, info = maps.read_times(case.path, limit)
        times.append(time)
        clocks.append(ephemerides.PixelClock(time, info.t_ref_unix_s, wcs.array_shape))
    assert isinstance(times[0], np.ndarray) and isinstance(times[1], store.Image)
    np.testing.assert_array_equal(clocks[0](y, x), clocks[1](y, x))
    assert [getattr(clocks[1], name) for name in ("first", "middle", "last")] == [
        getattr(clocks[0], name) for name in ("first", "middle", "last")
    ]


def test_a_failed_map_is_an_error(tmp_path):
    """A file that records a failed map is refused by name."""
    store.write(tmp_path / "map.h5", attrs={"status": "failed", "reason": "no data"})
    with pytest.raises(maps.MapError, match="records a failed map .no data."):
        stripwise.open_map(tmp_path / "map.h5", STRIP_MPIX, 6.0)
