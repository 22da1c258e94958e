"""Stacks of maps of known skies: sources too faint to be seen once, and nothing where nothing is."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from filtered_skies import filtered_noise
from members import KNEE, NIGHT, make_map, section, true_catalog, write_member

from sotrplib import geometry, revisits, stacking, store

OPTIONS = section("stack_sources") | {"stamp_arcmin": 10.0}
PHOTOMETRY = section("forced_photometry")
N_MAPS = 16
FAINT, KNOWN = 5.0, 400.0  # mJy: 1 sigma, 80 sigma in a map


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Sixteen maps of 30 sources of 1 sigma, 30 empty places and two known sources, pointing 10 arcsec off."""
    folder, rng = tmp_path_factory.mktemp("stack"), np.random.default_rng(8)
    axis = np.arange(6) - 2.5, np.arange(5) - 2.0
    east, north = (part.ravel() * 720.0 + 5 for part in np.meshgrid(*axis))
    faint = geometry.offset_position(10.0, 0.0, east, north)
    empty = geometry.offset_position(10.0, 0.0, east + 360, north + 360)
    known = geometry.offset_position(*(p[[7, 20]] for p in faint), 150.0, 40.0)  # 2.6 arcmin from two of them
    ra, dec = (np.concatenate(parts) for parts in zip(faint, known, strict=True))
    flux = np.concatenate([np.full(30, FAINT), np.full(2, KNOWN)])
    files, rows = {}, []
    for k in range(N_MAPS):
        array, band = ("i1", "f090") if k % 2 else ("i3", "f090")
        map_id, offset = f"solat_{array}_{band}_{NIGHT + 3600 * k}", tuple(10 * rng.standard_normal(2))
        sky = make_map(rng, (ra, dec, flux), map_id=map_id, offset=offset, late_s=3600.0 * k, shape=(192, 256))
        written = write_member(folder, sky, true_catalog(*known, [KNOWN] * 2), offset=offset)
        files[map_id] = revisits.MapFiles(*written[:3])
        rows.append({"map_id": map_id, "array": array, "band": band, "time_unix_s": NIGHT + 3600.0 * k})
    return files, pd.DataFrame(rows), faint, empty, known


def at(ra, dec, prefix="p", **limits):
    limits = {"time_min_unix_s": -np.inf, "time_max_unix_s": np.inf} | limits
    names = [f"{prefix}{k}" for k in range(len(ra))]
    return pd.DataFrame({"name": names, "ra_deg": ra, "dec_deg": dec, **limits})


@pytest.fixture(scope="module")
def stacked(night):
    """Stacks, light curves and stamps of the 30 faint sources."""
    files, maps, faint, *_ = night
    return stacking.stack(files, maps, at(*faint), OPTIONS, PHOTOMETRY)


def test_sources_too_faint_to_be_seen_once_are_recovered(stacked):
    """Sources of 1 sigma in each of 16 maps have 4 sigma each, and their mean flux to 5 %, also beside known ones."""
    stacks, measurements, _ = stacked
    each, total = stacks[stacks["name"] != stacking.EVERY], stacks[stacks["name"] == stacking.EVERY].iloc[0]
    assert len(each) == 30 and (each["n_maps"] == N_MAPS).all() and len(measurements) == 30 * N_MAPS
    assert measurements["snr"].max() < 5
    np.testing.assert_allclose(each["flux_err_mjy"], 5 / np.sqrt(N_MAPS), rtol=0.05)
    pull = (each["flux_mjy"] - FAINT) / each["flux_err_mjy"]
    assert abs(pull.mean()) < 0.55 and 0.7 < pull.std() < 1.3  # 3 sigma of 30
    assert total["n_measurements"] == 480 and total["flux_err_mjy"] == pytest.approx(5 / np.sqrt(480), rel=0.05)
    assert abs(total["flux_mjy"] - FAINT) < 3 * total["flux_err_mjy"] and total["snr"] > 18


def test_stamps_show_the_source_in_their_middle(stacked):
    """The stamp of all positions peaks in its middle with the mean flux, and falls to half in the template's width."""
    stacks, _, stamps = stacked
    arrays = stacking.stamp_arrays(stamps)
    flux, snr = (arrays[f"stamps/f090/{name}"][0][-1] for name in ("flux", "snr"))
    middle = stamps.half
    assert flux.shape == (21, 21) and np.unravel_index(np.argmax(snr), snr.shape) == (middle, middle)
    assert flux[middle, middle] == pytest.approx(stacks["flux_mjy"].iloc[-1], rel=0.05)
    ring = [snr[middle + i, middle + j] for i, j in ((6, 0), (-6, 0), (0, 6), (0, -6))]
    assert np.mean(ring) < 0.3 * snr[middle, middle]


def test_sky_that_maps_share_enters_the_errors(tmp_path):
    """Unknown sky of 1 mJy rms in all of 25 maps of 5 mJy: empty places scatter as their errors say, sqrt(2) wider."""
    rng, sky = np.random.default_rng(4), filtered_noise((192, 256), np.random.default_rng(5), knee=KNEE)
    files, rows = {}, []
    for k in range(25):
        map_id = f"solat_i1_f090_{NIGHT + 3600 * k}"
        seen = make_map(rng, ([], [], []), map_id=map_id)
        seen = dataclasses.replace(seen, rho=(seen.rho + sky / 25.0).astype("f4"))
        files[map_id] = revisits.MapFiles(*write_member(tmp_path, seen)[:3])
        rows.append({"map_id": map_id, "array": "i1", "band": "f090", "time_unix_s": NIGHT + 3600.0 * k})
    east, north = (part.ravel() * 360.0 for part in np.meshgrid(np.arange(18) - 8.5, np.arange(13) - 6.0))
    places = at(*geometry.offset_position(10.0, 0.0, east, north))
    stacks, *_ = stacking.stack(files, pd.DataFrame(rows), places, OPTIONS, PHOTOMETRY)
    each, total = stacks.iloc[:-1], stacks.iloc[-1]
    assert each["sky_err_mjy"].iloc[0] == pytest.approx(1, rel=0.15)
    assert each["flux_err_mjy"].median() == pytest.approx(np.sqrt(1 + 0.96), rel=0.1)
    assert each["snr"].std() == pytest.approx(1, abs=0.15)  # 3 sigma of 234 places
    assert total["flux_err_mjy"] == pytest.approx(each["flux_err_mjy"].median() / np.sqrt(len(each)), rel=0.02)
    alone, *_ = stacking.stack(files, pd.DataFrame(rows), places, OPTIONS | {"stamp_arcmin": 0.0}, PHOTOMETRY)
    assert alone["snr"].iloc[:-1].std() > 1.25 and alone["sky_err_mjy"].isna().all()


def test_nothing_gives_nothing(night):
    """At empty places the stack is zero within its error, however many are added up."""
    files, maps, _, empty, _ = night
    stacks, *_ = stacking.stack(files, maps, at(*empty), OPTIONS | {"stamp_arcmin": 0.0}, PHOTOMETRY)
    assert abs(stacks["snr"].iloc[-1]) < 3 and stacks["n_measurements"].iloc[-1] == 480
    assert 0.7 < stacks["snr"].iloc[:-1].std() < 1.3


def test_a_known_source_at_the_position_stays_in(night):
    """A known source is stacked with its flux at its own position, and taken out of what lies 2.6 arcmin beside it."""
    files, maps, faint, _, known = night
    place = [np.append(p[[7]], q[[0]]) for p, q in zip(faint, known, strict=True)]
    stacks, *_ = stacking.stack(files, maps, at(*place), OPTIONS, PHOTOMETRY)
    found = stacks.set_index("name")["flux_mjy"]
    assert found["p1"] == pytest.approx(KNOWN, rel=0.02) and abs(found["p0"] - FAINT) < 4 * 1.3


def test_only_the_times_asked_for_count(night):
    """With a time range the light curve holds the maps in it alone, and the error is theirs."""
    files, maps, faint, *_ = night
    limits = {"time_min_unix_s": NIGHT + 3600.0 * 4, "time_max_unix_s": NIGHT + 3600.0 * 8}
    stacks, measurements, _ = stacking.stack(files, maps, at(*(p[:3] for p in faint), **limits), OPTIONS, PHOTOMETRY)
    assert (stacks["n_maps"] == 4).all() and measurements["time_unix_s"].between(*limits.values()).all()
    assert stacks["flux_err_mjy"].iloc[0] == pytest.approx(2.5, rel=0.05)


def test_positions_without_data_make_no_rows(night, tmp_path):
    """Positions off all maps give tables without rows that can be written and read."""
    files, maps, *_ = night
    stacks, measurements, stamps = stacking.stack(files, maps, at([200.0], [50.0]), OPTIONS, PHOTOMETRY)
    assert stacks.empty and measurements.empty
    frames = {"stacks": ("stacks", stacks), "measurements": ("stack_measurements", measurements)}
    store.write(tmp_path / "s.h5", arrays=stacking.stamp_arrays(stamps), frames=frames)
    assert store.read_table(tmp_path / "s.h5", "stacks").empty


def test_positions_are_read(tmp_path):
    """A table of names and positions is read; a limit that is empty is none."""
    path = tmp_path / "p.csv"
    path.write_text("# two\nname,ra_deg,dec_deg,time_min_unix_s\n1,10,-5,\nb,359.9,3,1e9\n")
    found = stacking.read_positions(path)
    assert found["name"].tolist() == ["1", "b"] and found["time_min_unix_s"].tolist() == [-np.inf, 1e9]
    assert np.isposinf(found["time_max_unix_s"]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [("name,ra_deg\na,1", "no column dec_deg"), ("name,ra_deg,dec_deg\na,1,95", "row 1 is")]
    + [("name,ra_deg,dec_deg\na,1,2\na,2,3", "'a' occurs twice"), ("", "cannot be read")],
)
def test_faulty_positions_are_named(tmp_path, text, message):
    """Positions without a column, off the sky, named twice or empty are refused."""
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(stacking.StackError, match=message):
        stacking.read_positions(path)
