"""Light curves: order, index and reading one source."""

import numpy as np
import pandas as pd
import pytest

from sotrplib import lightcurves, spools, store, tables, variability

OPTIONS = {"detect_snr": 3.0, "limit_confidence": 0.95}


def measurements(rng, n=200, n_sources=9):
    """Shuffled measurements of a few sources in two bands."""
    columns = {name: rng.normal(size=n) for name in tables.column_names("measurements")}
    columns |= {
        "map_id": [f"map_{k:03d}" for k in range(n)],
        "source_id": rng.integers(0, n_sources, n).astype(str),
        "source_name": "µ",
        "kind": "forced",
        "array": "i1",
        "band": rng.choice(["f090", "f150"], n),
        "time_unix_s": rng.uniform(1.7e9, 1.8e9, n),
        "flags": rng.integers(0, 9, n),
    }
    return tables.make("measurements", columns)


def test_curves_are_sorted_and_indexed(rng):
    """Each source's rows stand together, by band and time, where the index says."""
    frame = measurements(rng)
    curves, index = lightcurves.build(frame, OPTIONS)
    assert index["count"].sum() == len(curves) == len(frame)
    for row in index.itertuples():
        part = curves.iloc[row.first : row.first + row.count]
        assert set(part["source_id"]) == {row.source_id}
        assert list(zip(part["band"], part["time_unix_s"], strict=True)) == sorted(
            zip(part["band"], part["time_unix_s"], strict=True)
        )


def test_order_of_measurements_does_not_matter(rng):
    """Shuffled measurements give the same light curves."""
    frame = measurements(rng)
    shuffled = frame.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(lightcurves.build(frame, OPTIONS)[0], lightcurves.build(shuffled, OPTIONS)[0])


def test_one_source_reads_back_alone(rng, tmp_path):
    """Every source's light curve reads back equal to its rows in the table."""
    curves, index = lightcurves.build(measurements(rng), OPTIONS)
    lightcurves.write(tmp_path / "lc.h5", curves, index, {"what": "test"})
    for source_id in index["source_id"]:
        expected = curves[curves["source_id"] == source_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(lightcurves.read_source(tmp_path / "lc.h5", source_id), expected)


def test_unknown_source_is_named(rng, tmp_path):
    """Asking for a source that is not there raises an error that names it."""
    lightcurves.write(tmp_path / "lc.h5", *lightcurves.build(measurements(rng), OPTIONS))
    with pytest.raises(KeyError, match="no light curve of 'zz'; it holds 9 sources"):
        lightcurves.read_source(tmp_path / "lc.h5", "zz")


def test_blind_measurements_stay_out(rng):
    """Blind detections are no part of a light curve; confirming measurements are."""
    frame = measurements(rng, 4).assign(kind=["forced", "blind", "confirm", "blind"])
    curves, _ = lightcurves.build(frame, OPTIONS)
    assert sorted(curves["kind"]) == ["confirm", "forced"]


def test_limits_where_nothing_was_detected(rng):
    """Fluxes below three errors have an upper limit; detections, masked places and fluxes that are NaN have none."""
    frame = measurements(rng, 4).assign(flux_err_mjy=10.0, flags=[0, 0, tables.flag("MASKED"), tables.flag("NO_DATA")])
    frame = frame.assign(flux_mjy=[29.9, 30.0, 5.0, np.nan], time_unix_s=np.arange(4.0), source_id="a", band="f090")
    limits = lightcurves.build(frame, OPTIONS)[0]["upper_limit_mjy"]
    assert limits[0] == variability.upper_limits(29.9, 10.0, 0.95) > 29.9
    assert np.isnan(limits[1:]).all()


def test_empty_table_makes_an_empty_file(tmp_path):
    """No measurements give a file with an empty index and an empty table."""
    curves, index = lightcurves.build(tables.empty("measurements"), OPTIONS)
    lightcurves.write(tmp_path / "lc.h5", curves, index)
    assert len(lightcurves.read_index(tmp_path / "lc.h5")) == 0
    with pytest.raises(KeyError, match="holds 0 sources"):
        lightcurves.read_source(tmp_path / "lc.h5", "a")


def test_equal_curves_give_equal_bytes(rng, tmp_path):
    """The file depends on the measurements alone."""
    built = lightcurves.build(measurements(rng), OPTIONS)
    for name in ("a.h5", "b.h5"):
        lightcurves.write(tmp_path / name, *built)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert np.all(built[1]["count"] > 0)


@pytest.mark.parametrize("rows", [1, 37, 10_000])
def test_light_curves_built_in_parts_are_the_same(rng, tmp_path, monkeypatch, rows):
    """Built source by source from a file, in parts of any length, the light curves and their index are the same."""
    frame = measurements(rng).assign(kind=rng.choice(["forced", "blind", "confirm"], 200))
    store.write(tmp_path / "catalog.h5", frames={"measurements": ("measurements", frame)})
    monkeypatch.setattr(lightcurves.spools.in_order, "__defaults__", (rows,))
    blocks, index = lightcurves.stream(tmp_path / "catalog.h5", OPTIONS, tmp_path)
    curves = pd.concat(list(blocks.frames), ignore_index=True)
    expected, expected_index = lightcurves.build(frame, OPTIONS)
    pd.testing.assert_frame_equal(curves, expected)
    pd.testing.assert_frame_equal(index, expected_index, check_dtype=False)
    assert blocks.n_rows == len(expected) and spools.ROWS > 1000


def test_no_measurements_make_an_empty_file(tmp_path):
    """Without measurements the file has a table without rows and an empty index."""
    store.write(tmp_path / "catalog.h5", frames={"measurements": ("measurements", tables.empty("measurements"))})
    lightcurves.write(tmp_path / "lc.h5", *lightcurves.stream(tmp_path / "catalog.h5", OPTIONS, tmp_path))
    assert (
        len(store.read_table(tmp_path / "lc.h5", "lightcurves")) == len(lightcurves.read_index(tmp_path / "lc.h5")) == 0
    )
