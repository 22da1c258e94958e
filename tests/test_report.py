"""The page of a run: what is on it for a night with candidates, without any, and for maps that failed."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_template

from sotrplib import catalogs, geometry, maps, pointing, report, store, tables, variability

SHAPE = (96, 160)
NIGHT = 1_760_100_000
FLUX_ERR = 10.0
CANDIDATE = "SOTRP_J000024.0-300600"
KNOWN_ID = "known <1> & co"


class Page(HTMLParser):
    """Identifiers, links and open elements of a page."""

    VOID = {"meta", "link", "img", "br", "input"}

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.stack = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[key] for key in ("href", "xlink:href") if key in attrs]
        self.sources += [attrs["src"]] if "src" in attrs else []
        self.stack += [] if tag in self.VOID else [tag]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.stack.pop() == tag


def car_wcs(ra0_deg=0.0):
    return geometry.make_car(ra0_deg, -30.0, SHAPE[1] / 120 / np.cos(np.radians(30)), SHAPE[0] / 120, 0.5)


def known_sources():
    """Three known sources of 300, 600 and 900 mJy, one on each side of RA 0."""
    columns = {name: np.nan for name in tables.column_names("catalog")}
    columns |= {"source_id": [KNOWN_ID, "k2", "k3"], "source_name": [KNOWN_ID, "k2", "k3"]}
    columns |= {"ra_deg": [0.3, 359.7, 359.9], "dec_deg": [-30.1, -29.9, -30.2], "flux_mjy": [300.0, 600.0, 900.0]}
    return tables.make("catalog", columns)


def candidate_table(**values):
    """One candidate at RA 0.1, Dec -30.1."""
    columns = {
        "candidate_id": [CANDIDATE], "ra_deg": 0.1, "dec_deg": -30.1, "ra_err_arcsec": 4.0, "dec_err_arcsec": 4.0,
        "class": "transient", "reason": "confirmed: 2 arrays <in one> observation", "confirmed": True,
        "time_unix_s": NIGHT, "max_snr": 15.0, "combined_snr": 20.0, "n_maps": 2, "n_arrays": 2, "n_bands": 1,
        "n_covering": 2, "flux_mjy": 150.0, "flux_err_mjy": FLUX_ERR, "band": "f090", "map_id": "solat_i1_f090_1760100000",
        "matched_name": "",
    }  # fmt: skip
    return tables.make("candidates", columns | values)


def write_map(folder, row, rng, flux_mjy=150.0):
    """Files of one map with the known sources and one candidate, seen 20 arcsec east of where they are."""
    names = [folder / stage / f"{row['map_id']}.h5" for stage in ("preprocessed", "pointing", "forced_photometry")]
    if row["status"] == "failed":
        for name in names:
            frames = {"forced": ("forced", tables.empty("forced"))}
            store.write(name, attrs={key: row[key] for key in ("map_id", "status", "reason")}, frames=frames)
        return tuple(names)
    shape, wcs = car_wcs()
    known = known_sources()
    ra, dec = np.append(known["ra_deg"], 0.1), np.append(known["dec_deg"], -30.1)
    flux = np.append(known["flux_mjy"], flux_mjy)
    y, x = geometry.sky2pix(wcs, *geometry.offset_position(ra, dec, 20.0, 0.0))
    snr = filtered_noise(shape, rng) + filtered_sources(shape, y, x, flux / FLUX_ERR)
    mask = np.zeros(shape, "u1")
    mask[:8] = tables.MASK_BITS["EDGE"]
    info = maps.MapInfo(row["map_id"], "solat", row["array"], row["band"], 90.0, row["time_unix_s"])
    kappa = np.full(shape, FLUX_ERR**-2, "f4")
    kappa[:4] = 0
    rho = np.where(kappa > 0, snr / FLUX_ERR, 0).astype("f4")
    sky_map = maps.SkyMap(rho, kappa, None, mask, wcs, info, make_template(n_rows=shape[0]))
    maps.write_sky_map(names[0], sky_map, {"status": "ok", "reason": ""})
    model = pointing.PointingModel("constant", 0, (0.0, -30.0), 1.0, np.array([[20.0], [0.0]]), np.zeros((2, 1, 1)), n_used=3)
    store.write(names[1], attrs={"map_id": row["map_id"], "pointing": pointing.to_dict(model)})
    forced = {name: np.nan for name in tables.column_names("forced")} | {name: known[name] for name in known.columns[:4]}
    forced |= {"flux_mjy": known["flux_mjy"], "flux_err_mjy": FLUX_ERR, "snr": known["flux_mjy"] / FLUX_ERR}
    forced |= {"catalog_flux_mjy": known["flux_mjy"] / 1.02, "n_blend": 1, "flags": 0, "time_unix_s": row["time_unix_s"]}
    frames = {"forced": ("forced", tables.make("forced", forced))}
    store.write(names[2], attrs={"map_id": row["map_id"], "status": "ok"}, frames=frames)
    return tuple(names)


def map_row(array, time, status="ok"):
    row = {"map_id": f"solat_{array}_f090_{time}", "instrument": "solat", "array": array, "band": "f090"}
    attrs = {"status": status, "reason": "map.fits: is truncated" if status == "failed" else "", "time_unix_s": time}
    numbers = {"area_deg2": 1.0, "flux_err_mjy": FLUX_ERR, "snr_std": 1.0} if status == "ok" else {}
    return catalogs.map_row(row, attrs | numbers, 3, (3, 4, 1), offset=(20.0, 0.0))


def confirming(candidates, rows, flux_mjy):
    """Measurements of each candidate in each usable map."""
    good = [row for row in rows if row["status"] == "ok"] * len(candidates)
    ids = np.repeat(candidates["candidate_id"].to_numpy(object), len(good) // max(len(candidates), 1))
    columns = {name: 0.0 for name in tables.column_names("measurements")}
    columns |= {name: [row[name] for row in good] for name in ("map_id", "array", "band", "time_unix_s")}
    columns |= {"source_id": ids, "source_name": ids, "kind": "confirm", "ra_deg": 0.1, "dec_deg": -30.1}
    columns |= {"flux_mjy": np.resize(flux_mjy, len(good)), "flux_err_mjy": FLUX_ERR}
    return tables.make("measurements", columns | {"snr": np.resize(flux_mjy, len(good)) / FLUX_ERR})


def write_night(folder, rng, rows, candidates=None, flux_mjy=(150.0, 8.0)):
    """Files and tables of a run: what :func:`report.write_page` takes."""
    candidates = tables.empty("candidates") if candidates is None else candidates
    files = [write_map(folder, row, rng, flux) for row, flux in zip(rows, np.resize(flux_mjy, len(rows)), strict=True)]
    forced = [store.read_table(paths[2], "forced") for paths in files]
    parts = [catalogs.forced_measurements(table, row) for table, row in zip(forced, rows, strict=True)]
    measurements = catalogs.merge_measurements([*parts, confirming(candidates, rows, flux_mjy)])
    sources, bands = catalogs.merge_sources(measurements, candidates)
    frames = {"maps": catalogs.make_maps(rows), "candidates": candidates, "sources": sources, "source_bands": bands}
    return frames | {"measurements": measurements, "catalog": known_sources()}, files


def write_page(folder, *night):
    report.write_page(folder / "report.html", *night)
    return (folder / "report.html").read_text()


def check_whole(text):
    """The page is well formed, its inner links lead somewhere, and it loads nothing."""
    page = Page(text)
    assert page.stack == []
    assert len(page.ids) == len(set(page.ids))
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids)
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "NaN" not in text and "nan" not in re.sub(r'"data:[^"]*"', "", text).split("<script")[0].split()
    return page


TWO_MAPS = [map_row("i1", NIGHT), map_row("i3", NIGHT + 600)]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A night of two maps and a failed one, one candidate seen in the first map, and its page."""
    folder = tmp_path_factory.mktemp("night")
    made = write_night(folder, np.random.default_rng(1), [*TWO_MAPS, map_row("i4", NIGHT, "failed")], candidate_table())
    return made, write_page(folder, *made)


def test_page_shows_the_night(night):
    """The candidate has its evidence, a light curve with a limit, and a cutout from each of the two maps."""
    page = check_whole(night[1])
    assert {CANDIDATE, "map-solat_i1_f090_1760100000", "map-solat_i3_f090_1760100600"} <= set(page.ids)
    assert "confirmed: 2 arrays &lt;in one&gt; observation" in night[1]
    assert "f090 95 % limit" in night[1]
    assert night[1].count(f'alt="SNR around {CANDIDATE}') == 2
    assert "#" + CANDIDATE in page.links


def test_failed_map_stands_first_with_its_reason(night):
    """The first row of the table of maps is the failed one, and it has no figures."""
    rows = re.findall(r'<tr( class="failed")?>\s*<td class="text">(?:<a[^>]*>)?(solat_\w+)', night[1])
    assert [name for _, name in rows] == ["solat_i4_f090_1760100000", "solat_i1_f090_1760100000", "solat_i3_f090_1760100600"]
    assert [bool(failed) for failed, _ in rows] == [True, False, False]
    assert "map.fits: is truncated" in night[1]
    assert "map-solat_i4_f090_1760100000" not in Page(night[1]).ids


def test_equal_runs_give_equal_bytes(night, tmp_path):
    """Drawing the page again gives the same bytes."""
    assert write_page(tmp_path, *night[0]) == night[1]


def test_names_cannot_break_the_page(night):
    """Source names with <, & and quotes arrive unchanged in the table of sources."""
    data = json.loads(re.search(r'id="source-data">(.*?)</script>', night[1], re.S)[1])
    assert KNOWN_ID in [row[0] for row in data["rows"]]
    assert len(data["head"]) == len(data["rows"][0])
    assert [link for link in data["links"] if link] == [CANDIDATE]


def test_one_map_without_candidates(tmp_path, rng):
    """A night of one map with nothing new says so."""
    text = write_page(tmp_path, *write_night(tmp_path, rng, TWO_MAPS[:1]))
    check_whole(text)
    assert "No candidates" in text and "map-solat_i1_f090_1760100000" in text


def test_all_maps_failed(tmp_path, rng):
    """A night without a usable map gives a page with the reasons and no figure."""
    text = write_page(tmp_path, *write_night(tmp_path, rng, [map_row("i1", NIGHT, "failed")]))
    check_whole(text)
    assert "No map could be used" in text and "map.fits: is truncated" in text
    assert "<svg role" not in text


def test_no_maps_at_all(tmp_path, rng):
    """Tables without rows give a page."""
    check_whole(write_page(tmp_path, *write_night(tmp_path, rng, [])))


def test_sources_of_the_map_are_taken_out_of_its_histogram(night):
    """The map is Gaussian once its known sources are subtracted where the pointing puts them."""
    views = [report.view_map(*paths, night[0][0]["measurements"], draw=False) for paths in night[0][1]]
    assert [view.warnings for view in views if view] == [[], []]
    assert views[2] is None


def test_cutout_is_centred_north_up_east_left(rng):
    """A source is in the middle of its cutout with the pointing offset, and one 3 arcmin east of it to the left."""
    shape, wcs = car_wcs()
    y, x = geometry.sky2pix(wcs, *geometry.offset_position(0.1, -30.1, [20.0, 200.0], [0.0, 0.0]))
    snr = filtered_sources(shape, y, x, [50.0, 40.0])
    model = pointing.PointingModel(coefficients=np.array([[20.0], [0.0]]))
    image = report.cut_out(snr, wcs, {"ra_deg": 0.1, "dec_deg": -30.1}, model)
    middle = (image.shape[0] - 1) / 2
    peak = np.unravel_index(np.argmax(image), image.shape)
    assert np.abs(np.array(peak) - middle).max() <= 1.5
    left = image[:, : int(middle - 6)]
    peak = np.unravel_index(np.argmax(left), left.shape)
    assert np.abs(np.array(peak) - [middle, middle - 12]).max() <= 1.5


def test_cutout_outside_the_map_is_blank():
    """Pixels beyond the edge of the map are NaN."""
    shape, wcs = car_wcs()
    image = report.cut_out(np.ones(shape), wcs, {"ra_deg": 180.0, "dec_deg": -30.0}, pointing.PointingModel())
    assert np.isnan(image).all()


@pytest.mark.parametrize("ra0", [0.0, 180.0, 359.9])
def test_coverage_over_the_wrap(ra0):
    """The covered area is that of the map and the figure is centred on it, wherever RA 0 lies."""
    shape, wcs = car_wcs(ra0)
    usable = np.ones(shape, bool)
    found = report.cover_sky([(usable, 1, wcs), (usable, 1, wcs)])
    assert found["area_deg2"] == pytest.approx(geometry.area_deg2(shape, wcs, usable), rel=0.02)
    assert abs((found["ra0_deg"] - ra0 + 180) % 360 - 180) < 0.01
    assert np.ptp(found["x_deg"]) < 2.5
    assert set(np.unique(found["count"])) == {0, 2}


def test_coverage_of_nothing():
    """No map, or maps without a usable pixel, cover nothing."""
    shape, wcs = car_wcs()
    assert report.cover_sky([]) is None
    assert report.cover_sky([(np.zeros(shape, bool), 1, wcs)]) is None


def test_middle_of_right_ascensions():
    """The middle lies opposite the widest gap."""
    assert report.middle_ra(np.array([350.0, 10.0])) == pytest.approx(0, abs=1e-9)
    assert report.middle_ra(np.array([100.0, 140.0])) == pytest.approx(120)


def test_noise_is_judged():
    """Gaussian noise of unit width passes; wider noise and a negative tail are told."""
    noise = np.random.default_rng(2).normal(size=100_000)
    assert report.judge_noise(noise) == []
    assert report.judge_noise(1.2 * noise)[0] == "the noise is 1.20 times the stated error"
    assert "200 pixels lie below -5 sigma" in report.judge_noise(np.append(noise, np.full(200, -7.0)))[0]
    assert report.judge_noise(np.empty(0)) == ["no usable pixel"]


def test_candidates_are_ranked():
    """Transients come before artefacts, confirmed before unconfirmed, bright before faint."""
    parts = [
        candidate_table(candidate_id=["a"], **{"class": "artefact"}, combined_snr=99.0),
        candidate_table(candidate_id=["b"], confirmed=False, combined_snr=50.0),
        candidate_table(candidate_id=["c"], combined_snr=6.0),
        candidate_table(candidate_id=["d"], combined_snr=8.0),
    ]
    assert list(report.rank_candidates(pd.concat(parts))["candidate_id"]) == ["d", "c", "b", "a"]


def test_neighbours_are_in_the_cutout():
    """A known source 3 arcmin east is a neighbour across RA 0; one 6 arcmin away is not."""
    ra, dec = geometry.offset_position(0.01, -30.0, np.array([-180.0, -360.0]), np.zeros(2))
    catalog = known_sources().head(2).assign(ra_deg=ra, dec_deg=dec)
    found = report.find_neighbours({"ra_deg": 0.01, "dec_deg": -30.0}, catalog)
    assert found == [{"name": KNOWN_ID, "east": -3.0, "north": pytest.approx(0, abs=1e-3)}]


def test_flux_ratio_is_measured(night):
    """Fluxes 2 % above the catalogue give a ratio of 1.02."""
    (found,) = report.compare_fluxes(night[0][1], night[0][0]["maps"])
    assert found["n"] == 6 and found["ratio"] == pytest.approx(1.02, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.2345, "1.23"), (-12.345, "−12.3"), (123456.0, "123456"), (np.nan, "–"), (7, "7"), (1.5e-6, "1.5e−06"), (0.0, "0")],
)
def test_numbers_are_short(value, text):
    """Numbers have three digits, whole numbers all of theirs, and what is missing is a dash."""
    assert report.format_number(value) == text


def test_times_are_utc():
    """Unix seconds are shown in UTC to the minute, an unknown time as a dash."""
    assert report.format_utc(0.0) == "1970-01-01 00:00"
    assert report.format_utc(np.nan) == "–"


def test_usable_measurements_alone_make_the_light_curve(tmp_path, rng):
    """A candidate whose measurements are all masked is shown without a light curve."""
    frames, files = write_night(tmp_path, rng, TWO_MAPS, candidate_table())
    frames["measurements"]["flags"] = np.uint32(tables.flag("MASKED"))
    assert not variability.usable(frames["measurements"]).any()
    text = write_page(tmp_path, frames, files)
    check_whole(text)
    assert "No usable measurement at this position" in text
