"""Candidates judged on skies whose truth is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sotrplib import configuration, confirmation, matches, tables

ROOT = Path(__file__).parents[1]
SCHEMA = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
OPTIONS = configuration.fill_defaults({}, SCHEMA["properties"]["confirm_candidates"])
NIGHT = 86400.0
FREQ = {"f090": 90.0, "f150": 150.0}


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    """What measures here remembers what it was asked, or draws numbers one after the other: no process of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def night_maps(n_nights=3, tubes=("i1_f090", "i1_f150", "i3_f090"), start=1.75e9):
    """Maps of several nights, the arrays ten minutes apart."""
    rows = []
    for night in range(n_nights):
        for k, (array, band) in enumerate(tube.split("_") for tube in tubes):
            time = start + night * NIGHT + 600 * k
            row = {"map_id": f"solat_{array}_{band}_{int(time)}", "array": array, "band": band, "time_unix_s": time}
            rows.append(row | {"freq_ghz": FREQ[band], "night": night, "area_deg2": 20.0, "fwhm_arcmin": 2.0})
    return pd.DataFrame(rows)


def measurer(maps, flux, err=10.0, *, rng=None, catalog_flux=0.0, catalog_err=0.0, flags=0, time=True):
    """Function that measures ``flux(row)`` of a map's row at any position, with error ``err`` (or ``err(row)``)."""
    rows = maps.set_index("map_id", drop=False)

    def measure(map_id, targets):
        row, n = rows.loc[map_id], len(targets)
        sigma = err(row) if callable(err) else err
        value = np.full(n, float(flux(row))) + (rng.normal(0, sigma, n) if rng is not None else 0)
        columns = {name: np.zeros(n) for name in tables.column_names("forced")}
        columns |= {"source_id": targets["source_id"], "source_name": "", "flux_mjy": value, "flux_err_mjy": sigma}
        columns |= {"ra_deg": targets["ra_deg"], "dec_deg": targets["dec_deg"], "snr": value / sigma}
        columns |= {"catalog_flux_mjy": catalog_flux, "catalog_flux_err_mjy": catalog_err}
        columns |= {"time_unix_s": row["time_unix_s"] if time else np.nan}
        columns |= {"flags": flags(row) if callable(flags) else flags}
        return tables.make("forced", columns)

    return measure


def found_in(maps, row=0, *, n=1, **columns):
    """Events discovered at SNR 12 in one row of the maps."""
    best = maps.iloc[row]
    given = {"event": np.arange(n), "class": "transient", "ra_deg": 10.0 + np.arange(n), "dec_deg": 0.0}
    given |= {"ra_err_arcsec": 5.0, "dec_err_arcsec": 5.0, "snr": 12.0, "flux_mjy": 120.0, "flux_err_mjy": 10.0}
    given |= {name: best[name] for name in ("time_unix_s", "array", "band", "map_id")}
    return pd.DataFrame(
        given | {"matched_name": "", "sift_reason": "no known source within 1.5′", "n_detections": 1} | columns
    )


def judge(maps, flux, *, event=None, options=OPTIONS, moving=None, **settings):
    """The one candidate that ``flux`` in the maps makes of a discovery in the first."""
    events = found_in(maps) if event is None else event
    return confirmation.confirm(events, measurer(maps, flux, **settings), maps, options, moving=moving)[0].iloc[0]


def test_flare_of_one_night_is_a_confirmed_transient():
    """A source seen by both arrays one night and by none on others is a confirmed transient."""
    found = judge(night_maps(), lambda row: 120.0 * (row["night"] == 0))
    assert (found["class"], found["confirmed"]) == ("transient", True)
    assert (found["n_maps"], found["n_arrays"], found["n_bands"], found["n_covering"]) == (3, 2, 2, 9)
    assert "confirmed: 2 arrays in one observation" in found["reason"]
    assert "2 other observations, seen in 0" in found["reason"]


def test_steady_source_is_new():
    """A source of one flux on all nights is a new source, confirmed by two arrays."""
    found = judge(night_maps(), lambda row: 120.0 * (row["freq_ghz"] / 90) ** 0.7)
    assert (found["class"], found["confirmed"], found["n_maps"]) == ("new_source", True, 9)


def test_changing_source_is_a_transient_though_seen_every_night():
    """A source seen every night, of a flux that halves from night to night, is not steady."""
    assert judge(night_maps(), lambda row: 200.0 * 0.5 ** row["night"])["class"] == "transient"


def test_artefact_of_one_array_is_refused():
    """What one array sees at 12 sigma and another of equal depth does not, ten minutes later, is an artefact."""
    maps = night_maps(tubes=("i1_f090", "i3_f090"))
    found = judge(maps, lambda row: 120.0 * (row["array"] == "i1" and row["night"] == 0))
    assert (found["class"], found["confirmed"], found["n_arrays"]) == ("artefact", False, 1)
    assert "i3 f090 0.0 sigma (contradicts)" in found["reason"]


def test_two_bands_of_one_array_are_one_witness():
    """An artefact in both bands of an array is refused, and no transient is confirmed by them alone."""
    found = judge(night_maps(), lambda row: 120.0 * (row["array"] == "i1" and row["night"] == 0))
    assert (found["class"], found["confirmed"]) == ("artefact", False)
    alone = night_maps(tubes=("i1_f090", "i1_f150"))
    found = judge(alone, lambda row: 120.0 * (row["night"] == 0))
    assert (found["class"], found["confirmed"], found["n_bands"]) == ("transient", False, 2)
    assert "unconfirmed: one array covered it" in found["reason"]


def test_other_band_of_the_array_can_contradict():
    """A spike in one band of the only array, deep in the other, is an artefact; a falling spectrum is not."""
    maps = night_maps(tubes=("i1_f090", "i1_f150"))
    assert judge(maps, lambda row: 120.0 * (row["map_id"] == maps["map_id"][0]))["class"] == "artefact"
    falling = judge(maps, lambda row: 120.0 * (row["night"] == 0) / (row["freq_ghz"] / 90))
    assert falling["class"] == "transient"


def test_shallow_array_cannot_contradict():
    """An array too shallow to see the event leaves a transient that is not confirmed."""
    maps = night_maps(tubes=("i1_f090", "i3_f090"))
    depth = {"i1": 5.0, "i3": 40.0}
    found = judge(maps, lambda row: 60.0 * (row["map_id"] == maps["map_id"][0]), err=lambda row: depth[row["array"]])
    assert (found["class"], found["confirmed"]) == ("transient", False)
    assert "unconfirmed: one array saw it, the others too shallow to tell" in found["reason"]


def test_several_shallow_arrays_contradict_together():
    """Eight arrays at a third of the depth, none of which sees it, refuse what none could refuse alone."""
    flux, depth = (lambda row: 60.0 * (row["array"] == "a0")), (lambda row: 5.0 if row["array"] == "a0" else 18.0)
    few, many = (night_maps(1, [f"a{k}_f090" for k in range(n)]) for n in (2, 9))
    assert judge(few, flux, err=depth)["class"] == "transient"
    assert judge(many, flux, err=depth)["class"] == "artefact"


def test_weak_confirmation_of_a_strong_artefact_does_not_count():
    """A 3.5 sigma fluctuation does not confirm a 100 sigma artefact that should have been seen at 100 there too."""
    maps = night_maps(tubes=("i1_f090", "i3_f090"))
    found = judge(maps, lambda row: 1000.0 if row["map_id"] == maps["map_id"][0] else 35.0 * (row["night"] == 0))
    assert (found["class"], found["confirmed"]) == ("artefact", False)


def test_arrays_hours_apart_are_no_observation():
    """Arrays ten hours apart neither confirm nor contradict a flare."""
    maps = night_maps(1, ("i1_f090", "i3_f090")).assign(time_unix_s=[1.75e9, 1.75e9 + 36000])
    found = judge(maps, lambda row: 120.0 * (row["array"] == "i1"))
    assert (found["class"], found["confirmed"]) == ("transient", False)
    assert "one array covered it" in found["reason"]


def test_reason_keeps_what_lies_near():
    """The reason starts with the known source nearby, if there is one."""
    maps = night_maps()
    near = found_in(maps, sift_reason="s3 lies 50″ away, 7.3 sigma")
    assert judge(maps, lambda row: 120.0, event=near)["reason"].startswith("s3 lies 50″ away, 7.3 sigma; confirmed")
    assert judge(maps, lambda row: 120.0)["reason"].startswith("confirmed")


def test_rule_follows_the_options():
    """min_arrays 1 confirms what one array sees; min_bands 2 asks for two bands; confirm_snr is the threshold."""
    maps = night_maps(tubes=("i1_f090", "i3_f090"))

    def confirmed(flux, **changes):
        return judge(maps, lambda row: flux * (row["night"] == 0), options=OPTIONS | changes)["confirmed"]

    single = judge(
        night_maps(tubes=("i1_f090",)), lambda row: 120.0 * (row["night"] == 0), options=OPTIONS | {"min_arrays": 1}
    )
    assert single["confirmed"]
    assert confirmed(120.0) and not confirmed(120.0, min_bands=2) and not confirmed(120.0, confirm_snr=13.0)


def test_combined_snr_is_the_optimal_sum():
    """Four maps of 3.5 sigma of a source with a known spectrum combine to 7, misses count against it."""
    maps = night_maps(1, ("i1_f090", "i3_f090", "i4_f090", "i6_f090"))
    assert judge(maps, lambda row: 35.0)["combined_snr"] == pytest.approx(7.0)
    assert judge(maps, lambda row: 35.0 * (row["array"] == "i1"))["combined_snr"] == pytest.approx(1.75)
    rising = night_maps(1, ("i1_f090", "i1_f150"))
    found = judge(rising, lambda row: 30.0 * (row["freq_ghz"] / 90) ** 2)
    assert found["combined_snr"] == pytest.approx(3 * np.hypot(1, (150 / 90) ** 2))


def test_calibration_error_does_not_make_a_steady_source_vary(rng):
    """A 300 sigma source with 3 per cent calibration scatter between maps stays steady."""
    gain = dict(zip(night_maps()["map_id"], rng.normal(1, 0.03, 9), strict=True))
    assert judge(night_maps(), lambda row: 3000.0 * gain[row["map_id"]])["class"] == "new_source"


def test_flaring_source_is_judged_by_its_excess():
    """A catalogue source doubled one night is a confirmed flare, seen on that night alone."""
    maps = night_maps(tubes=("i1_f090", "i3_f090"))
    event = found_in(maps, **{"class": "flare", "matched_name": "s7"})
    found = judge(
        maps, lambda row: 500.0 * (1 + (row["night"] == 0)), event=event, catalog_flux=500.0, catalog_err=25.0
    )
    assert (found["class"], found["confirmed"], found["n_maps"]) == ("flare", True, 2)
    assert found["matched_name"] == "s7" and found["combined_snr"] < 500 / 25
    glitch = judge(
        maps,
        lambda row: 500.0 + 500 * (row["map_id"] == maps["map_id"][0]),
        event=event,
        catalog_flux=500.0,
        catalog_err=25.0,
    )
    assert (glitch["class"], glitch["confirmed"]) == ("artefact", False)


def test_flare_is_measured_as_its_source():
    """Targets name the flaring source, and nothing for other events."""
    maps, asked = night_maps(1), []
    events = pd.concat([found_in(maps), found_in(maps, event=1, **{"class": "flare", "matched_name": "s7"})])
    measure = measurer(maps, lambda row: 100.0)

    def listen(map_id, targets):
        asked.append(targets["source_id"].tolist())
        return measure(map_id, targets)

    confirmation.confirm(events.reset_index(drop=True), listen, maps, OPTIONS)
    assert asked == [["", "s7"]] * 3


def test_moving_object_is_measured_where_it_is():
    """An asteroid is measured where it was when each map saw that place; maps without it are left out."""
    maps = night_maps(2, ("i1_f090", "i3_f090"))
    track = tables.make(
        "moving",
        {
            "name": "Ceres",
            "time_unix_s": maps["time_unix_s"][:3] - 3600,
            "ra_deg": 10.0,
            "dec_deg": [0.0, 0.0, 1.0],
            "ra_rate_arcsec_h": 36.0,
            "dec_rate_arcsec_h": 0.0,
            "pos_err_arcsec": 1.0,
            "radius_arcmin": 0.0,
            "kind": "asteroid",
        },
    ).assign(map_id=maps["map_id"][:3])
    event = found_in(maps, **{"class": "moving", "matched_name": "Ceres"})
    candidates, measurements = confirmation.confirm(
        event, measurer(maps, lambda row: 80.0), maps, OPTIONS, moving=track
    )
    assert measurements["ra_deg"].to_numpy() == pytest.approx([10.01] * 3, abs=1e-5)
    assert measurements["dec_deg"].to_numpy() == pytest.approx([0, 0, 1], abs=1e-6)
    assert set(measurements["source_name"]) == {"Ceres"}
    assert (candidates["class"][0], candidates["confirmed"][0], candidates["n_arrays"][0]) == ("moving", True, 2)


def test_maps_that_do_not_cover_leave_no_trace():
    """Maps without data at the position give no measurement; masked ones give one that counts for nothing."""
    maps = night_maps(2, ("i1_f090", "i3_f090"))
    flags = dict(zip(maps["map_id"], [0, 0, tables.flag("NO_DATA"), tables.flag("MASKED")], strict=True))
    measure = measurer(maps, lambda row: 120.0, flags=lambda row: flags[row["map_id"]])
    candidates, measurements = confirmation.confirm(found_in(maps), measure, maps, OPTIONS)
    assert len(measurements) == 3 and candidates["n_covering"][0] == 2


def test_unknown_times_are_those_of_the_maps():
    """Maps without time maps are put together by their reference times."""
    found = judge(night_maps(), lambda row: 120.0 * (row["night"] == 0), time=False)
    assert (found["class"], found["confirmed"]) == ("transient", True)


def test_event_that_cannot_be_measured_is_kept():
    """An event that no map can measure stays an unconfirmed transient without a combined SNR."""
    found = judge(night_maps(), lambda row: np.nan)
    assert (found["class"], found["confirmed"], found["n_covering"]) == ("transient", False, 0)
    assert np.isnan(found["combined_snr"]) and "no array covered it" in found["reason"]


def test_order_of_maps_does_not_matter(rng):
    """Permuted maps give the same candidates and measurements."""
    maps = night_maps()
    events = found_in(maps, n=6)
    flux = {m: f for m, f in zip(maps["map_id"], rng.normal(50, 40, 9), strict=True)}
    first = confirmation.confirm(events, measurer(maps, lambda row: flux[row["map_id"]]), maps, OPTIONS)
    mixed = maps.sample(frac=1, random_state=2)
    again = confirmation.confirm(events, measurer(mixed, lambda row: flux[row["map_id"]]), mixed, OPTIONS)
    for one, two in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, two)


def test_noise_is_hardly_ever_confirmed(rng):
    """Of 1500 noise peaks of 5.5 sigma, an array of equal depth confirms as many as 3 sigma does by chance."""
    maps = night_maps(1, ("i1_f090", "i3_f090"))
    events = found_in(maps, n=1500)
    noise = measurer(maps, lambda row: 0.0, rng=rng)

    def measure(map_id, targets):
        found = noise(map_id, targets)
        return found.assign(flux_mjy=55.0, snr=5.5) if map_id == maps["map_id"][0] else found

    candidates, _ = confirmation.confirm(events, measure, maps, OPTIONS)
    assert candidates["confirmed"].mean() < 0.00135 + 4 * np.sqrt(0.00135 / 1500)
    assert (candidates["class"] == "artefact").mean() > 0.5


def test_true_transients_are_hardly_ever_called_artefacts(rng):
    """Of 1500 transients of true SNR 8 in two arrays, over 99.8 % are confirmed and under 0.2 % contradicted."""
    maps = night_maps(2, ("i1_f090", "i3_f090"))
    candidates, _ = confirmation.confirm(
        found_in(maps, n=1500), measurer(maps, lambda row: 80.0 * (row["night"] == 0), rng=rng), maps, OPTIONS
    )
    assert candidates["confirmed"].mean() > 0.998 and (candidates["class"] == "transient").mean() > 0.99
    assert (candidates["class"] == "artefact").mean() < 0.002


def test_nothing_to_confirm_gives_empty_tables():
    """No events, and no maps, give empty tables of the right types."""
    maps = night_maps()
    empty = found_in(maps).iloc[:0]
    for found, schema in zip(
        confirmation.confirm(empty, None, maps, OPTIONS), ("candidates", "measurements"), strict=True
    ):
        assert found.dtypes.equals(tables.empty(schema).dtypes) and len(found) == 0
    candidates, measurements = confirmation.confirm(found_in(maps), None, maps.iloc[:0], OPTIONS)
    assert len(candidates) == 1 and len(measurements) == 0


def test_measurements_of_another_length_are_refused():
    """A measuring function that drops targets is an error that names the map."""
    maps = night_maps(1)
    with pytest.raises(ValueError, match="solat_i1_f090_1750000000: 0 measurements of 1 targets"):
        confirmation.confirm(found_in(maps), lambda *_: tables.empty("forced"), maps, OPTIONS)


def test_propagation_follows_the_rates():
    """An object moves along its rates, over RA 0, and stays where it is for unknown times."""
    row = (
        tables.empty("moving")
        .reindex([0])
        .assign(ra_deg=359.999, dec_deg=60.0, time_unix_s=0.0, name="x", kind="asteroid")
    )
    row = row.assign(ra_rate_arcsec_h=18.0, dec_rate_arcsec_h=-36.0)
    moved = matches.propagate(row, np.array([7200.0]))
    assert moved["ra_deg"][0] == pytest.approx(359.999 + 36 / 3600 / np.cos(np.radians(60)) - 360, abs=2e-5)
    assert moved["dec_deg"][0] == pytest.approx(60 - 72 / 3600, abs=2e-5)
    assert matches.propagate(row, np.array([np.nan]))["ra_deg"][0] == 359.999


def test_combined_significance_uses_maps_that_see_nothing():
    """Two equal maps of which one sees 8 sigma and one 0 are 8 / sqrt(2) together; both with 8 are 8 sqrt(2)."""
    maps = night_maps(1, tubes=("i1_f090", "i3_f090"))
    found = judge(maps, lambda row: 80.0 * (row["array"] == "i1"))
    assert found["combined_snr"] == pytest.approx(8 / 2**0.5)
    assert (found["n_arrays_for"], found["n_arrays_against"]) == (1, 1)
    both = judge(maps, lambda row: 80.0)
    assert both["combined_snr"] == pytest.approx(8 * 2**0.5)
    assert (both["n_arrays_for"], both["n_arrays_against"]) == (2, 0)


def test_error_of_the_catalogue_flux_does_not_average_out():
    """A flare over 100 +- 30 mJy seen in any number of maps is no more significant than the catalogue allows."""
    event = found_in(night_maps(1)).assign(**{"class": "flare"}, matched_name="s1")
    for tubes in (("i1_f090", "i3_f090"), tuple(f"i{k}_f090" for k in range(1, 9))):
        maps = night_maps(1, tubes=tubes)
        event["map_id"] = maps["map_id"][0]
        found = judge(maps, lambda row: 250.0, event=event, catalog_flux=100.0, catalog_err=30.0)
        assert found["combined_snr"] == pytest.approx(150 / np.hypot(30, 10 / len(tubes) ** 0.5))


def test_limit_on_false_alarms_is_part_of_the_rule():
    """What noise is likely to reach in the sky searched is not confirmed if the configuration says so."""
    maps = night_maps(1, tubes=("i1_f090", "i3_f090")).assign(area_deg2=2e4)
    event = found_in(maps).assign(snr=5.0, flux_mjy=50.0)
    faint = {"event": event, "flux": lambda row: 50.0 if row["array"] == "i1" else 31.0}
    found = judge(maps, **faint)
    assert found["confirmed"] and 0.1 < found["p_false_night"] < 1
    strict = judge(maps, **faint, options=OPTIONS | {"p_false_night_max": 1e-3})
    assert not strict["confirmed"] and "noise reaches this in one night" in strict["reason"]
    assert judge(maps, lambda row: 90.0, options=OPTIONS | {"p_false_night_max": 1e-3})["confirmed"]


@pytest.mark.parametrize("tubes", [("i1_f090", "i1_f150", "i3_f090"), ("i1_f090", "i1_f150", "i3_f090", "i3_f150")])
def test_artefacts_of_one_tube_are_never_confirmed(rng, tubes):
    """Of 3000 glitches in one tube, in all its bands and as bright as 5 to 50 sigma, noise confirms 1 % at most."""
    maps, n = night_maps(1, tubes=tubes), 3000
    events, level = found_in(maps, n=n), rng.uniform(5, 50, n)
    events["snr"], events["flux_mjy"] = level, 10 * level

    def measure(map_id, targets):
        tube = maps.set_index("map_id").loc[map_id, "array"]
        flux = rng.normal(0, 10, n) + (10 * level if tube == "i1" else 0)
        frame = dict.fromkeys(tables.column_names("forced"), np.zeros(n))
        frame |= {"source_id": "", "source_name": "", "flux_mjy": flux, "flux_err_mjy": 10.0, "snr": flux / 10}
        return tables.make("forced", frame | {"time_unix_s": maps["time_unix_s"][0], "flags": 0})

    found, _ = confirmation.confirm(events, measure, maps, OPTIONS)
    assert found["confirmed"].mean() < 0.01
    assert (found["class"][level > 8] == "artefact").mean() > 0.95


def test_many_maps_do_not_confirm_noise(rng):
    """Of 1000 false alarms of 5 sigma with 300 maps of noise around them 1 % at most are confirmed, as what ever."""
    maps, n = night_maps(100), 1000
    events = found_in(maps, n=n).assign(snr=5.0, flux_mjy=50.0)

    def measure(map_id, targets):
        flux = np.full(n, 50.0) if map_id == maps["map_id"][0] else rng.normal(0, 10, n)
        frame = dict.fromkeys(tables.column_names("forced"), np.zeros(n))
        frame |= {"source_id": "", "source_name": "", "flux_mjy": flux, "flux_err_mjy": 10.0, "snr": flux / 10}
        return tables.make("forced", frame | {"time_unix_s": np.nan, "flags": 0})

    found, _ = confirmation.confirm(events, measure, maps, OPTIONS)
    assert found["confirmed"].mean() < 0.01 and (found["class"] == "new_source").mean() < 0.01
    assert found["n_maps"].max() > 1


def test_witness_is_an_array_with_all_its_bands(rng):
    """2.5 sigma in each of two bands of another array make it a witness, 2.5 and -2.5 do not."""
    maps = night_maps(1, tubes=("i1_f090", "i3_f090", "i3_f150"))
    event = found_in(maps).assign(snr=6.0, flux_mjy=60.0)
    flux = {"i1_f090": 60.0, "i3_f090": 25.0, "i3_f150": 25.0}
    assert judge(maps, lambda row: flux[f"{row['array']}_{row['band']}"], event=event)["confirmed"]
    flux["i3_f150"] = -25.0
    assert not judge(maps, lambda row: flux[f"{row['array']}_{row['band']}"], event=event)["confirmed"]
