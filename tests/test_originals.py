"""The original's pickled table: its columns and units, with what is known of each measurement."""

import numpy as np
import pandas as pd

from sotrplib import exports, originals, tables

# The columns of the table that the original library keeps of its measurements.
ORIGINAL = {
    "source_type", "ra", "dec", "err_ra", "err_dec", "flux", "err_flux", "frequency", "ctime", "arr", "source_id",
    "catalog_crossmatch", "crossmatch_names", "crossmatch_probabilities", "fit_type", "fwhm_ra", "fwhm_dec",
    "err_fwhm_ra", "err_fwhm_dec", "orientation", "map_id",
}  # fmt: skip


def make(schema, **columns):
    texts = [column.name for column in tables.SCHEMAS[schema] if column.dtype == "str"]
    return tables.make(schema, dict.fromkeys(tables.column_names(schema), 0.0) | dict.fromkeys(texts, "") | columns)


def test_measurements_in_the_columns_of_the_original(tmp_path):
    """A known source, a flare of one and a blind detection of a new thing come with units, matches and errors."""
    labels = {"source_id": ["k1", "C1", "C2"], "source_name": ["known", "known", "C2"]}
    measurements = make("measurements", **labels, kind=["forced", "confirm", "blind"], flux_mjy=[5.0, 6.0, 7.0])
    errors = {"ra_err_arcsec": [3.6, 7.2], "dec_err_arcsec": [1.8, 7.2]}
    candidates = make("candidates", candidate_id=["C1", "C2"], matched_name=["known", ""], **errors)
    frame = originals.measured_sources(measurements, candidates)
    exports.export(tmp_path / "measured_sources.pickle", frame, originals.COLUMNS)
    found = pd.read_pickle(tmp_path / "measured_sources.pickle")
    assert set(found.columns) == ORIGINAL
    assert found["crossmatch_names"].tolist() == [["known"], ["known"], []]
    assert found["crossmatch_probabilities"].tolist() == [[1.0], [1.0], []]
    assert found["catalog_crossmatch"].tolist() == [True, True, False]
    assert found["fit_type"].tolist() == ["forced", "forced", "blind"]
    np.testing.assert_allclose(found["err_ra"], [np.nan, 0.001, 0.002])
    assert found["flux"].tolist() == [5.0, 6.0, 7.0]


def test_no_measurements():
    """A night without measurements is a table of these columns without rows."""
    frame = originals.measured_sources(tables.empty("measurements"), tables.empty("candidates"))
    assert len(frame) == 0 and set(frame.columns) == ORIGINAL
