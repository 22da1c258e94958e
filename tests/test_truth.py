"""The simulated truth is what its options say, and what is found is compared with it object by object."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sotrplib import configuration, geometry, tables, truth

ROOT = Path(__file__).parents[1]
SCHEMA = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
OPTIONS = configuration.fill_defaults({}, SCHEMA)["simulate"]
START = OPTIONS["start_unix_s"]
OBJECTS = truth.read_objects(ROOT / OPTIONS["objects"])
HEADER = "name,class,ra_offset_arcmin,dec_offset_arcmin"


@pytest.fixture(scope="module")
def sky():
    return truth.simulate_truth(OPTIONS, 1, OBJECTS)


def read_text(folder, text):
    path = folder / "objects.csv"
    path.write_text(text)
    return truth.read_objects(path)


def candidate(sky, name, time_unix_s, **values):
    """One candidate exactly on an object of the truth."""
    ra, dec = truth.positions(sky[sky["name"] == name], time_unix_s)
    columns = dict.fromkeys(tables.column_names("candidates"), 0)
    columns |= {"ra_deg": ra, "dec_deg": dec, "time_unix_s": time_unix_s, "band": "f090", "class": "transient"}
    return tables.make("candidates", columns | values)


def test_truth_holds_every_class(sky):
    """The default sky has the known sources asked for and every class of odd object."""
    counts = sky["class"].value_counts()
    assert counts["known"] == OPTIONS["n_sources"]
    assert set(truth.ODD_CLASSES) <= set(counts.index)
    assert list(sky.columns) == tables.column_names("truth")


def test_known_sources_follow_their_counts():
    """N(>S) falls as S**-slope between the two fluxes (5 sigma of the counts), and no source is outside them."""
    flux = truth.simulate_truth(OPTIONS | {"n_sources": 4000}, 1)["flux_mjy"].to_numpy()
    low, high, slope = (OPTIONS[name] for name in ("flux_min_mjy", "flux_max_mjy", "counts_slope"))
    assert flux.min() >= low and flux.max() <= high
    for limit in (50, 200):
        expected = ((limit / low) ** -slope - (high / low) ** -slope) / (1 - (high / low) ** -slope)
        assert abs((flux > limit).mean() - expected) < 5 * np.sqrt(expected / len(flux))


def test_known_sources_keep_clear_of_odd_objects(sky):
    """No known source lies within 6 arcmin of an odd object, moving ones on their way included (hourly)."""
    known, odd = sky[sky["class"] == "known"], sky[sky["class"] != "known"]
    for hours in range(0, 97, 8):
        ra, dec = truth.positions(odd, START + 3600 * hours)
        apart = geometry.separation_arcsec(known[["ra_deg"]].to_numpy(), known[["dec_deg"]].to_numpy(), ra, dec)
        assert apart.min() >= 360


def test_sky_crosses_ra_zero(sky):
    """The default sky has known sources on both sides of RA 0, all right ascensions in 0..360."""
    assert sky["ra_deg"].between(0, 360).all()
    assert (sky["ra_deg"] > 350).any() and (sky["ra_deg"] < 10).any()


def test_another_seed_is_another_sky(sky):
    """The seed changes the known sources, the odd objects stay where they were put."""
    other = truth.simulate_truth(OPTIONS, 2, OBJECTS)
    odd = sky["class"] != "known"
    pd.testing.assert_frame_equal(other[odd], sky[odd])
    assert not np.allclose(other["ra_deg"][~odd], sky["ra_deg"][~odd])


def test_truth_survives_its_file(sky, tmp_path):
    """The truth reads back as written."""
    truth.write_truth(tmp_path / "truth.h5", sky)
    pd.testing.assert_frame_equal(truth.read_truth(tmp_path / "truth.h5"), sky)


def test_light_curve_rises_and_decays(sky):
    """A flare adds its peak at its time, and 1/e of it one rise time before and one decay time after."""
    quasar = sky[sky["name"] == "flaring_quasar"]
    peak, rise, decay = (float(quasar[name].iloc[0]) for name in ("time_unix_s", "rise_s", "decay_s"))
    flux = [float(truth.fluxes(quasar, 90.0, time)[0]) for time in (peak, peak - rise, peak + decay, peak - 1e9)]
    np.testing.assert_allclose(flux, 150 + 450 * np.array([1, np.exp(-1), np.exp(-1), 0]))


def test_flux_follows_the_spectral_index(sky):
    """From 90 to 150 GHz a source changes by (150/90)**alpha."""
    ratio = truth.fluxes(sky, 150.0, START) / truth.fluxes(sky, 90.0, START)
    np.testing.assert_allclose(ratio, (150 / 90) ** sky["spectral_index"].to_numpy())


def test_catalog_has_the_columns_and_errors_it_states(sky, tmp_path):
    """The catalogue is in the ACT convention, lists known and variable sources alone, and errs by what it says."""
    options = OPTIONS | {"n_sources": 2000}
    large = truth.simulate_truth(options, 1, OBJECTS)
    truth.write_catalog(tmp_path / "catalog.csv", large, options, 1)
    catalog = pd.read_csv(tmp_path / "catalog.csv")
    assert list(catalog.columns) == ["name", "raDeg", "decDeg", "fluxJy", "err_fluxJy"]
    both = catalog.merge(large, on="name")
    assert len(both) == len(catalog) == large["class"].isin(["known", "variable"]).sum()
    columns = [both[name].to_numpy() for name in ("raDeg", "decDeg", "ra_deg", "dec_deg")]
    offsets = np.concatenate(geometry.tangent_offsets(*columns))
    assert offsets.std() == pytest.approx(OPTIONS["catalog_pos_err_arcsec"], rel=5 / np.sqrt(2 * offsets.size))
    pull = (both["fluxJy"] - both["flux_mjy"] / 1e3) / both["err_fluxJy"]
    assert pull.std() == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(both["err_fluxJy"], 0.05 * both["flux_mjy"] / 1e3, atol=1e-8)


def test_ephemeris_follows_the_moving_object(sky, tmp_path):
    """The table gives julian days (UTC) and the true positions then, at the stated motion, over the whole run."""
    truth.write_ephemeris(tmp_path / "ephemeris.csv", sky, OPTIONS)
    table = pd.read_csv(tmp_path / "ephemeris.csv")
    assert list(table.columns) == ["designation", "julian_day", "ra_deg", "dec_deg"]
    time = (table["julian_day"].to_numpy() - 2440587.5) * 86400
    assert time.min() < START and time.max() > START + 3600 * OPTIONS["ephemeris_h"]
    planet = sky[sky["class"] == "moving"]
    ra, dec = (values[:, 0] for values in truth.positions(planet, time[:, None]))
    assert geometry.separation_arcsec(ra, dec, table["ra_deg"], table["dec_deg"]).max() < 0.05
    row = planet.iloc[0]
    speed = np.hypot(row["ra_rate_arcsec_h"], row["dec_rate_arcsec_h"])
    here = geometry.separation_arcsec(ra[1:], dec[1:], ra[:-1], dec[:-1])
    np.testing.assert_allclose(here, speed, rtol=1e-3)


def test_no_moving_object_is_an_empty_ephemeris(tmp_path):
    """Without moving objects the ephemeris is a header alone."""
    truth.write_ephemeris(tmp_path / "ephemeris.csv", truth.simulate_truth(OPTIONS, 1), OPTIONS)
    assert (tmp_path / "ephemeris.csv").read_text() == "designation,julian_day,ra_deg,dec_deg\n"


def test_empty_cells_have_defaults(tmp_path):
    """Cells and columns left out of the table of objects take their defaults."""
    objects = read_text(tmp_path, f"# comment\n{HEADER},peak_mjy,shape\na,transient,1,2,,\nb,artefact,0,0,5,pixel\n")
    assert list(objects["shape"]) == ["point", "pixel"]
    assert list(objects["peak_mjy"]) == [0.0, 5.0]
    assert list(objects["decay_h"]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,class\na,transient\n", r"missing columns \['dec_offset_arcmin', 'ra_offset_arcmin'\]"),
        (f"{HEADER},colour\na,transient,1,1,red\n", r"unknown columns \['colour'\]"),
        (f"{HEADER}\na,comet,1,1\n", r"class 'comet'; expected one of variable, transient"),
        (f"{HEADER},shape\na,artefact,1,1,ring\n", r"shape 'ring'; expected one of point, pixel, trail"),
        (f"{HEADER}\na,transient,one,1\n", r"column ra_offset_arcmin: .*expected numbers"),
        (f"{HEADER}\na,transient,1,1\na,moving,2,2\n", r"names \['a'\] occur twice"),
    ],
)
def test_mistake_in_the_objects_is_named(tmp_path, text, message):
    """A table of objects that cannot be used stops with what was found and what was expected."""
    with pytest.raises(truth.TruthError, match=message):
        read_text(tmp_path, text)


def test_found_objects_stand_beside_injected_ones(sky):
    """Each odd object has one row with its best candidate; a candidate without cause has a row without a name."""
    time = START + 24 * 3600.0
    found = [
        candidate(sky, "bright_flash", time, flux_mjy=200.0, max_snr=9.0, confirmed=True),
        candidate(sky, "bright_flash", time, flux_mjy=300.0, max_snr=30.0, confirmed=True, band="f150"),
        candidate(sky, "minor_planet", time, **{"class": "moving"}, max_snr=8.0),
        candidate(sky, "steady_source", time, ra_deg=180.0, max_snr=6.0),
        candidate(sky, "SIM0001", time, max_snr=7.0),
    ]
    table = truth.compare_with_truth(sky, {"candidates": pd.concat(found, ignore_index=True)}).set_index("name")
    odd = sky["class"] != "known"
    assert list(table.index) == [*sky["name"][odd], "SIM0001", ""]
    flash = table.loc["bright_flash"]
    assert (flash["found"], flash["found_mjy"], flash["snr"], flash["n_found"]) == ("transient", 300.0, 30.0, 2)
    row = sky[sky["name"] == "bright_flash"]
    assert flash["injected_mjy"] == pytest.approx(truth.fluxes(row, 150.0, time)[0])
    assert flash["sep_arcsec"] < 1e-3
    assert table.loc["minor_planet", "found"] == "moving"
    assert table.loc["steady_source", "found"] == "" and table.loc["steady_source", "injected_mjy"] == 110
    assert table.loc["", "injected"] == "nothing" and table.loc["SIM0001", "injected"] == "known"


def test_nothing_found_is_compared_too(sky):
    """With no candidates every odd object is listed as not found; with no truth every candidate is without cause."""
    nothing = truth.compare_with_truth(sky, {"candidates": tables.empty("candidates")})
    assert len(nothing) == (sky["class"] != "known").sum()
    assert not nothing["confirmed"].any()
    one = candidate(sky, "SIM0001", START)
    assert list(truth.compare_with_truth(sky[:0], {"candidates": one})["injected"]) == ["nothing"]


def test_mean_fluxes_stand_beside_true_ones(sky):
    """A known source measured at its true flux plus two sigma has a pull of 2; variable sources are left out."""
    name = ["SIM0003", "flaring_quasar"]
    flux = sky.set_index("name").loc[name]
    true = flux["flux_mjy"].to_numpy() * (150 / 90) ** flux["spectral_index"].to_numpy()
    columns = dict.fromkeys(tables.column_names("source_bands"), 0) | {"source_id": ["s1", "s2"], "band": "f150"}
    bands = tables.make("source_bands", columns | {"mean_flux_mjy": true + 6, "mean_flux_err_mjy": 3.0})
    columns = dict.fromkeys(tables.column_names("sources"), 0) | {"source_id": ["s1", "s2"], "source_name": name}
    compared = truth.compare_sources(sky, {"sources": tables.make("sources", columns), "source_bands": bands})
    assert list(compared["source_name"]) == ["SIM0003"]
    np.testing.assert_allclose(compared[["injected_mjy", "pull"]], [[true[0], 2.0]])
