"""Regions for DS9 and pages of links: every place once, names of any kind, colours by class."""

import re
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from sotrplib import exports, tables, viewers

NAMES = ["SOTRP_J000024.0-300600", "brace } and {", "<b>&amp;</b>", "nowhere"]
CLASSES = ["transient", "flare", "moving", "artefact"]
REGION = re.compile(
    r'circle\((\d+\.\d+),(-?\d+\.\d+),(\d+\.\d)"\) # color=(\w+)( dash=1)? text=\{([^{}]*)\}(?: tag=\{(\w+)\})?\n'
)


def candidates():
    """Four candidates: one confirmed, one with a large error, one without a position."""
    columns = {name: 1.0 for name in tables.column_names("candidates")} | {"candidate_id": NAMES, "class": CLASSES}
    columns |= {"ra_deg": [0.1, 359.9, 180.0, np.nan], "dec_deg": [-30.1, 0.0, 45.5, np.nan]}
    columns |= {"ra_err_arcsec": [2.0, 2.0, 20.0, 2.0], "dec_err_arcsec": 4.0, "confirmed": [True, False, False, True]}
    texts = [column.name for column in tables.SCHEMAS["candidates"] if column.dtype == "str"]
    return tables.make("candidates", dict.fromkeys(texts, "") | columns)


def write(path, frame, schema):
    exports.export(path, frame, tables.SCHEMAS[schema])
    return path.read_text()


def test_regions_of_candidates(tmp_path):
    """Each place is one circle of three times its error, in ICRS, its name, colour and class; unsure ones dashed."""
    lines = write(tmp_path / "candidates.reg", candidates(), "candidates").splitlines(keepends=True)
    assert lines[0].startswith("# Region file format: DS9") and lines[2] == "icrs\n"
    found = [REGION.fullmatch(line).groups() for line in lines[3:]]
    assert found == [
        ("0.1000000", "-30.1000000", "30.0", "red", None, NAMES[0], "transient"),
        ("359.9000000", "0.0000000", "30.0", "orange", " dash=1", "brace ) and (", "flare"),
        ("180.0000000", "45.5000000", "60.0", "cyan", " dash=1", "<b>&amp;</b>", "moving"),
    ]


def test_regions_of_sources_and_of_nothing(tmp_path):
    """Sources are green circles without a class; a table without rows is a header alone."""
    columns = {name: 1.0 for name in tables.column_names("sources")} | {"source_id": ["a"], "source_name": "b"}
    (line,) = write(tmp_path / "sources.reg", tables.make("sources", columns), "sources").splitlines()[3:]
    assert line == 'circle(1.0000000,1.0000000,30.0") # color=green text={b}'
    assert len(write(tmp_path / "none.reg", tables.empty("sources"), "sources").splitlines()) == 3


class Links(HTMLParser):
    """Texts of the cells and addresses of the links of a page, and what it loads from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.links, self.loaded, self._inside = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._inside = tag == "td"
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]
        self.loaded += [value for name, value in attrs if name == "src" or (tag == "link" and name == "href")]

    def handle_data(self, data):
        if self._inside:
            self.cells.append(data)


def test_page_links_into_aladin(tmp_path):
    """The page lists each place with a link to its position over each survey, and loads nothing itself."""
    page = Links(write(tmp_path / "candidates.html", candidates(), "candidates"))
    assert page.loaded == []
    assert [page.cells[i] for i in (0, 4, 8)] == [NAMES[0], "brace ) and (", "<b>&amp;</b>"]
    assert len(page.links) == 3 * len(viewers.SURVEYS)
    query = parse_qs(urlsplit(page.links[0]).query)
    assert query["target"] == ["0.100000 -30.100000"] and query["survey"] == ["CDS/P/DSS2/color"]
    assert parse_qs(urlsplit(page.links[-1]).query)["target"] == ["180.000000 +45.500000"]


@pytest.mark.parametrize("suffix", [".reg", ".html"])
def test_equal_tables_give_equal_bytes(tmp_path, suffix):
    """Regions and pages hold no clock and no machine."""
    texts = {write(tmp_path / f"{k}{suffix}", candidates(), "candidates") for k in range(2)}
    assert len(texts) == 1 and str(tmp_path) not in texts.pop()
