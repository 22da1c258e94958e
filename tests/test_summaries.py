"""What the last file of a map says of it."""

import numpy as np

from sotrplib import summaries, tables


def table(schema, n):
    columns = {column.name: "" if column.dtype == "str" else 0 for column in tables.SCHEMAS[schema]}
    return tables.make(schema, columns | {"flags": np.zeros(n, int)})


def test_a_map_is_summed_up_from_its_files():
    """Numbers come from the filtered map and the pointing, counts from the tables; what nobody says is NaN."""
    sifted = table("sifted", 5).assign(**{"class": ["transient", "flare", "known", "moving", "noise"]})
    filtered = {"area_deg2": 24.0, "info": {"freq_ghz": 93.0}, "wcs": "long text"}
    found = summaries.of_map(filtered, {"n_pointing": 7}, table("detections", 4), sifted)
    assert (found["area_deg2"], found["freq_ghz"], found["n_pointing"], found["n_detections"]) == (24.0, 93.0, 7, 4)
    assert found["n_candidates"] == 2, "transients and flares are candidates; known, moving and noise are not"
    assert np.isnan(found["snr_std"]) and "wcs" not in found


def test_flags_of_the_search_find_their_rows_again():
    """Rows whose flags a search has changed are remembered by number, and flagged so from the table as it was."""
    before = table("forced", 4).assign(flags=np.array([0, 1, 0, 1], "u4"))
    after = before.assign(flags=before["flags"] | np.uint32([0, tables.flag("NEAR_BRIGHT"), 0, 0]))
    rows = summaries.rows_near_bright(before, after)
    assert rows.tolist() == [1] and rows.dtype == np.int32
    flagged = summaries.flag_near_bright(before, rows)
    assert flagged["flags"].tolist() == after["flags"].tolist() and before["flags"].tolist() == [0, 1, 0, 1]
