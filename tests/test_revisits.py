"""Positions measured again in maps on disk, against the truth that the maps were made of."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_sky_map, make_template

from sotrplib import configuration, geometry, maps, photometry, pointing, recall, revisits, store, tables

ROOT = Path(__file__).parents[1]
SCHEMA = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
OPTIONS = configuration.fill_defaults({}, SCHEMA["properties"]["forced_photometry"])
SHAPE = (320, 512)
KAPPA = 0.04  # a flux error of 5 mJy
OFFSET = 20.0, -10.0  # arcsec by which the maps are off


def put_on_disk(folder, rng, y, x, snr, n_known, *, ra0=10.0, name="m", status="ok"):
    """A map of sources, the first ``n_known`` of them known, with its pointing and forced photometry."""
    template = make_template(n_rows=SHAPE[0], knee=0.02)
    image = filtered_noise(SHAPE, rng, knee=0.02) + filtered_sources(SHAPE, y, x, np.asarray(snr, float), knee=0.02)
    image[:, :8] = np.nan
    sky = make_sky_map(image, template, kappa=KAPPA, ra0_deg=ra0)
    model = pointing.PointingModel("constant", coefficients=np.array(OFFSET)[:, None], n_used=5)
    ra, dec = geometry.offset_position(*geometry.pix2sky(sky.wcs, y, x), *-np.array(OFFSET))
    ids = [f"s{k}" for k in range(len(y))]
    columns = {"source_id": ids, "source_name": ids, "ra_deg": ra, "dec_deg": dec, "flux_mjy": np.asarray(snr) * 5.0}
    catalog = tables.make("catalog", columns | {"flux_err_mjy": 1.0, "spectral_index": 0.0, "pos_err_arcsec": 1.0})
    forced = photometry.forced_photometry(sky, catalog[:n_known], model, OPTIONS)
    files = revisits.MapFiles(*(folder / f"{name}_{stage}.h5" for stage in ("map", "pointing", "forced")))
    maps.write_sky_map(files.preprocessed, sky, {"status": status, "reason": ""})
    store.write(files.pointing, attrs={"pointing": pointing.to_dict(model)})
    store.write(files.forced, frames={"forced": ("forced", forced)})
    return files, catalog


def as_targets(catalog, source_id=""):
    return catalog[["ra_deg", "dec_deg"]].assign(source_id=source_id)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 100 pixels, so that a small map takes many windows."""
    monkeypatch.setattr(revisits, "_TILE", 100)


def grid(rng, step=40):
    """Positions a few arcmin around the nodes of a grid."""
    cells = np.stack(np.meshgrid(*(np.arange(step, n - step / 2, step) for n in SHAPE), indexing="ij")).reshape(2, -1)
    return cells + rng.uniform(-4, 4, cells.shape)


@pytest.mark.parametrize("ra0", [10.0, 0.0])
def test_fluxes_are_true_with_the_known_sources_gone(tmp_path, rng, small_tiles, ra0):
    """Unknown sources 0.9 FWHM from known ones of SNR 50 have true fluxes and errors."""
    y, x = grid(rng)
    near = np.stack([y, x]) + [[3.0], [3.0]]
    snr = np.concatenate([np.full(y.size, 50.0), np.resize([0.0, 10.0, 30.0], y.size)])
    files, catalog = put_on_disk(tmp_path, rng, *np.append([y, x], near, axis=1), snr, y.size, ra0=ra0)
    found = revisits.measure_in_map(files, as_targets(catalog[y.size :]), OPTIONS)
    pull = (found["flux_mjy"] - 5 * snr[y.size :]) / found["flux_err_mjy"]
    assert abs(pull.mean()) < 4 / np.sqrt(y.size) and 0.75 < pull.std() < 1.25
    assert np.all(found["flux_err_mjy"] > 5.0) and (found["time_unix_s"] == 1.7e9 + 100).all()


def test_windows_give_what_the_whole_map_gives(tmp_path, rng, monkeypatch):
    """Fluxes, errors, offsets, times and flags do not depend on the size of the windows."""
    y, x = grid(rng)
    snr = np.resize([8.0, 20.0, 60.0], y.size)
    files, catalog = put_on_disk(tmp_path, rng, y, x, snr, y.size // 2)
    whole = revisits.measure_in_map(files, as_targets(catalog), OPTIONS)
    monkeypatch.setattr(revisits, "_TILE", 128)
    parts = revisits.measure_in_map(files, as_targets(catalog), OPTIONS)
    pd.testing.assert_frame_equal(
        whole.drop(columns="edge_distance_arcmin"), parts.drop(columns="edge_distance_arcmin"), rtol=1e-3, atol=0.1
    )


def test_flaring_sources_are_looked_up(tmp_path, rng):
    """A target named as a known source gets its forced photometry, in the place it was asked for."""
    y, x = grid(rng)
    files, catalog = put_on_disk(tmp_path, rng, y, x, np.full(y.size, 20.0), 6)
    targets = pd.concat([as_targets(catalog[10:11]), as_targets(catalog[4:5], "s4"), as_targets(catalog[9:10], "s9")])
    found = revisits.measure_in_map(files, targets, OPTIONS)
    forced = store.read_table(files.forced, "forced").iloc[4]
    assert found.iloc[1]["flux_mjy"] == forced["flux_mjy"] and found.iloc[1]["catalog_flux_mjy"] == 100.0
    assert found.iloc[0]["snr"] > 10 and found["flags"][2] == tables.flag("NO_DATA")
    np.testing.assert_allclose(found["ra_deg"], targets["ra_deg"])


def test_positions_without_data_say_so(tmp_path, rng):
    """Off the map, on the other side of the sky and in the unobserved margin: NaN and NO_DATA, row by row."""
    y, x = grid(rng)
    files, catalog = put_on_disk(tmp_path, rng, y, x, np.full(y.size, 20.0), 0)
    sky = maps.read_sky_map(files.preprocessed)
    ra, dec = geometry.pix2sky(sky.wcs, np.array([100.0, -50.0]), np.array([3.0, 50.0]))
    targets = pd.DataFrame({"ra_deg": [*ra, 190.0], "dec_deg": [*dec, -60.0], "source_id": ""})
    found = revisits.measure_in_map(files, pd.concat([targets, as_targets(catalog[3:4])]), OPTIONS)
    assert (found["flags"][:3] & tables.flag("NO_DATA")).all() and found["flux_mjy"][:3].isna().all()
    assert found["snr"][3] > 10


def test_targets_on_one_place_have_the_whole_flux_each(tmp_path, rng):
    """Two targets 5 arcsec apart are both given the flux of the source there, not half of it."""
    y, x = grid(rng)
    files, catalog = put_on_disk(tmp_path, rng, y, x, np.full(y.size, 40.0), 0)
    first = as_targets(catalog[7:8])
    found = revisits.measure_in_map(
        files, pd.concat([first, first.assign(dec_deg=first["dec_deg"] + 5 / 3600)]), OPTIONS
    )
    assert (found["flux_mjy"] > 150).all()


def test_no_targets_and_failed_maps(tmp_path, rng):
    """No targets give no rows; a failed map is an error that names it."""
    y, x = grid(rng)
    files, catalog = put_on_disk(tmp_path, rng, y, x, np.full(y.size, 20.0), 0)
    assert len(revisits.measure_in_map(files, as_targets(catalog[:0]), OPTIONS)) == 0
    failed, _ = put_on_disk(tmp_path, rng, y, x, np.full(y.size, 20.0), 0, name="bad", status="failed")
    with pytest.raises(maps.MapError, match="bad_map.h5: records a failed map"):
        revisits.measure_in_map(failed, as_targets(catalog), OPTIONS)


@pytest.mark.parametrize("ra0", [10.0, 0.0])
def test_known_sources_beside_unknown_bright_ones_are_flagged(tmp_path, rng, ra0):
    """Of four known sources of SNR 10 the one 3 pixels from an unknown one of SNR 200 is NEAR_BRIGHT; the one 60 pixels
    away, the one beside a fainter detection and the one matched with the detection itself are not.
    """
    y = np.array([100.0, 100.0, 200.0, 200.0, 100.0, 200.0])
    x = np.array([100.0, 163.0, 100.0, 250.0, 103.0, 253.0])
    files, catalog = put_on_disk(tmp_path, rng, y, x, [10, 10, 10, 10, 200, 5], 4, ra0=ra0)
    model = pointing.from_dict(store.read_attrs(files.pointing)["pointing"])
    forced = store.read_table(files.forced, "forced")
    near = tables.flag("NEAR_BRIGHT")
    assert not (forced["flags"] & near).any()
    detected = catalog.iloc[[4, 2, 5]]
    columns = {"ra_deg": detected["ra_deg"].to_numpy(), "dec_deg": detected["dec_deg"].to_numpy()}
    columns |= {"flux_mjy": [1000.0, 500.0, 25.0], "origin": "blind", "matched_name": ["", "s2", ""]}
    columns |= {"class": ["transient", "known", "noise"], "reason": ""}
    sifted = tables.make("sifted", {name: 0.0 for name in tables.column_names("sifted")} | columns)
    found = revisits.flag_near_detections(files.preprocessed, forced, sifted, model)
    assert ((found["flags"] & near) > 0).tolist() == [True, False, False, False]
    assert forced["flux_mjy"][0] > 200  # 50 are its own
    pd.testing.assert_frame_equal(found.drop(columns="flags"), forced.drop(columns="flags"))


def test_nothing_found_leaves_the_forced_fluxes_as_they_are(tmp_path, rng):
    """Without detections, or without known sources, the table comes back unchanged."""
    files, _ = put_on_disk(tmp_path, rng, np.array([100.0]), np.array([100.0]), [10.0], 1)
    forced = store.read_table(files.forced, "forced")
    for table in (forced, forced[:0]):
        found = revisits.flag_near_detections(
            files.preprocessed, table, tables.empty("sifted"), pointing.PointingModel()
        )
        pd.testing.assert_frame_equal(found, table)


def remembered(files, targets, path, code="a"):
    """What is measured with a memory at ``path``, and in how many windows anew."""
    memory, windows = recall.Memory(path, recall.signature(dataclasses.astuple(files), code)), []
    measure = revisits._measure

    def counted(sky_map, *args):
        windows.append(sky_map.rho.shape)
        return measure(sky_map, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revisits, "_measure", counted)
        return revisits.measure_in_map(files, targets, OPTIONS, memory=memory), len(windows)


def test_what_was_measured_before_is_remembered(tmp_path, rng, small_tiles):
    """The same targets, in any order, cost nothing a second time; a new one costs its window; results are the same."""
    y, x = grid(rng)
    files, catalog = put_on_disk(tmp_path, rng, y, x, np.resize([0.0, 10.0], y.size), 0)
    off_map = pd.DataFrame({"ra_deg": [200.0], "dec_deg": [0.0], "source_id": [""]})
    some = pd.concat([as_targets(catalog[:-1]), off_map], ignore_index=True)
    path = tmp_path / "memory.h5"
    first, n_first = remembered(files, some, path)
    again, n_again = remembered(files, some[::-1], path)
    more, n_more = remembered(files, as_targets(catalog), path)
    assert n_first > 10 and n_again == 0 and n_more == 1
    pd.testing.assert_frame_equal(again[::-1].reset_index(drop=True), first)
    pd.testing.assert_frame_equal(first[:-1], revisits.measure_in_map(files, some[:-1], OPTIONS))
    pd.testing.assert_frame_equal(more, revisits.measure_in_map(files, as_targets(catalog), OPTIONS))


def test_a_memory_ends_with_what_it_depends_on(tmp_path, rng, small_tiles):
    """Another code, a file of the map that was written anew, or a damaged memory: all is measured anew."""
    files, catalog = put_on_disk(tmp_path, rng, [100.0, 220.0], [100.0, 300.0], [9.0, 0.0], 0)
    targets, path = as_targets(catalog), tmp_path / "memory.h5"
    first, n_first = remembered(files, targets, path)
    assert remembered(files, targets, path)[1] == 0 and n_first == 2
    assert remembered(files, targets, path, code="b")[1] == 2
    files.forced.rename(tmp_path / "old.h5")
    (tmp_path / "old.h5").rename(files.forced)
    attrs = store.read_attrs(files.forced)
    store.write(files.forced, attrs=attrs, frames={"forced": ("forced", store.read_table(files.forced, "forced"))})
    assert remembered(files, targets, path, code="b")[1] == 2
    path.write_bytes(path.read_bytes()[:900])
    found, n_found = remembered(files, targets, path, code="b")
    assert n_found == 2
    pd.testing.assert_frame_equal(found, first)


def test_a_memory_that_cannot_be_written_costs_a_warning(tmp_path, rng, caplog):
    """What was measured is right all the same."""
    files, catalog = put_on_disk(tmp_path, rng, [100.0], [100.0], [9.0], 0)
    (tmp_path / "file").touch()
    found, _ = remembered(files, as_targets(catalog), tmp_path / "file" / "memory.h5")
    assert found["snr"][0] > 5 and "not remembered" in caplog.text
