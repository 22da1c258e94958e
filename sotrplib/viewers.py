"""Sources and candidates for programs that show the sky: DS9 regions, and pages of links into Aladin Lite.

Neither needs a network to be written or opened; a link that is followed does. Aladin and other viewers of all-sky
surveys (HiPS) also take the VOTables of :mod:`sotrplib.exports` as they are.
"""

import html
import string

import numpy as np

SURVEYS = {"optical": "CDS/P/DSS2/color", "infrared": "CDS/P/allWISE/color", "radio": "CDS/P/NVSS"}
COLORS = {
    "transient": "red",
    "flare": "orange",
    "new_source": "magenta",
    "moving": "cyan",
    "artefact": "white",
}
_SOURCE_COLOR = "green"
_MIN_RADIUS_ARCSEC = 30.0
_FOV_DEG = 0.25
_HEADER = """# Region file format: DS9 version 4.1
global color=green dashlist=8 3 width=1 font="helvetica 10 normal roman" select=1 highlite=1 edit=1 move=1 delete=1
icrs
"""
_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% }
td, th { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid #ddd }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 } td, th { border-color: #444 } a { color: #8bf }
}
</style>
</head>
<body>
<h1>$title</h1>
<p>Each link opens Aladin Lite at the position, $fov arcmin wide.</p>
<table>
<thead><tr>$head</tr></thead>
<tbody>
$rows
</tbody>
</table>
</body>
</html>
""")


def write_regions(path, frame, columns):
    """Write a table of places as DS9 regions.

    Parameters
    ----------
    path : path
    frame : pandas.DataFrame
        Table ``sources`` or ``candidates`` or one with their columns; rows without a position are left out.
    columns : ignored
        For the call of :func:`exports.export`.

    Notes
    -----
    A circle a row, ICRS, of three times the position error and at least 30 arcsec, with the name as its text and its
    class as a tag; colours by class, dashed where a candidate is not confirmed.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(_HEADER)
        file.writelines(_region(row) for row in _placed(frame))


def write_links(path, frame, columns):
    """Write a page with links into Aladin Lite for each row of a table of places, as of :func:`write_regions`."""
    name = "candidates" if "candidate_id" in frame else "sources"
    rows = [_link_row(row) for row in _placed(frame)]
    kind = "class" if name == "candidates" else "measurements"
    head = f'<th>name</th><th>{kind}</th><th class="n">RA (deg)</th><th class="n">Dec (deg)</th><th>sky</th>'
    text = _PAGE.substitute(title=f"{len(rows)} {name}", head=head, rows="\n".join(rows), fov=f"{_FOV_DEG * 60:.0f}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def aladin_url(ra_deg, dec_deg, survey="optical"):
    """Address of Aladin Lite at a position, over one of the surveys of :data:`SURVEYS`."""
    sign = "%2B" if dec_deg >= 0 else "-"
    target = f"{ra_deg:.6f}%20{sign}{abs(dec_deg):.6f}"
    layer = SURVEYS[survey].replace("/", "%2F")
    return f"https://aladin.cds.unistra.fr/AladinLite/?target={target}&fov={_FOV_DEG}&survey={layer}"


def _placed(frame):
    """Rows with a position, as dicts."""
    good = np.isfinite(frame["ra_deg"].to_numpy(float)) & np.isfinite(frame["dec_deg"].to_numpy(float))
    return frame[good].to_dict("records")


def _region(row):
    kind = row.get("class", "")
    errors = [row.get(f"{axis}_err_arcsec", np.nan) for axis in ("ra", "dec")]
    radius = max(_MIN_RADIUS_ARCSEC, 3 * np.nan_to_num(max(errors)))
    look = f"color={COLORS.get(kind, _SOURCE_COLOR)}" + ("" if row.get("confirmed", True) else " dash=1")
    tag = f" tag={{{kind}}}" if kind else ""
    return f'circle({row["ra_deg"]:.7f},{row["dec_deg"]:.7f},{radius:.1f}") # {look} text={{{_text(row)}}}{tag}\n'


def _text(row):
    """Name of a row without the braces that would end the text of a region."""
    name = row.get("candidate_id") or row.get("source_name") or row.get("source_id", "")
    return name.replace("{", "(").replace("}", ")").replace("\n", " ")


def _link_row(row):
    place = f'<td class="n">{row["ra_deg"]:.5f}</td><td class="n">{row["dec_deg"]:+.5f}</td>'
    links = " ".join(
        f'<a rel="noreferrer" href="{html.escape(aladin_url(row["ra_deg"], row["dec_deg"], survey))}">{survey}</a>'
        for survey in SURVEYS
    )
    kind = row.get("class", row.get("n_measurements", ""))
    return f"<tr><td>{html.escape(_text(row))}</td><td>{html.escape(str(kind))}</td>{place}<td>{links}</td></tr>"
