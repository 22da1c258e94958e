"""Handlers of the original for the stages of one map, and what each of their options is here.

Defaults are the original's, as its documentation states them; they are written out wherever an option is one of our
keys, so that the converted configuration does what the old one did and not what ours does by default.
"""

from sotrplib.convert.draft import Refuse, To, Unneeded

_SOURCES = Unneeded("sources are subtracted before the noise is measured, see preprocess_map.passes and find_snr")
_TIMES = Unneeded("positions are predicted for the time at which their pixel was observed")
_TANGENT = Unneeded("offsets are fitted on the sphere, to the shape of a source in the filtered map")
_FIXED = Unneeded(
    "fluxes are read at the catalogue position; offsets are fitted beside, see forced_photometry.offset_snr_min"
)
_BLENDS = Unneeded("neighbours are solved together, see forced_photometry.blend_limit")
_STRIPES = Refuse(
    "a switch there, by which rows follow the scan of the info file; here the stripes may be tilted, all alike: "
    "give their slope as preprocess_map.noise_shear",
    harmless=(0, 0.0),
)


def _slope(draft, option, found):
    draft.put("preprocess_map.alpha", abs(float(found)), option, found)


_slope.default = -3.5


def _beam(draft, option, found):
    """Beam files, one for each band or one for the band of all maps."""
    bands = sorted({row["band"] for row in draft.rows} | set((draft.get("maps.select") or {}).get("bands", [])))
    if isinstance(found, dict):
        for band, path in found.items():
            draft.put(f"beams.{band}", path, f"{option}.{band}", path)
    elif len(bands) == 1:
        draft.put(f"beams.{bands[0]}", found, option, found)
    else:
        draft.refuse(option, found, f"one beam for the bands {bands or 'of the maps'}; name one for each in `beams`")


_GALAXY = {
    "mask_path": To("preprocess_map.galaxy_mask", kind=str),
    "invert": To("preprocess_map.galaxy_masked_value", names={False: 0, True: 1}),
}
_FLATFIELD = {
    "tile_size": To("preprocess_map.flatfield_tile_deg", "deg", default="1 deg"),
    "sigma_val": To("preprocess_map.flatfield_clip_sigma", default=5.0),
}
_MATCHED_FILTER = {
    "infofile": Unneeded("column info_path of the map table"),
    "maskfile": To("preprocess_map.noise_mask", kind=str),
    "beam1d": _beam,
    "shrink_holes": To("preprocess_map.hole_min_arcmin", "arcmin", factor=2.0, default="20 arcmin"),  # a radius there
    "apod_edge": To("preprocess_map.apodise_edge_arcmin", "arcmin", default="10 arcmin"),
    "apod_holes": To("preprocess_map.apodise_hole_arcmin", "arcmin", default="5 arcmin"),
    "noisemask_lim": _SOURCES,
    "noisemask_radius": _SOURCES,
    "highpass": Refuse("give preprocess_map.ell_min", harmless=(False,)),
    "band_height": Unneeded("the filter is exact in every row; see preprocess_map.band_rows"),
    "shift": _STRIPES,
    "simple": To("preprocess_map.noise_model", names={True: "power_law", False: "measured"}),
    "simple_lknee": To("preprocess_map.ell_knee", default=1000.0),
    "simple_alpha": _slope,
    "lres": Unneeded("blocks of the spectrum are sized by the number of modes in them"),
    "pixwin": To("preprocess_map.pixel_window", names={"nn": True, "lin": True, "none": False, "0": False}),
}
_EDGE = {
    "edge_width": To("preprocess_map.edge_arcmin", "arcmin", default="10 arcmin"),
    "mask_on": Unneeded("the edge is that of the observed area"),
}
_KAPPA = {
    "cut_on": To(
        "preprocess_map.kappa_reference", names={n: n for n in ("median", "percentile", "max")}, default="median"
    ),
    "fraction": To("preprocess_map.kappa_min_fraction", default=0.05),
}
_ASTEROIDS = {
    "use_socat": Unneeded("moving objects come from `ephemerides`"),
    "ephem_file_path": Refuse("write it as CSV of designation, julian_day, ra_deg, dec_deg into ephemerides.tables"),
    "start_time": _TIMES,
    "end_time": _TIMES,
    "mask_radius": To("preprocess_map.asteroid_mask_radius_arcmin", "arcmin", default="10 arcmin"),
    "interp_time_range": _TIMES,
    "interp_to": _TIMES,
}
PROCESSORS = {
    "planet_mask": {"mask_radius": To("preprocess_map.planet_mask_radius_arcmin", "arcmin", default="15 arcmin")},
    "asteroid_mask": _ASTEROIDS,
    "kappa_rho": _KAPPA,
    "matched_filter": _MATCHED_FILTER,
    "edge_mask": _EDGE,
    "galaxy_mask": _GALAXY,
    "flatfield": _FLATFIELD,
    "map_shifter": {
        "shift_ra": To("fit_pointing.ra_shift_arcsec", "arcsec"),
        "shift_dec": To("fit_pointing.dec_shift_arcsec", "arcsec"),
    },
}

_POINTING = {
    "min_flux": To("fit_pointing.flux_min_mjy", "mJy", default="0.3 Jy"),
    "reproject_thumbnails": _TANGENT,
    "thumbnail_half_width": Unneeded("offsets are those of the maximum of the filtered map"),
    "allowable_center_offset": To("fit_pointing.radius_arcmin", "arcmin", default="3 arcmin"),
    "near_source_rel_flux_limit": To("fit_pointing.isolation_flux_ratio", default=0.3),
    "goodness_of_fit_threshold": To("fit_pointing.chi2_max"),
}
POINTING_KEYS = {"empty": {"fit_pointing.model": "identity"}}
POINTING = {"empty": {}, "lmfit_pointing": _POINTING, "scipy_pointing": _POINTING}

_RESIDUAL = {
    "min_snr": To("fit_pointing.snr_min", default=5.0),
    "min_sources": To("fit_pointing.n_min", kind=int, default=5),
    "sigma_clip_level": To("fit_pointing.clip_sigma", default=3.0),
}
_AVERAGE = _RESIDUAL | {"polynomial_order": Unneeded("an average has no order")}
RESIDUAL = {
    "empty": {},
    "mean": _AVERAGE,
    "median": _AVERAGE,
    "polynomial": _RESIDUAL | {"polynomial_order": To("fit_pointing.order", kind=int, default=3)},
}
RESIDUAL_KEYS = {
    "empty": {"fit_pointing.model": "identity"},
    "mean": {"fit_pointing.model": "constant", "fit_pointing.average": "mean"},
    "median": {"fit_pointing.model": "constant", "fit_pointing.average": "median"},
    "polynomial": {"fit_pointing.model": "polynomial"},
}

_FIT = {
    "flux_limit_centroid": _FIXED,
    "min_flux": To("forced_photometry.flux_min_mjy", "mJy"),
    "reproject_thumbnails": _TANGENT,
    "thumbnail_half_width": To("forced_photometry.cutout_arcmin", "arcmin", factor=2.0, default="0.1 deg"),
    "allowable_center_offset": To("forced_photometry.offset_max_arcmin", "arcmin", default="1 arcmin"),
    "near_source_rel_flux_limit": _BLENDS,
    "goodness_of_fit_threshold": To("forced_photometry.chi2_max"),  # flagged, not left out
}
PHOTOMETRY = {
    "empty": {},
    "simple": {"mode": To("forced_photometry.interpolation", names={"spline": "spline", "nn": "nearest"})},
    "lmfit": _FIT,
    "scipy": _FIT,
}
PHOTOMETRY_KEYS = {"empty": {"forced_photometry.method": "none"}}
SUBTRACTOR = {"empty": {}, "photutils": {}}
SUBTRACTOR_KEYS = {
    "empty": {"find_sources.subtract_known": False},
    "photutils": {"find_sources.subtract_known": True},
}

_SEPARATION = Refuse("separations are in widths of the beam: find_sources.min_separation_fwhm")


def _search_parameters(draft, option, found):
    rules = {
        "sigma_threshold": To("find_sources.snr_min"),
        "minimum_separation": _SEPARATION,
        "sigma_threshold_for_minimum_separation": _SEPARATION,
    }
    for name, value in found.items():
        rules.get(name, Refuse(f"no such parameter; known: {', '.join(rules)}"))(draft, f"{option}.{name}", value)


_SEARCH = {
    "parameters": _search_parameters,
    "snr_threshold": To("find_sources.snr_min"),
    "pixel_mask": Refuse("give the mask as a FITS file in preprocess_map.extra_mask"),
    "thumbnail_half_width": To("find_sources.cutout_arcmin", "arcmin", factor=2.0),
}
SEARCH = {"empty": {}, "photutils": _SEARCH, "default": _SEARCH}
SEARCH_KEYS = {"empty": {"find_sources.finder": "none"}}


def _cuts(draft, option, found):
    """Cuts on properties of detections; a detection outside of any is noise."""
    rules = {
        "snr": _snr_cut,
        "observation_mean_time": Unneeded("detections without a time carry the flag NO_TIME"),
        "fwhm": Refuse("widths are in those of the template: sift_candidates.fwhm_ratio_min and _max"),
    }
    other = Refuse("cuts here: those of sift_candidates in config/README.md")
    for name, limits in found.items():
        rules.get(name, other)(draft, f"{option}.{name}", limits)


def _snr_cut(draft, option, limits):
    """A least signal to noise; a greatest one has no counterpart."""
    low, high = limits
    if str(high).lower() in ("inf", "infinity", "none"):
        draft.put("find_sources.snr_min", float(low), option, limits)
    else:
        draft.refuse(option, limits, "there is no upper limit; leave it open with inf")


def _counterparts(draft, option, found):
    """Catalogues in which transients are looked up."""
    rules = {
        "match_radius": To("confirm_candidates.external_radius_arcmin", "arcmin", default="2 arcmin"),
        "position_error_scale": To("confirm_candidates.external_match_sigma", default=3.0),
        "type_priors": lambda d, where, priors: d.put("confirm_candidates.external_priors", priors, where, priors),
        "min_score": To("confirm_candidates.external_score_min", default=0.0),
        "set_source_type": Unneeded("the counterpart is a column of its own"),
    }
    for name, value in found.items():
        if name == "catalogs":
            for n, catalog in enumerate(value):
                _counterpart(draft, f"{option}.catalogs[{n}]", catalog)
        else:
            rules.get(name, Refuse(f"no such option; known: catalogs, {', '.join(rules)}"))(
                draft, f"{option}.{name}", value
            )


def _counterpart(draft, option, given):
    kind = given.get("catalog_type")
    if kind != "table":
        draft.refuse(
            option,
            given,
            "no job asks the network or knows this format: save it as CSV, FITS or ECSV "
            "and list it in confirm_candidates.external_catalogs",
        )
        return
    names = {
        "path": "path",
        "ra_column": "ra_deg",
        "dec_column": "dec_deg",
        "name_column": "label",
        "source_type": "type",
    }
    entry = {ours: given[old] for old, ours in names.items() if given.get(old)}
    entry["name"] = given.get("catalog_name") or str(given["path"]).rsplit("/", 1)[-1].split(".")[0]
    used = {*names, "catalog_name", "catalog_type"}
    draft.add("confirm_candidates.external_catalogs", entry, option, {k: v for k, v in given.items() if k in used})
    for name in sorted(set(given) - used):
        draft.refuse(f"{option}.{name}", given[name], "positions in degrees and one label are read of such a catalogue")


_CROSSMATCH = Refuse("no job asks the network; list a table in confirm_candidates.external_catalogs", harmless=(False,))
SIFTER = {
    "simple": {
        "radius": To("sift_candidates.match_radius_arcmin", "arcmin", default="1 arcmin"),
        "method": Unneeded("the most significant match is matched_name, all are in table matches of results/sifted"),
        "transient_crossmatch": _counterparts,
    },
    "default": {
        "min_match_radius": To("sift_candidates.match_radius_arcmin", "arcmin", default="1.5 arcmin"),
        "cuts": _cuts,
        "transient_crossmatch": _counterparts,
        "radius_1Jy": To("sift_candidates.bright_radius_arcmin_1jy", "arcmin"),
        "crossmatch_with_gaia": _CROSSMATCH,
        "crossmatch_with_million_quasar": _CROSSMATCH,
        "crossmatch_sso_trajectories": Unneeded("moving objects are matched at the time of the pixel"),
        "sso_crossmatch_radius": To("sift_candidates.moving_radius_arcmin", "arcmin"),
        "sso_crossmatch_cadence": _TIMES,
        "debug": Unneeded("log_level: DEBUG"),
    },
}

MATCHER = {
    "empty": {},
    "multi_array": {
        "radius": To("confirm_candidates.associate_radius_arcmin", "arcmin", default="1.5 arcmin"),
        "min_arrays": To("confirm_candidates.min_arrays", kind=int, default=2),
        "high_sig": To("confirm_candidates.detect_snr", default=5.0),
        "low_sig": To("confirm_candidates.confirm_snr", default=3.0),
        "summary_directory": Unneeded("table candidates of results/catalogs/catalog.h5 and results/exports"),
    },
}
_ANY_NOISE = {"confirm_candidates.p_false_night_max": 1.0}  # the original asks for no joint significance
MATCHER_KEYS = {"empty": {"confirm_candidates.min_arrays": 1} | _ANY_NOISE, "multi_array": _ANY_NOISE}
