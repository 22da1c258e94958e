"""The page of a run: what is on it for a night with candidates, without any, and for maps that failed."""

import base64
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import nights
import numpy as np
import pandas as pd
import pytest

from sotrplib import geometry, maps, tables, variability
from sotrplib.report import candidates as cards
from sotrplib.report import checks, fluxes, packs, page, words


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


def unpack(text, name):
    """What a pack of the page holds: its words, and its arrays by name."""
    whole = zlib.decompress(base64.b64decode(re.search(rf'id="{name}">(.*?)</script>', text, re.S)[1]))
    size = int.from_bytes(whole[:4], "little")
    header = json.loads(whole[4 : 4 + size])
    kinds = {
        "Float32Array": "<f4",
        "Float64Array": "<f8",
        "Int32Array": "<i4",
        "Uint16Array": "<u2",
        "Uint8Array": "u1",
    }
    arrays = {
        name: np.frombuffer(whole, kinds[kind], length, 4 + size + offset)
        for name, (kind, offset, length) in header["arrays"].items()
    }
    return header["words"], arrays


def write_page(folder, *night):
    page.write_page(folder / "report.html", *night)
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
    said = re.sub(r'"data:[^"]*"', "", text.split("<script")[0])
    assert "NaN" not in said and "nan" not in said.split()
    return page


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A night of two maps and a failed one, one candidate seen in the first map, and its page."""
    folder = tmp_path_factory.mktemp("night")
    made = nights.write_night(
        folder,
        np.random.default_rng(1),
        [*nights.TWO_MAPS, nights.map_row("i4", nights.NIGHT, "failed")],
        nights.candidate_table(),
    )
    return made, write_page(folder, *made)


def test_page_shows_the_night(night):
    """The candidate has its evidence, a light curve with a limit, and a cutout from each of the two maps."""
    page = check_whole(night[1])
    assert {nights.CANDIDATE, "map-solat_i1_f090_1760100000", "map-solat_i3_f090_1760100600"} <= set(page.ids)
    assert "confirmed: 2 arrays &lt;in one&gt; observation" in night[1]
    assert "f090 95 % limit" in night[1]
    for kind in ("SNR", "flux"):
        assert night[1].count(f'alt="{kind} around {nights.CANDIDATE}') == 2
    assert "#" + nights.CANDIDATE in page.links


def test_failed_map_stands_first_with_its_reason(night):
    """The first row of the table of maps is the failed one, and it has no figures."""
    rows = re.findall(r'<tr(?: class="(failed|fine)")?>\s*<td class="text">(?:<a[^>]*>)?(solat_\w+)', night[1])
    assert [name for _, name in rows] == [
        "solat_i4_f090_1760100000",
        "solat_i1_f090_1760100000",
        "solat_i3_f090_1760100600",
    ]
    assert [kind for kind, _ in rows] == ["failed", "fine", "fine"]
    assert "map.fits: is truncated" in night[1]
    assert "map-solat_i4_f090_1760100000" not in Page(night[1]).ids


def test_equal_runs_give_equal_bytes(night, tmp_path):
    """Drawing the page again gives the same bytes."""
    assert write_page(tmp_path, *night[0]) == night[1]


def test_names_cannot_break_the_page(night):
    """Source names with <, & and quotes arrive unchanged in the table of sources, with their light curves."""
    said, arrays = unpack(night[1], "source-pack")
    row = said["names"].index(nights.KNOWN_ID)
    assert len(said["names"]) == len(arrays["column0"]) == len(arrays["first"]) - 1
    assert [link for link in said["links"] if link] == [nights.CANDIDATE]
    mine = slice(*arrays["first"][[row, row + 1]])
    assert arrays["flux"][mine] == pytest.approx([300, 300], rel=2**-12)
    assert [said["maps"][k] for k in arrays["map"][mine]] == ["solat_i1_f090_1760100000", "solat_i3_f090_1760100600"]
    assert (said["start"] + arrays["time"][mine]).tolist() == [nights.NIGHT, nights.NIGHT + 600]


def test_limits_of_the_light_curve_are_those_of_the_file(night):
    """Of the candidate's two measurements the fainter is a limit."""
    said, arrays = unpack(night[1], "source-pack")
    row = said["links"].index(nights.CANDIDATE)
    limit = arrays["limit"][slice(*arrays["first"][[row, row + 1]])]
    assert np.isnan(limit).tolist() == [True, False]
    assert limit[1] == pytest.approx(variability.upper_limits(np.array([8.0]), 10.0)[0], rel=2**-12)


def test_the_sky_is_packed_with_its_links(night):
    """The map of the sky holds the known sources in view and leads to the candidate's card."""
    said, arrays = unpack(night[1], "sky-pack")
    assert len(arrays["flux"]) == len(said["names"]) == 3
    assert said["links"] == ["#" + nights.CANDIDATE] and said["classes"] == ["transient"]
    assert abs(said["ra0"] - arrays["found_x"][0] * 0) <= 360 and np.abs(arrays["known_x"]).max() < 1


def test_packs_keep_numbers():
    """Packed arrays of every type come back, shortened ones to a part in 8000; NaN stays."""
    values = np.array([1.0, -2.5e-7, 3e8, np.nan])
    given = {
        "a": packs.shorten(values),
        "b": np.arange(5, dtype="u1"),
        "c": np.array([1.5]),
        "d": np.arange(3, dtype="i4"),
    }
    _, arrays = unpack(f'id="x">{packs.pack(given, {})}</script>', "x")
    assert arrays["a"] == pytest.approx(values, rel=2**-13, nan_ok=True)
    assert [arrays[name].tolist() for name in "bcd"] == [[0, 1, 2, 3, 4], [1.5], [0, 1, 2]]


def test_one_map_without_candidates(tmp_path, rng):
    """A night of one map with nothing new says so."""
    text = write_page(tmp_path, *nights.write_night(tmp_path, rng, nights.TWO_MAPS[:1]))
    check_whole(text)
    assert "No candidates" in text and "map-solat_i1_f090_1760100000" in text


def test_all_maps_failed(tmp_path, rng):
    """A night without a usable map gives a page with the reasons and no figure."""
    text = write_page(tmp_path, *nights.write_night(tmp_path, rng, [nights.map_row("i1", nights.NIGHT, "failed")]))
    check_whole(text)
    assert "No map could be used" in text and "map.fits: is truncated" in text
    assert "<svg role" not in text


def test_no_maps_at_all(tmp_path, rng):
    """Tables without rows give a page."""
    check_whole(write_page(tmp_path, *nights.write_night(tmp_path, rng, [])))


def test_candidates_are_ranked():
    """Transients come before artefacts, confirmed before unconfirmed, bright before faint."""
    parts = [
        nights.candidate_table(candidate_id=["a"], **{"class": "artefact"}, combined_snr=99.0),
        nights.candidate_table(candidate_id=["b"], confirmed=False, combined_snr=50.0),
        nights.candidate_table(candidate_id=["c"], combined_snr=6.0),
        nights.candidate_table(candidate_id=["d"], combined_snr=8.0),
    ]
    assert list(cards.rank_candidates(pd.concat(parts))["candidate_id"]) == ["d", "c", "b", "a"]


def test_neighbours_are_in_the_cutout():
    """A known source 3 arcmin east is a neighbour across RA 0; one 6 arcmin away is not."""
    ra, dec = geometry.offset_position(0.01, -30.0, np.array([-180.0, -360.0]), np.zeros(2))
    catalog = nights.known_sources().head(2).assign(ra_deg=ra, dec_deg=dec)
    found = cards.find_neighbours({"ra_deg": 0.01, "dec_deg": -30.0}, catalog)
    assert found == [{"name": nights.KNOWN_ID, "east": -3.0, "north": pytest.approx(0, abs=1e-3)}]


def test_flux_ratio_is_measured(night):
    """Fluxes 2 % above the catalogue give a ratio of 1.02."""
    frames, files = night[0]
    usable = [page.MapFiles(*paths) for paths in files[:2]]
    (found,) = fluxes.compare_fluxes(page.read_compared(usable, frames["maps"]), frames, page.Given().reference)
    assert found["n"] == 6 and found["ratio"] == pytest.approx(1.02, abs=1e-6)
    assert found["told"] == "catalogue fluxes hold at this frequency: the ratio is the calibration"


def test_ratio_of_other_bands_tells_of_spectra():
    """Sources of index -0.4 brought from 90 to 150 GHz with -0.7 are said to need indices higher by 0.3."""
    ratio = (150 / 90) ** 0.3
    told = fluxes.explain_ratio(ratio, 0.01 * ratio, 150.0, page.Given().reference)
    assert told.startswith("catalogue fluxes hold at 90 GHz and were brought to 150 GHz with the index −0.7")
    assert told.endswith("indices higher by 0.300 ± 0.020 make the ratio 1")


def test_ratio_is_of_sources_chosen_by_their_catalogue_flux(rng):
    """The ratio of sources near 10 sigma is 1, as it would not be of those measured above 10 sigma."""
    true = np.full(4000, 105.0)
    flux = true + rng.normal(0, 10, true.size)
    rows = pd.DataFrame({"catalog_flux_mjy": true, "flux_mjy": flux, "flux_err_mjy": 10.0})
    ratio, ratio_err, n = checks.flux_ratio(rows)
    assert n == len(true) and abs(ratio - 1) < 4 * ratio_err and ratio_err < 0.003
    assert np.median(flux[flux > 100] / 105) > 1 + 10 * ratio_err


@pytest.mark.parametrize("found_by", cards.FOUND_BY)
def test_card_says_what_found_it_and_its_counterparts(tmp_path, rng, found_by):
    """The search that found a candidate and all its counterparts stand on its card in words."""
    night, files = nights.write_night(tmp_path, rng, nights.TWO_MAPS, nights.candidate_table(found_by=found_by))
    columns = {"candidate_id": nights.CANDIDATE, "external_name": ["A & B", "C"], "external_catalog": "stars"}
    columns |= {"external_type": ["star", ""], "external_sep_arcsec": [3.2, 8.0], "external_p_chance": [1e-3, 0.2]}
    night["counterparts"] = tables.make("counterparts", columns | {"external_score": [0.9, 0.1]})
    text = write_page(tmp_path, night, files)
    check_whole(text)
    assert f"<dt>found</dt><dd>{cards.FOUND_BY[found_by]}</dd>" in text
    assert "A &amp; B (stars, star), 3.2″ away" in text and "C (stars), 8″ away" in text


def test_of_many_maps_the_newest_and_the_worst_have_figures(tmp_path, rng, monkeypatch):
    """The rest have a small image that leads to their sheet; every map of the table leads to one of these."""
    monkeypatch.setattr(page, "MAPS_MAX", 1)
    monkeypatch.setattr(page, "THUMBNAILS_MAX", 1)
    rows = [nights.map_row("i1", nights.NIGHT + 86400 * k) for k in range(4)]
    frames, files = nights.write_night(tmp_path, rng, rows)
    sky_map = maps.read_sky_map(files[1][0])
    maps.write_sky_map(files[1][0], replace(sky_map, rho=1.5 * sky_map.rho), {"status": "ok", "reason": ""})
    nights.write_view(tmp_path, nights.files_of(tmp_path, rows[1]["map_id"]))
    sheets = [tmp_path / "figures" / f"{row['map_id']}.png" for row in rows]
    page.write_page(tmp_path / "report.html", frames, files, sheets=sheets)
    text = (tmp_path / "report.html").read_text()
    seen = check_whole(text)
    assert {f"map-{row['map_id']}" for row in rows} <= set(seen.ids)
    assert re.findall(r'<article class="card" id="map-(\w+)"', text) == [rows[k]["map_id"] for k in (1, 3)]
    assert [link for link in seen.links if link.endswith(".png")] == [
        f"figures/{rows[k]['map_id']}.png" for k in (0, 2)
    ]
    assert text.count('alt="SNR of solat') == 2 + 1
    assert "Shown in full are 2 of 4 maps, the 1 newest and older ones that are not Gaussian" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.2345, "1.23"),
        (-12.345, "−12.3"),
        (123456.0, "123456"),
        (np.nan, "–"),
        (7, "7"),
        (1.5e-6, "1.5e−06"),
        (0.0, "0"),
    ],
)
def test_numbers_are_short(value, text):
    """Numbers have three digits, whole numbers all of theirs, and what is missing is a dash."""
    assert words.format_number(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (268.1, 6.23, "268.1 ± 6.2"),
        (-0.97, 6.4, "−1.0 ± 6.4"),
        (5321.0, 123.0, "5321 ± 123"),
        (1.0213, 0.0123, "1.021 ± 0.012"),
    ],
)
def test_pairs_share_their_decimals(value, error, text):
    """A number is given to the second digit of its error."""
    assert words.format_pair(value, error) == text


def test_times_are_utc():
    """Unix seconds are shown in UTC to the minute, an unknown time as a dash."""
    assert words.format_utc(0.0) == "1970-01-01 00:00"
    assert words.format_utc(np.nan) == "–"


def test_usable_measurements_alone_make_the_light_curve(tmp_path, rng):
    """A candidate whose measurements are all masked is shown without a light curve."""
    frames, files = nights.write_night(tmp_path, rng, nights.TWO_MAPS, nights.candidate_table())
    frames["measurements"]["flags"] = np.uint32(tables.flag("MASKED"))
    assert not variability.usable(frames["measurements"]).any()
    text = write_page(tmp_path, frames, files)
    check_whole(text)
    assert "No usable measurement at this position" in text
