"""The page in a real browser: no error on the console, nothing asked of a network, and quick with 50,000 sources."""

import json
import re
import shutil
import subprocess

import browser
import nights
import numpy as np
import pytest

from sotrplib import lightcurves, tables
from sotrplib.report import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: Debian has it as package chromium"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--dump-dom",
    "--virtual-time-budget=20000", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip
DESKTOP, PHONE = "1280,900", "390,844"
N_SOURCES = 50_000


def visit(path, actions="", size=DESKTOP):
    """Open a page from disk, do ``actions`` (JavaScript that fills ``told``) once it is ready: what they told."""
    script = (
        "<script>ready.then(async () => { const told = {}; "
        + actions
        + ' const pre = document.createElement("pre"); pre.id = "told"; pre.textContent = JSON.stringify(told);'
        + " document.body.append(pre); });</script>"
    )
    copy = path.with_name("visited.html")
    copy.write_text(path.read_text().replace("</body>", script + "</body>"))
    command = [CHROMIUM, *FLAGS, f"--window-size={size}", f"--user-data-dir={path.parent}/profile", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return json.loads(re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)[1])


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Page of a night of two maps, a failed one, and a candidate."""
    folder = tmp_path_factory.mktemp("browser")
    rows = [*nights.TWO_MAPS, nights.map_row("i4", nights.NIGHT, "failed")]
    made = nights.write_night(folder, np.random.default_rng(1), rows, nights.candidate_table())
    jobs = [{"rule": "preprocess_map", "map_id": rows[0]["map_id"], "seconds": 2.5, "memory_mb": 230.0}]
    page.write_page(folder / "report.html", *made, resources=jobs)
    return folder / "report.html"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_is_drawn_without_errors(night, size):
    """The sky is drawn, nothing is wider than the screen, and nothing was loaded from anywhere."""
    told = visit(
        night,
        """
        await new Promise((resolve) => setTimeout(resolve, 500));
        const canvas = document.getElementById("sky-canvas"), pen = canvas.getContext("2d");
        const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
        told.painted = pixels.filter((value, k) => k % 4 === 3 && value).length;
        told.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
        told.loaded = loaded.filter((name) => !name.startsWith("data:")).length;
        told.used = document.querySelector(".used").textContent;
        """,
        size,
    )
    assert told["painted"] > 5000
    assert told["wide"] <= 0 and told["loaded"] == 0
    assert told["used"].startswith("Used 2.5 s (preprocess map 2.5) and at most 230 MB")


def test_a_click_shows_the_light_curve(night):
    """Search by name and by position find the source; its row opens a light curve with a point a measurement."""
    told = visit(
        night,
        """
        const search = document.getElementById("source-search");
        const find = (text) => {
          search.value = text;
          search.dispatchEvent(new Event("input"));
          return document.querySelectorAll("#sources tbody tr").length;
        };
        told.all = find("");
        told.none = find("no such source");
        told.near = find("0.3 -30.1");
        told.named = find("K2");
        document.querySelector("#sources tbody button").click();
        told.points = document.querySelectorAll("td.details svg.curve g title").length;
        told.sparks = document.querySelectorAll("#sources .spark path").length;
        document.querySelector("#sources tbody button").click();
        told.closed = document.querySelectorAll("td.details").length;
        """,
    )
    assert told == {"all": 4, "none": 0, "near": 1, "named": 1, "points": 2, "sparks": 1, "closed": 0}


def test_the_sky_zooms_about_its_middle(night):
    """Zooming in changes the labels of the axes and zooming out brings the first picture back."""
    told = visit(
        night,
        """
        const wait = () => new Promise((resolve) => setTimeout(resolve, 300));
        const canvas = document.getElementById("sky-canvas");
        await wait();
        const first = canvas.toDataURL();
        document.getElementById("sky-in").click();
        await wait();
        told.changed = canvas.toDataURL() !== first;
        document.getElementById("sky-all").click();
        await wait();
        told.back = canvas.toDataURL() === first;
        """,
    )
    assert told == {"changed": True, "back": True}


def many_sources():
    """Tables of 50,000 sources measured six times in one band."""
    rows = [nights.map_row("i1", nights.NIGHT + 86400 * k) for k in range(6)]
    rng = np.random.default_rng(3)
    ids = np.array([f"source {k:05d}" for k in range(N_SOURCES)])
    flux = np.repeat(10 ** rng.uniform(0.5, 3, N_SOURCES), 6)
    columns = {name: 0.0 for name in tables.column_names("measurements")} | {"kind": "forced", "flags": 0}
    columns |= {"source_id": np.repeat(ids, 6), "source_name": np.repeat(ids, 6), "band": "f090", "array": "i1"}
    columns |= {"map_id": np.tile([row["map_id"] for row in rows], N_SOURCES), "flux_err_mjy": 10.0}
    columns |= {"time_unix_s": np.tile([float(row["time_unix_s"]) for row in rows], N_SOURCES)}
    columns |= {"flux_mjy": flux + rng.normal(0, 10, 6 * N_SOURCES)}
    measurements = tables.make("measurements", columns | {"snr": columns["flux_mjy"] / 10})
    sources = {name: np.nan for name in tables.column_names("sources")} | {"source_id": ids, "source_name": ids}
    sources |= {"ra_deg": rng.uniform(0, 360, N_SOURCES), "dec_deg": rng.uniform(-60, 20, N_SOURCES)}
    sources |= {"n_measurements": 6, "n_simultaneous": 0}
    bands = {name: rng.normal(size=N_SOURCES) for name in tables.column_names("source_bands")}
    bands |= {"source_id": ids, "band": "f090", "n_measurements": 6}
    curves, _ = lightcurves.build(measurements, {"detect_snr": 3.0, "limit_confidence": 0.95})
    return {
        "maps": nights.catalogs.make_maps(rows), "candidates": tables.empty("candidates"), "measurements": measurements,
        "sources": tables.make("sources", sources), "source_bands": tables.make("source_bands", bands),
        "lightcurves": curves, "catalog": tables.empty("catalog"), "counterparts": tables.empty("counterparts"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Page of 50,000 sources."""
    path = tmp_path_factory.mktemp("large") / "report.html"
    page.write_page(path, many_sources(), [])
    return path


def test_fifty_thousand_sources_are_all_there(large):
    """All are in the table, sorted and searched, while the page never holds more than a screenful of rows."""
    size = large.stat().st_size
    told = visit(
        large,
        """
        const count = () => document.getElementById("source-count").textContent;
        const read = (tr) => Number(tr.cells[5].textContent.replace("−", "-"));
        const values = () => [...document.querySelectorAll("#sources tbody tr")].map(read);
        const head = (name) => document.querySelector(`#sources th button[data-name="${name}"]`);
        told.count = count();
        told.nodes = document.getElementsByTagName("*").length;
        told.falling = values().every((value, k, all) => !k || all[k - 1] >= value);
        head("max SNR").click();
        told.rising = values().every((value, k, all) => !k || all[k - 1] <= value);
        head("Source").click();
        told.first = document.querySelector("#sources tbody button").textContent;
        const search = document.getElementById("source-search");
        search.value = "49999";
        search.dispatchEvent(new Event("input"));
        told.found = count();
        document.querySelector("#sources tbody button").click();
        told.points = document.querySelectorAll("td.details svg.curve g title").length;
        """,
    )
    assert told["count"] == "50000 of 50000 sources, 100 on show"
    assert told["falling"] and told["rising"] and told["first"] == "source 00000"
    assert told["found"] == "1 of 50000 sources, 1 on show" and told["points"] == 6
    assert told["nodes"] < 6000
    assert size < 300 * N_SOURCES


def test_fifty_thousand_sources_stay_quick(large, tmp_path, record_testsuite_property):
    """From the click or the key to the new table laid out takes 0.1 s (sorting by name at first 0.4 s).

    The bounds are for machines with much else to do.
    """
    script = """ready.then(() => {
      const told = {}, best = (name, action) => {
        told[name] = Infinity;
        for (let k = 0; k < 4; k++) {
          const start = performance.now();
          action(k);
          document.body.getBoundingClientRect();
          told[name] = Math.min(told[name], performance.now() - start);
        }
      };
      const head = (name) => document.querySelector(`#sources th button[data-name="${name}"]`);
      const search = document.getElementById("source-search");
      const type = (text) => { search.value = text; search.dispatchEvent(new Event("input")); };
      const start = performance.now();
      head("Source").click();
      document.body.getBoundingClientRect();
      told.names = performance.now() - start;
      best("again", () => head("Source").click());
      best("numbers", (k) => head(k % 2 ? "RA" : "max SNR").click());
      best("search", (k) => type(`${k}99`));
      best("place", (k) => type(`${10 * k + 5} -30`));
      type("");
      best("click", () => document.querySelector("#sources tbody button").click());
      best("more", () => document.getElementById("source-more").click());
      told.rows = document.querySelectorAll("#sources tbody tr button").length;
      return JSON.stringify(told);
    })"""
    with browser.open_page(large.as_uri(), tmp_path / "profile") as page:
        page.wait_for("of 50000 sources")
        answer = page.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
    told = json.loads(answer["result"]["value"])
    record_testsuite_property("milliseconds_of_50000_sources", told)
    assert told.pop("rows") == 100 + 4 * 300
    assert set(told) == {"names", "again", "numbers", "search", "place", "click", "more"}
    assert max(told[name] for name in set(told) - {"names"}) < 2000, told
    assert told["names"] < 6000, told
