"""Configurations of the original library made into ours: what each option becomes, and that none is forgotten."""

import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from sotrplib import cli, configuration, convert, mapindex
from sotrplib.cli import engine

SCHEMA = engine.load_schema()
MAP = {
    "map_type": "inverse_variance",
    "intensity_map_path": "maps/depth1_1538613353_pa5_f090_map.fits",
    "weights_map_path": "maps/depth1_1538613353_pa5_f090_ivar.fits",
    "time_map_path": "maps/depth1_1538613353_pa5_f090_time.fits",
    "frequency": "f090",
    "array": "pa5",
}
CATALOG = {"catalog_type": "fits", "path": "act.fits", "flux_lower_limit": "0.01 Jy"}
PRE = [
    {"preprocessor_type": "planet_mask", "mask_radius": "15 arcmin"},
    {"preprocessor_type": "matched_filter", "band_height": "1 deg", "shrink_holes": "5 arcmin", "noisemask_lim": 0.1},
    {"preprocessor_type": "kappa_rho"},
    {"preprocessor_type": "edge_mask", "mask_on": "kappa", "edge_width": "0.2 deg"},
]
WHOLE = {
    "instrument": "ACTPol",
    "runner": "prefect",
    "log_level": "debug",
    "maps": [MAP | {"sky_box": [{"ra": "140 deg", "dec": "-13 deg"}, {"ra": "138 deg", "dec": "-11 deg"}]}],
    "source_catalogs": [CATALOG],
    "sso_catalogs": [{"catalog_type": "sso", "db_path": "mpc.csv"}],
    "preprocessors": PRE,
    "postprocessors": [
        {"postprocessor_type": "flatfield", "sigma_val": 5.0, "tile_size": {"value": 0.5, "unit": "deg"}}
    ],
    "pointing_provider": {
        "photometry_type": "lmfit_pointing",
        "min_flux": "0.3 Jy",
        "thumbnail_half_width": "6 arcmin",
    },
    "pointing_residual": {"pointing_residual_type": "polynomial", "min_snr": 5.0, "polynomial_order": 2},
    "forced_photometry": {"photometry_type": "lmfit", "min_flux": "10 mJy", "thumbnail_half_width": "4 arcmin"},
    "source_subtractor": {"subtractor_type": "photutils"},
    "blind_search": {"search_type": "photutils", "parameters": {"sigma_threshold": 3.0}},
    "sifter": {"sifter_type": "default", "min_match_radius": "120 arcsec", "cuts": {"snr": [3.0, "inf"]}},
    "map_matcher": {"matcher_type": "multi_array", "min_arrays": 2, "high_sig": 5.0, "low_sig": 3.0},
    "source_outputs": [{"output_type": "pickle", "directory": "."}, {"output_type": "cutout", "directory": "."}],
}


def of(**old):
    return convert.convert(old, prefix="new", schema=SCHEMA)


def value(result, key):
    part = result.config
    for name in key.split("."):
        part = part[name]
    return part


def verdicts(result, start):
    """Verdict and text of every option whose name begins so."""
    return [(note.verdict, note.text) for note in result.notes if note.option.startswith(start)]


def leaves(part, where=""):
    """Names of all options of an old configuration, as notes name them."""
    if isinstance(part, dict):
        return [name for key, inner in part.items() for name in leaves(inner, f"{where}.{key}".lstrip("."))]
    if isinstance(part, list) and part and isinstance(part[0], dict):
        return [name for n, inner in enumerate(part) for name in leaves(inner, f"{where}[{n}]")]
    return [where]


def test_a_whole_configuration_is_mapped():
    """Every handler with a counterpart is mapped, units changed; the result resolves; nothing is refused."""
    result = of(**WHOLE)
    assert [str(note) for note in result.notes if note.verdict == convert.REFUSED] == []
    resolved = configuration.resolve(result.config, SCHEMA)
    wanted = {
        "log_level": "DEBUG",
        "maps.box": {"ra_min_deg": 138.0, "ra_max_deg": 140.0, "dec_min_deg": -13.0, "dec_max_deg": -11.0},
        "catalog.flux_min_mjy": 10.0,
        "ephemerides.elements": "mpc.csv",
        "preprocess_map.planet_mask_radius_arcmin": 15.0,
        "preprocess_map.hole_min_arcmin": 10.0,
        "preprocess_map.edge_arcmin": 12.0,
        "preprocess_map.flatfield_tile_deg": 0.5,
        "fit_pointing.model": "polynomial",
        "fit_pointing.flux_min_mjy": 300.0,
        "fit_pointing.order": 2,
        "forced_photometry.flux_min_mjy": 10.0,
        "forced_photometry.cutout_arcmin": 8.0,
        "find_sources.snr_min": 3.0,
        "sift_candidates.match_radius_arcmin": 2.0,
        "confirm_candidates.detect_snr": 5.0,
        "confirm_candidates.min_arrays": 2,
        "export_catalogs.formats": ["pickle"],
    }
    assert {key: value(result, key) for key in wanted} == wanted
    assert resolved["maps"]["table"] == "new_maps.csv"


def test_every_option_has_a_note():
    """No option of the old configuration is dropped: each one, or what holds it, is in the account."""
    result = of(**WHOLE)
    told = [note.option.removesuffix(" (default)") for note in result.notes]
    forgotten = [leaf for leaf in leaves(WHOLE) if not any(leaf.startswith(name) for name in told)]
    assert forgotten == []


def test_misspelt_options_and_handlers_are_refused_by_name():
    """What the original ignores silently is refused, wherever it stands."""
    result = of(
        maps=[MAP | {"flux_units": "mJy"}],
        source_catalogs=[CATALOG | {"colour": 1}],
        preprocessors=[{"preprocessor_type": "edge_mask", "edge_widht": "1 arcmin"}, {"preprocessor_type": "wavelets"}],
        sifter={"sifter_type": "default", "transient_crossmatch": {"catalog": []}},
        blind_search={"search_type": "photutils", "parameters": {"sigma": 4}},
        preprocesors=[],
    )
    refused = {note.option: note.text for note in result.notes if note.verdict == convert.REFUSED}
    assert "edge_width" in refused["preprocessors[0].edge_widht"]
    assert "wavelets" in refused["preprocessors[1]"] and "matched_filter" in refused["preprocessors[1]"]
    assert {
        "maps[0].flux_units",
        "source_catalogs[0].colour",
        "sifter.transient_crossmatch.catalog",
        "blind_search.parameters.sigma",
        "preprocesors",
    } <= set(refused)


def test_what_the_original_leaves_out_is_off():
    """Stages and masks that an old configuration does not name are switched off, for ours would do them."""
    result = of(maps=[MAP], source_catalogs=[CATALOG])
    off = {
        "preprocess_map.planet_mask_radius_arcmin": 0.0,
        "preprocess_map.edge_arcmin": 0.0,
        "preprocess_map.kappa_min_fraction": 0.0,
        "preprocess_map.flatfield_tile_deg": 0.0,
        "preprocess_map.noise_model": "white",
        "fit_pointing.model": "identity",
        "forced_photometry.method": "none",
        "find_sources.subtract_known": False,
        "find_sources.finder": "none",
        "confirm_candidates.min_arrays": 1,
        "search_jointly.enabled": False,
        "export_catalogs.formats": [],
        "ephemerides.tables": [],
    }
    assert {key: value(result, key) for key in off} == off


def test_defaults_of_the_original_are_written_out():
    """An option not given has the original's default, not ours."""
    result = of(
        maps=[MAP],
        source_catalogs=[{"catalog_type": "fits", "path": "act.fits"}],
        preprocessors=[{"preprocessor_type": "edge_mask"}, {"preprocessor_type": "planet_mask"}],
        pointing_residual={"pointing_residual_type": "mean"},
    )
    assert value(result, "catalog.flux_min_mjy") == 30.0
    assert value(result, "preprocess_map.edge_arcmin") == 10.0
    assert value(result, "preprocess_map.planet_mask_radius_arcmin") == 15.0
    assert value(result, "fit_pointing.n_min") == 5


@pytest.mark.parametrize(
    ("old", "key", "expected"),
    [
        ({"preprocessor_type": "kappa_rho", "cut_on": "max"}, "preprocess_map.kappa_reference", "max"),
        (
            {"preprocessor_type": "galaxy_mask", "mask_path": "g.fits", "invert": "True"},
            "preprocess_map.galaxy_masked_value",
            1,
        ),
        ({"preprocessor_type": "matched_filter", "simple": True}, "preprocess_map.noise_model", "power_law"),
        ({"preprocessor_type": "matched_filter", "simple_alpha": -3.5}, "preprocess_map.alpha", 3.5),
        ({"preprocessor_type": "matched_filter", "apod_edge": "2 arcmin"}, "preprocess_map.apodise_edge_arcmin", 2.0),
        ({"preprocessor_type": "matched_filter"}, "preprocess_map.apodise_edge_arcmin", 10.0),
        ({"preprocessor_type": "matched_filter"}, "preprocess_map.apodise_hole_arcmin", 5.0),
        ({"preprocessor_type": "matched_filter", "simple": True}, "preprocess_map.ell_knee", 1000.0),
        ({"preprocessor_type": "matched_filter", "pixwin": "none"}, "preprocess_map.pixel_window", False),
        ({"preprocessor_type": "matched_filter", "beam1d": "b.txt"}, "beams.f090", "b.txt"),
        ({"preprocessor_type": "matched_filter", "beam1d": {"f150": "c.txt"}}, "beams.f150", "c.txt"),
        ({"preprocessor_type": "asteroid_mask"}, "preprocess_map.asteroid_mask_radius_arcmin", 10.0),
        ({"preprocessor_type": "map_shifter", "shift_ra": "0.5 arcmin"}, "fit_pointing.ra_shift_arcsec", 30.0),
        ({"postprocessor_type": "edge_mask", "edge_width": "4 arcmin"}, "preprocess_map.edge_arcmin", 4.0),
    ],
)
def test_processors(old, key, expected):
    """Each preprocessor has its keys; one that stands under the other's name, as in early samples, too."""
    assert value(of(maps=[MAP], preprocessors=[old]), key) == expected


@pytest.mark.parametrize(
    ("section", "old", "key", "expected"),
    [
        (
            "forced_photometry",
            {"photometry_type": "simple", "mode": "nn"},
            "forced_photometry.interpolation",
            "nearest",
        ),
        (
            "forced_photometry",
            {"photometry_type": "lmfit", "goodness_of_fit_threshold": 2.5},
            "forced_photometry.chi2_max",
            2.5,
        ),
        ("forced_photometry", {"photometry_type": "empty"}, "forced_photometry.method", "none"),
        ("pointing_residual", {"pointing_residual_type": "median"}, "fit_pointing.average", "median"),
        (
            "pointing_provider",
            {"photometry_type": "scipy_pointing", "goodness_of_fit_threshold": 3},
            "fit_pointing.chi2_max",
            3.0,
        ),
        ("source_subtractor", {"subtractor_type": "empty"}, "find_sources.subtract_known", False),
        (
            "blind_search",
            {"search_type": "photutils", "thumbnail_half_width": "0.1 deg"},
            "find_sources.cutout_arcmin",
            12.0,
        ),
        ("sifter", {"sifter_type": "simple", "radius": "2 arcmin"}, "sift_candidates.match_radius_arcmin", 2.0),
        (
            "map_matcher",
            {"matcher_type": "multi_array", "radius": "1 arcmin"},
            "confirm_candidates.associate_radius_arcmin",
            1.0,
        ),
        ("log_level", 10, "log_level", "DEBUG"),
    ],
)
def test_stages(section, old, key, expected):
    """Each handler of a stage has its keys."""
    assert value(of(maps=[MAP], **{section: old}), key) == expected


@pytest.mark.parametrize(("cut", "verdict"), [([3.0, "inf"], convert.MAPPED), ([3.0, 9.0], convert.REFUSED)])
def test_cuts_on_signal_to_noise(cut, verdict):
    """A lower limit is our threshold; an upper one, and cuts on what we do not cut on, are refused."""
    result = of(maps=[MAP], sifter={"sifter_type": "default", "cuts": {"snr": cut, "colour": [0, 1]}})
    assert dict(verdicts(result, "sifter.cuts.snr")).keys() == {verdict}
    assert dict(verdicts(result, "sifter.cuts.colour")).keys() == {convert.REFUSED}


def test_a_shift_of_the_map_holds_without_a_fit():
    """A known shift is the pointing model where nothing is fitted, and the start of the fit where something is."""
    shifted = {"maps": [MAP], "preprocessors": [{"preprocessor_type": "map_shifter", "shift_dec": "-1 arcmin"}]}
    absent, empty = of(**shifted), of(**shifted, pointing_residual={"pointing_residual_type": "empty"})
    fitted = of(
        **shifted,
        pointing_provider={"photometry_type": "lmfit_pointing"},
        pointing_residual={"pointing_residual_type": "mean"},
    )
    assert [value(result, "fit_pointing.model") for result in (absent, empty, fitted)] == ["fixed", "fixed", "constant"]
    assert {value(result, "fit_pointing.dec_shift_arcsec") for result in (absent, empty, fitted)} == {-60.0}


@pytest.mark.parametrize(("shift", "verdict"), [(0, convert.UNNEEDED), (1, convert.REFUSED)])
def test_stripes_along_the_scan_are_refused_with_a_cure(shift, verdict):
    """Rows that follow the scan of the info file have no key of their own; 0 does nothing."""
    result = of(maps=[MAP], preprocessors=[{"preprocessor_type": "matched_filter", "shift": shift}])
    [(found, text)] = verdicts(result, "preprocessors[0].shift")
    assert found == verdict and (verdict == convert.UNNEEDED or "preprocess_map.noise_shear" in text)


def test_map_outputs_are_exported_images():
    """Images of the filtered maps are exported by every run; one we do not have is refused by name."""
    output = {"output_type": "maps", "directory": "maps", "fields": ["rho", "hits", "time_mean"]}
    result = of(maps=[MAP], map_outputs=[output])
    assert value(result, "export_map") == {"every_run": True, "fields": ["rho", "time"]}
    assert dict(verdicts(result, "map_outputs[0].fields hits")).keys() == {convert.REFUSED}


def test_counterpart_catalogues():
    """A table of galaxies is listed with its columns; catalogues on the network are refused."""
    table = {"catalog_type": "table", "path": "glade.csv", "ra_column": "RA", "dec_column": "DE", "name_column": "id"}
    table |= {"source_type": "galaxy"}
    wanted = {"catalogs": [table, {"catalog_type": "gaia", "max_mag": 18}], "match_radius": "1 arcmin"}
    wanted |= {"type_priors": {"galaxy": 2.0}, "min_score": 0.5}
    result = of(maps=[MAP], sifter={"sifter_type": "default", "transient_crossmatch": wanted})
    entry = {"path": "glade.csv", "name": "glade", "ra_deg": "RA", "dec_deg": "DE", "label": "id", "type": "galaxy"}
    assert value(result, "confirm_candidates.external_catalogs") == [entry]
    assert value(result, "confirm_candidates.external_radius_arcmin") == 1.0
    assert value(result, "confirm_candidates.external_score_min") == 0.5
    assert value(result, "confirm_candidates.external_priors") == {"galaxy": 2.0}
    assert "network" in verdicts(result, "sifter.transient_crossmatch.catalogs[1]")[0][1]


# ---- maps and sources ------------------------------------------------------------------------------------------------


def rows(result):
    lines = result.files["new_maps.csv"].splitlines()
    return [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]


def test_listed_maps_become_a_map_table():
    """Form, paths, unit and time of each map; the early name `band` for the array; a name without time is refused."""
    filtered = {
        "map_type": "filtered",
        "rho_map_path": "r.fits",
        "kappa_map_path": "k.fits",
        "band": "PA6",
        "frequency": "150GHz",
    }
    timed = filtered | {"observation_start": "2025-01-01T00:00:10Z", "flux_units": "mJy", "instrument": "ACT"}
    result = of(maps=[MAP, timed, filtered])
    first, second = rows(result)
    assert (first["map_id"], first["form"], first["unit"]) == ("act_pa5_f090_1538613353", "intensity_ivar", "K")
    assert (second["map_id"], second["form"], second["unit"]) == ("act_pa6_f150_1735689610", "rho_kappa", "mJy")
    assert second["time_unix_s"] == "1735689610" and second["weight_path"] == "k.fits"
    assert "observation_start" in dict(verdicts(result, "maps[2]"))[convert.REFUSED]


@pytest.mark.parametrize(
    ("corners", "ra"),
    [
        ({"value": [[-50, 300], [-30, 320]], "unit": "deg"}, (300.0, 320.0)),
        ({"value": [[-0.5, 5.5], [-0.6, 5.25]], "unit": "rad"}, tuple(np.degrees([5.25, 5.5]))),
        ([{"ra": "350 deg", "dec": "-30 deg"}, {"ra": "10 deg", "dec": "-50 deg"}], (350.0, 10.0)),
    ],
)
def test_boxes_keep_their_sky(corners, ra):
    """Corners in either order and unit, a box across RA 0 included."""
    box = value(of(maps=[MAP | {"box": corners}]), "maps.box")
    assert (box["ra_min_deg"], box["ra_max_deg"]) == pytest.approx(ra, abs=1e-6)
    assert box["dec_min_deg"] < box["dec_max_deg"]


def test_two_boxes_are_one_too_many():
    """Ours cuts all maps alike, so the second box is refused."""
    boxes = [{"value": [[-50, 300], [-30, 320]], "unit": "deg"}, {"value": [[-50, 300], [-30, 330]], "unit": "deg"}]
    result = of(maps=[MAP | {"sky_box": boxes[0]}, MAP | {"sky_box": boxes[1], "array": "pa6"}])
    assert convert.REFUSED in dict(verdicts(result, "maps[1].sky_box")) and len(rows(result)) == 2


def test_maps_that_cannot_be_told_apart():
    """The second of two maps of one name is refused."""
    result = of(maps=[MAP, MAP])
    assert "remove one" in dict(verdicts(result, "maps[1]"))[convert.REFUSED] and len(rows(result)) == 1


def test_box_off_the_sky_is_refused_whole():
    """A box that is wrong in one corner leaves no half of it behind."""
    result = of(maps=[MAP | {"box": {"value": [[-95, 300], [-30, 320]], "unit": "deg"}}])
    assert "box" not in result.config["maps"]
    assert "dec_min_deg" in dict(verdicts(result, "maps[0].box"))[convert.REFUSED]


def test_simulated_maps_take_their_geometry_along():
    """Widths are to either side of the centre and, along RA, in coordinate; the map's files are the workflow's."""
    parameters = {"center_ra": "90 deg", "center_dec": "60 deg", "width_ra": "3 deg", "width_dec": "2 deg"}
    one = {"map_type": "simulated", "observation_start": "2025-01-01", "simulation_parameters": parameters}
    fixed = {"simulation_type": "fixed", "number": 12, "min_flux": "1 mJy", "max_flux": "1 Jy"}
    result = of(maps=[one], source_simulators=[fixed, {"simulation_type": "power_law", "number": 3}])
    simulate = result.config["simulate"]
    assert (simulate["width_deg"], simulate["height_deg"]) == (3.0, 4.0)
    assert (simulate["n_sources"], simulate["flux_max_mjy"], simulate["start_unix_s"]) == (12, 1000.0, 1735689600.0)
    assert rows(result)[0]["map_path"] == "results/simulated/act_pa5_f090_1735689600_map.fits"
    assert dict(verdicts(result, "source_simulators[1]")).keys() == {convert.REFUSED}
    assert "path" not in result.config.get("catalog", {})


def test_series_of_simulated_maps():
    """A map every observation_length; the end is open."""
    series = {"map_generator_type": "sim_map_generator", "array": "i6", "frequency": "f150"}
    series |= {"observation_start": "2025-01-01T00:00:00Z", "observation_end": "2025-01-02T06:00:00Z"}
    found = rows(of(maps=series | {"observation_length": "PT12H"}))
    assert [row["map_id"] for row in found] == [f"solat_i6_f150_{1735689600 + n * 43200}" for n in range(3)]


def test_maps_and_sources_of_databases():
    """mapcat and socat are read from; bands, arrays, times, number and states of processing select maps."""
    maps = {"map_generator_type": "mapcat_database", "frequency": "f090", "array": "I6", "number_to_read": "3"}
    maps |= {"instrument": "SOLAT", "start_time": "2025-09-04T00:00:00Z", "rerun": "True", "map_type": "rhokappa"}
    result = of(maps=maps, source_catalogs=[{"catalog_type": "socat"}])
    assert [str(note) for note in result.notes if note.verdict == convert.REFUSED] == []
    chosen = {"bands": ["f090"], "arrays": ["i6"], "n_max": 3, "time_min_unix_s": 1756944000.0}
    assert value(result, "maps.select") == chosen
    assert (value(result, "maps.kind"), value(result, "maps.mapcat.form")) == ("mapcat", "rho_kappa")
    assert value(result, "maps.mapcat.statuses") == [] and value(result, "maps.instrument") == "solat"
    assert result.config["catalog"] == {"kind": "socat", "flux_min_mjy": 30.0} and result.files == {}


def test_lightcurves_go_to_their_database():
    """lightcurvedb is written to; its settings are refused, for they are in the environment."""
    output = {"output_type": "lightcurvedb", "upsert_sources": True, "override_settings": {"host": "x"}}
    result = of(maps=[MAP], source_outputs=[output])
    assert value(result, "write_lightcurvedb.enabled") is True
    assert dict(verdicts(result, "source_outputs[0].override_settings")).keys() == {convert.REFUSED}


def test_coadd_of_a_week():
    """A coadder is a group of coadds by band; its bands and the times of the maps select; registration is refused."""
    maps = {"map_generator_type": "mapcat_database", "start_time": "2025-09-04T00:00:00Z", "end_time": "2025-09-11"}
    coadder = {"coadd_type": "rhokappa", "frequencies": ["f090", "f150"], "arrays": ["I1"]}
    result = of(maps=maps, map_coadder=coadder, mapcat_registration={"coadd_name": "Week00_f090", "enabled": True})
    assert value(result, "coadd_maps.groups") == [{"name": "week00f090", "per_array": True}]
    assert value(result, "maps.select.bands") == ["f090", "f150"] and value(result, "maps.select.arrays") == ["i1"]
    assert dict(verdicts(result, "mapcat_registration.enabled")).keys() == {convert.REFUSED}
    stored = of(maps=maps | {"map_type": "coadd_rhokappa", "instrument": "ALMA"})
    assert dict(verdicts(stored, "maps.instrument")).keys() == {convert.REFUSED}
    assert dict(verdicts(stored, "maps.map_type")).keys() == {convert.REFUSED}


def test_no_catalogue_is_an_empty_one():
    """Without known sources there is a catalogue of no rows, and no simulation of one."""
    result = of(maps=[MAP])
    assert value(result, "catalog.path") == "new_catalog.csv"
    assert len(result.files["new_catalog.csv"].splitlines()) == 1


def test_catalogue_of_brighter_sources():
    """The catalogue of early samples for photometry is a flux limit if its file is the same, else refused."""
    bright = CATALOG | {"flux_lower_limit": "0.3 Jy"}
    assert (
        value(
            of(maps=[MAP], source_catalogs=[CATALOG], forced_photometry_catalog=bright),
            "forced_photometry.flux_min_mjy",
        )
        == 300
    )
    other = of(maps=[MAP], source_catalogs=[CATALOG], forced_photometry_catalog=bright | {"path": "b.fits"})
    assert dict(verdicts(other, "forced_photometry_catalog")).keys() == {convert.REFUSED}


# ---- values that do not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("radius", "told"),
    [
        ("15", "has no unit"),
        ("15 Jy", "arcmin"),
        ("wide", "cannot be read"),
        ([1], "cannot be read"),
        ("-1 arcmin", "at least 0"),
    ],
)
def test_values_that_do_not_fit_are_refused(radius, told):
    """A value without unit, of another kind or beyond our limits is refused and not written."""
    result = of(maps=[MAP], preprocessors=[{"preprocessor_type": "planet_mask", "mask_radius": radius}])
    [(verdict, text)] = verdicts(result, "preprocessors[0].mask_radius")
    assert verdict == convert.REFUSED and told in text
    assert "planet_mask_radius_arcmin" not in result.config["preprocess_map"]


def test_order_beyond_ours_is_refused():
    """Polynomials of order 5 are more than ours fits: the key is left at its default and told."""
    result = of(maps=[MAP], pointing_residual={"pointing_residual_type": "polynomial", "polynomial_order": 5})
    assert "order" not in result.config["fit_pointing"]
    assert "at most 4" in dict(verdicts(result, "pointing_residual.polynomial_order"))[convert.REFUSED]


@pytest.mark.parametrize(
    "wrong", [{"preprocessors": {"preprocessor_type": "kappa_rho"}}, {"sifter": "default"}, {"maps": ["a.fits"]}]
)
def test_sections_of_the_wrong_form_are_refused(wrong):
    """An object in place of a list, or a word in place of an object, is refused and costs nothing else."""
    [(verdict, text)] = verdicts(of(**({"maps": [MAP]} | wrong)), next(iter(wrong)))[-1:]
    assert verdict == convert.REFUSED and "expected" in text


# ---- the command -----------------------------------------------------------------------------------------------------


def sotrp(*arguments):
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


def test_converted_file_validates(tmp_path, monkeypatch):
    """`sotrp convert` writes configuration and map table, tells of everything, and `sotrp validate` agrees."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text(json.dumps(WHOLE))
    done = sotrp("convert", "old.json")
    assert done.exit_code == 0, done.output
    assert "preprocessors[0].mask_radius = 15 arcmin -> preprocess_map.planet_mask_radius_arcmin 15.0" in done.output
    assert sotrp("validate", "old.yaml").exit_code == 0
    assert mapindex.read_map_table("old_maps.csv")[0]["map_id"] == "act_pa5_f090_1538613353"
    assert "wrote old_maps.csv" in done.output


def test_refused_options_give_status_1_and_stand_in_the_file(tmp_path):
    """What has no counterpart is printed, kept as a comment in the new file, and told by the exit status."""
    old, new = tmp_path / "old.json", tmp_path / "new.yaml"
    old.write_text(
        json.dumps({"maps": [MAP], "source_catalogs": [CATALOG], "source_outputs": [{"output_type": "lightserve"}]})
    )
    done = sotrp("convert", old, "-o", new)
    assert done.exit_code == 1 and "refused (1)" in done.output
    assert "#   source_outputs[0].output_type = lightserve" in new.read_text()
    assert yaml.safe_load(new.read_text())["maps"]["table"] == str(tmp_path / "new_maps.csv")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1"),
        ("[]", "no configuration of the original"),
        ('{"catalog": {"path": "a.csv"}}', "no configuration of the original"),
        ('{"sifter": {"sifter_type": "default", "sifter_type": "simple"}}', "sifter_type given twice"),
    ],
)
def test_files_that_cannot_be_converted(tmp_path, text, told):
    """Broken JSON, something else, and a key given twice stop with status 2; nothing is written."""
    (tmp_path / "old.json").write_text(text)
    done = sotrp("convert", tmp_path / "old.json")
    assert done.exit_code == 2 and told in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]


def test_nothing_is_written_over(tmp_path):
    """A file that exists is kept unless --force is given."""
    old = tmp_path / "old.json"
    old.write_text(json.dumps(WHOLE))
    (tmp_path / "old_maps.csv").write_text("precious\n")
    assert sotrp("convert", old).exit_code == 2 and not (tmp_path / "old.yaml").exists()
    assert sotrp("convert", old, "--force").exit_code == 0 and (tmp_path / "old.yaml").exists()
