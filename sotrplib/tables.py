"""Columns, flag bits and mask bits: each declared once, here.

A table is a pandas DataFrame whose columns are those of one schema below, in that order and of that
type. Units and descriptions live in the schema and are written beside the numbers by
:mod:`sotrplib.store`. ``VERSION`` is written in every file and changes with any column or bit.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

VERSION = 7


@dataclass(frozen=True)
class Column:
    """One column: name, numpy type ("str" for text), unit and one sentence."""

    name: str
    dtype: str
    unit: str
    description: str


def _columns(*texts):
    """Parse the schema notation below: ``name | dtype | unit | sentence`` a line."""
    lines = "\n".join(texts).split("\n")
    rows = [[part.strip() for part in line.split("|")] for line in lines if line.strip()]
    return tuple(Column(*row) for row in rows)


_POSITION_ERRORS = """
ra_err_arcsec | f8 | arcsec | one-sigma error of the position along RA (times cos dec)
dec_err_arcsec | f8 | arcsec | one-sigma error of the position along Dec
"""

_FLUX = """
flux_mjy | f8 | mJy | flux; NaN where it could not be measured (see flags)
flux_err_mjy | f8 | mJy | one-sigma error of the flux
snr | f8 | 1 | flux over its error
time_unix_s | f8 | s | UTC of the observation of this position, unix seconds; NaN where the map has no time
"""

_DETECTION = (
    """
ra_deg | f8 | deg | right ascension, pointing model applied, 0 to 360
dec_deg | f8 | deg | declination, pointing model applied
""",
    _POSITION_ERRORS,
    _FLUX,
    """
snr_peak | f8 | 1 | maximum of rho/sqrt(kappa) before removing the bias of maximising over two coordinates
template_chi2 | f8 | 1 | reduced chi-square of the peak's neighbourhood against the expected template
fwhm_ratio | f8 | 1 | width of the peak over that of the template, geometric mean of both axes
elongation | f8 | 1 | longer over shorter axis after scaling by the template; 1 for a point source
n_pixels | i4 | 1 | connected pixels above half the peak
island_fwhm_ratio | f8 | 1 | width of these pixels by their second moments (photutils), over that of the template's
island_elongation | f8 | 1 | elongation of these pixels by their second moments (photutils), scaled by the template's
edge_distance_arcmin | f8 | arcmin | distance to the nearest unobserved or masked pixel
flags | u4 | 1 | quality bits, see tables.FLAGS
""",
)

_MEASUREMENT = """
map_id | str | 1 | map the measurement was made in
source_id | str | 1 | catalogue source, moving object, or candidate_id
source_name | str | 1 | name of the source
kind | str | 1 | forced (catalogue position), blind (found in this map), confirm (candidate) or moving (where it was)
time_unix_s | f8 | s | UTC of the observation of this position, unix seconds
array | str | 1 | detector array
band | str | 1 | frequency band
freq_ghz | f8 | GHz | centre of the band, of this array
ra_deg | f8 | deg | position measured at
dec_deg | f8 | deg | position measured at
flux_mjy | f8 | mJy | flux; NaN where it could not be measured (see flags)
flux_err_mjy | f8 | mJy | one-sigma error of the flux
snr | f8 | 1 | flux over its error
ra_offset_arcsec | f8 | arcsec | fitted minus expected position along RA (times cos dec)
dec_offset_arcsec | f8 | arcsec | fitted minus expected position along Dec
catalog_flux_mjy | f8 | mJy | catalogue flux in this band; NaN for a source that is not in the catalogue
catalog_flux_err_mjy | f8 | mJy | its error
flags | u4 | 1 | quality bits, see tables.FLAGS
"""

_SIFT = """
class | str | 1 | known, flare, transient, moving or noise
reason | str | 1 | why it was given its class
matched_name | str | 1 | catalogue source or moving object at this position, else empty
matched_sep_arcsec | f8 | arcsec | distance to the match; NaN without one
catalog_flux_mjy | f8 | mJy | flux of the match in the catalogue, in this band; NaN without one
"""

SCHEMAS = {
    "catalog": _columns("""
source_id | str | 1 | unique name of the source
source_name | str | 1 | name in the input catalogue
ra_deg | f8 | deg | right ascension, 0 to 360
dec_deg | f8 | deg | declination
flux_mjy | f8 | mJy | catalogue flux at the catalogue's frequency
flux_err_mjy | f8 | mJy | its error; NaN if not given
spectral_index | f8 | 1 | alpha of flux ~ frequency**alpha; NaN if not given
pos_err_arcsec | f8 | arcsec | one-sigma error of the position per coordinate
"""),
    "moving": _columns("""
name | str | 1 | name of the moving object
time_unix_s | f8 | s | UTC the position holds for, unix seconds
ra_deg | f8 | deg | right ascension, 0 to 360
dec_deg | f8 | deg | declination
ra_rate_arcsec_h | f8 | arcsec/h | motion along RA (times cos dec)
dec_rate_arcsec_h | f8 | arcsec/h | motion along Dec
pos_err_arcsec | f8 | arcsec | error of the predicted position
radius_arcmin | f8 | arcmin | disc to mask around it; 0 for a point source
kind | str | 1 | planet, asteroid or table
"""),
    "noise_spectra": _columns("""
zone | i4 | 1 | zone of declination, from the first row of the map
row_first | i4 | 1 | first row of the zone in the map as it was filtered
row_stop | i4 | 1 | row after its last
ell | f8 | 1 | multipole
measured | f8 | 1 | power of the map without its sources over that of white noise as stated; NaN where not measured
model | f8 | 1 | what the filter took it for, mean over directions
model_min | f8 | 1 | the same in the direction of least power
model_max | f8 | 1 | the same in the direction of most power
"""),
    "pointing_sources": _columns("""
source_id | str | 1 | unique name of the source
ra_deg | f8 | deg | catalogue right ascension
dec_deg | f8 | deg | catalogue declination
snr | f8 | 1 | significance in this map
ra_offset_arcsec | f8 | arcsec | measured minus catalogue along RA (times cos dec)
dec_offset_arcsec | f8 | arcsec | measured minus catalogue along Dec
ra_offset_err_arcsec | f8 | arcsec | its error
dec_offset_err_arcsec | f8 | arcsec | its error
used | bool | 1 | kept by the sigma clipping
"""),
    "forced": _columns(
        """
source_id | str | 1 | unique name of the source
source_name | str | 1 | name in the input catalogue
ra_deg | f8 | deg | catalogue right ascension (never moved by the pointing model)
dec_deg | f8 | deg | catalogue declination
""",
        _FLUX,
        """
ra_offset_arcsec | f8 | arcsec | fitted minus expected position along RA (times cos dec); NaN if too faint
dec_offset_arcsec | f8 | arcsec | the same along Dec
ra_offset_err_arcsec | f8 | arcsec | error of the offset
dec_offset_err_arcsec | f8 | arcsec | error of the offset
catalog_flux_mjy | f8 | mJy | catalogue flux in this band
catalog_flux_err_mjy | f8 | mJy | its error
n_blend | i4 | 1 | sources solved together with this one, itself included
edge_distance_arcmin | f8 | arcmin | distance to the nearest unobserved or masked pixel
flags | u4 | 1 | quality bits, see tables.FLAGS
""",
    ),
    "detections": _columns("detection_id | i4 | 1 | number within the map, brightest first", *_DETECTION),
    "sifted": _columns(
        "detection_id | i4 | 1 | number within the map; -1 for a catalogue source found flaring by forced photometry",
        "origin | str | 1 | blind or forced",
        *_DETECTION,
        _SIFT,
    ),
    "matches": _columns("""
detection_id | i4 | 1 | detection of the table sifted
source_id | str | 1 | a catalogue source that it may be, the most significant match first
source_name | str | 1 | name of the source
sep_arcsec | f8 | arcsec | distance to it
sep_sigma | f8 | 1 | that distance over the joint error of both positions and of the pointing
catalog_flux_mjy | f8 | mJy | its catalogue flux in this band
"""),
    "measurements": _columns(
        _MEASUREMENT,
    ),
    "lightcurves": _columns(
        _MEASUREMENT,
        """
upper_limit_mjy | f8 | mJy | where not detected, the flux that the source does not exceed (95 % confidence); else NaN
""",
    ),
    "sources": _columns("""
source_id | str | 1 | unique name of the source, or moving object (with its first position), or candidate_id
source_name | str | 1 | name of the source
ra_deg | f8 | deg | right ascension, 0 to 360
dec_deg | f8 | deg | declination
n_measurements | i4 | 1 | finite flux measurements over all bands
spectral_index | f8 | 1 | alpha of flux ~ frequency**alpha from bands observed together; NaN without such
spectral_index_err | f8 | 1 | its error, that of the calibration included
n_simultaneous | i4 | 1 | observations with two bands or more
"""),
    "compared": _columns("""
catalog_flux_mjy | f8 | mJy | catalogue flux in the band of the map
flux_mjy | f8 | mJy | forced flux
flux_err_mjy | f8 | mJy | its error
"""),
    "source_bands": _columns("""
source_id | str | 1 | unique name of the source
band | str | 1 | frequency band
n_measurements | i4 | 1 | finite flux measurements in this band
mean_flux_mjy | f8 | mJy | inverse-variance weighted mean flux
mean_flux_err_mjy | f8 | mJy | error of the weighted mean
scatter_mjy | f8 | mJy | sample standard deviation of the flux; NaN below two measurements
eta | f8 | 1 | reduced chi-square against constant flux (TraP)
v | f8 | 1 | sample standard deviation over mean (TraP)
p_constant | f8 | 1 | probability of so large a chi-square for a constant source
median_flux_mjy | f8 | mJy | median flux
peak_to_median | f8 | 1 | largest flux over the median; NaN for a median that is not positive
f_var | f8 | 1 | intrinsic scatter over mean, measurement errors taken out; 0 where they explain all
f_var_err | f8 | 1 | its error from measurement noise
vs | f8 | 1 | change between the two epochs that differ most significantly, over its error (VAST)
m | f8 | 1 | that change over the mean of the two fluxes (VAST)
flare_sigma | f8 | 1 | largest excess of one flux over the catalogue flux, in sigma of both errors; NaN without one
"""),
    "candidates": _columns(
        """
candidate_id | str | 1 | SOTRP_Jhhmmss.s-ddmmss of the position
ra_deg | f8 | deg | weighted mean right ascension
dec_deg | f8 | deg | weighted mean declination
""",
        _POSITION_ERRORS,
        """
class | str | 1 | transient, flare, new_source, moving or artefact
reason | str | 1 | the evidence in words
confirmed | bool | 1 | whether the stated rule of confirmation is met
time_unix_s | f8 | s | UTC of the most significant detection, unix seconds
max_snr | f8 | 1 | largest SNR of a single detection
combined_snr | f8 | 1 | joint SNR of all maps of the observation of max_snr, detections or not, over the catalogue flux
p_false_night | f8 | 1 | probability that noise alone is as significant somewhere in the sky searched within 12 hours
p_false_survey | f8 | 1 | the same for the sky of all maps
n_maps | i4 | 1 | maps in which it is seen at the confirming threshold or above
n_arrays | i4 | 1 | distinct arrays among them
n_bands | i4 | 1 | distinct bands among them
n_covering | i4 | 1 | maps that cover the position
n_arrays_for | i4 | 1 | arrays that see it in the observation of max_snr: its independent witnesses
n_arrays_against | i4 | 1 | arrays that should see it there and do not
flux_mjy | f8 | mJy | flux of the most significant detection
flux_err_mjy | f8 | mJy | its error
band | str | 1 | band of the most significant detection
map_id | str | 1 | map of the most significant detection
found_by | str | 1 | map, joint, coadd or difference; but for map, time to map_id are those of the map that sees it best
matched_name | str | 1 | catalogue source or moving object at this position, else empty
external_name | str | 1 | counterpart in the catalogues from elsewhere, else empty
external_catalog | str | 1 | name of the catalogue it is in, else empty
external_sep_arcsec | f8 | arcsec | distance to it; NaN without one
external_p_chance | f8 | 1 | probability of an unrelated source of that catalogue so close; NaN without one
external_type | str | 1 | type of the sources of that catalogue, else empty
external_score | f8 | 1 | probability that it is no chance match, given its distance and type; NaN without one
""",
    ),
    "counterparts": _columns("""
candidate_id | str | 1 | candidate
external_name | str | 1 | a source of a catalogue from elsewhere that may be its counterpart
external_catalog | str | 1 | name of the catalogue it is in
external_type | str | 1 | type of the sources of that catalogue
external_sep_arcsec | f8 | arcsec | distance to it
external_p_chance | f8 | 1 | probability of an unrelated source of that catalogue so close
external_score | f8 | 1 | probability that it is no chance match, given its distance and type
"""),
    "maps": _columns("""
map_id | str | 1 | unique id of the map
instrument | str | 1 | instrument
array | str | 1 | detector array
band | str | 1 | frequency band
freq_ghz | f8 | GHz | centre of the band, of this array
status | str | 1 | ok or failed
reason | str | 1 | why it failed, else empty
time_unix_s | f8 | s | reference time of the map
area_deg2 | f8 | deg2 | area with data and not masked
flux_err_mjy | f8 | mJy | median flux error over that area
snr_std | f8 | 1 | robust standard deviation of the SNR map after flat-fielding
ra_offset_arcsec | f8 | arcsec | pointing offset at the centre of the map, measured minus catalogue, along RA
dec_offset_arcsec | f8 | arcsec | the same along Dec
n_pointing | i4 | 1 | sources in the pointing fit; 0 where the identity was used
n_forced | i4 | 1 | catalogue sources measured
n_detections | i4 | 1 | blind detections
n_candidates | i4 | 1 | detections that were not known, moving or noise
"""),
    "sifted_jointly": _columns(
        "detection_id | i4 | 1 | number within the observation; -1 for a catalogue source found flaring",
        "origin | str | 1 | blind or forced",
        *_DETECTION,
        _SIFT,
        "spectral_index | f8 | 1 | alpha of flux ~ frequency**alpha of the sum of maps that it is most significant in",
    ),
    "stacks": _columns("""
name | str | 1 | name of the position; (all) for the stack of all of them
band | str | 1 | frequency band
ra_deg | f8 | deg | right ascension; NaN for all positions
dec_deg | f8 | deg | declination; NaN for all positions
n_maps | i4 | 1 | maps that measured it
n_measurements | i4 | 1 | fluxes that were averaged
flux_mjy | f8 | mJy | weighted mean flux
flux_err_mjy | f8 | mJy | its error, that of the sky which all maps share included
snr | f8 | 1 | flux over its error
sky_err_mjy | f8 | mJy | rms of the sky that the maps share, in one filtered map; NaN if not measured
p_constant | f8 | 1 | probability of so large a chi-square for one flux; NaN for a single one
time_first_unix_s | f8 | s | UTC of the first of them, unix seconds
time_last_unix_s | f8 | s | UTC of the last
"""),
    "stack_measurements": _columns(
        """
name | str | 1 | name of the position
map_id | str | 1 | map the measurement was made in
array | str | 1 | detector array
band | str | 1 | frequency band
ra_deg | f8 | deg | position measured at
dec_deg | f8 | deg | position measured at
""",
        _FLUX,
        "flags | u4 | 1 | quality bits, see tables.FLAGS",
    ),
    "coadd_members": _columns("""
map_id | str | 1 | map of the group
freq_ghz | f8 | GHz | its band centre; NaN if it failed
n_pixels | i4 | 1 | pixels of the coadd that it observed
weight | f8 | mJy-2 | sum of its kappa over these, with the factor of its band; its share in the coadd
reason | str | 1 | why it is not in the coadd, else empty
"""),
    "truth": _columns("""
name | str | 1 | name of the simulated object; its name in the catalogue if it is there
class | str | 1 | known, variable (known, with a flare), transient, new_source, artefact or moving
ra_deg | f8 | deg | right ascension, 0 to 360; of a moving object at time_unix_s
dec_deg | f8 | deg | declination; of a moving object at time_unix_s
flux_mjy | f8 | mJy | steady flux at freq_ghz
peak_mjy | f8 | mJy | flux at freq_ghz that a flare adds at its peak
freq_ghz | f8 | GHz | frequency the fluxes are given at
spectral_index | f8 | 1 | alpha of flux ~ frequency**alpha
time_unix_s | f8 | s | UTC of the peak, unix seconds
rise_s | f8 | s | e-folding time of the flare before its peak
decay_s | f8 | s | e-folding time of the flare after its peak
ra_rate_arcsec_h | f8 | arcsec/h | motion along RA (times cos dec)
dec_rate_arcsec_h | f8 | arcsec/h | motion along Dec
in_catalog | bool | 1 | whether it is in the catalogue of known sources
array | str | 1 | the only detector array that sees it; empty for all
band | str | 1 | the only band it is seen in; empty for all
shape | str | 1 | point (seen through the beam), pixel (one pixel) or trail (a line of pixels along the scan)
"""),
    "injections": _columns("""
injection_id | i4 | 1 | number within the map
realisation | i4 | 1 | copy of the map it was injected into
level | f8 | 1 | flux level as configured: an SNR, or a flux in mJy
ra_deg | f8 | deg | true right ascension, 0 to 360; the pointing model moves it in the map
dec_deg | f8 | deg | true declination
true_flux_mjy | f8 | mJy | flux injected
true_snr | f8 | 1 | flux injected over the flux error here of the map without injections
forced_flux_mjy | f8 | mJy | flux by forced photometry at the true position; NaN where it could not be measured
forced_flux_err_mjy | f8 | mJy | its error
forced_pull | f8 | 1 | forced minus true flux over the error
forced_flags | u4 | 1 | quality bits of the forced flux, see tables.FLAGS
found | bool | 1 | whether the blind search has found it; if not, the columns below are NaN and 0
detected_flux_mjy | f8 | mJy | flux of the detection
detected_flux_err_mjy | f8 | mJy | its error
detected_snr | f8 | 1 | its SNR
detected_pull | f8 | 1 | detected minus true flux over the error
ra_offset_arcsec | f8 | arcsec | detected minus true position along RA (times cos dec)
dec_offset_arcsec | f8 | arcsec | the same along Dec
ra_pull | f8 | 1 | offset along RA over its error
dec_pull | f8 | 1 | offset along Dec over its error
detected_flags | u4 | 1 | quality bits of the detection
"""),
    "recovery": _columns("""
level | f8 | 1 | flux level as configured: an SNR, or a flux in mJy
level_unit | str | 1 | snr or mjy
n_injected | i4 | 1 | sources injected
n_found | i4 | 1 | of these, found by the blind search
true_snr | f8 | 1 | mean true SNR
completeness | f8 | 1 | n_found over n_injected
completeness_err | f8 | 1 | its binomial error: standard deviation of Beta(n_found + 1, n_missed + 1)
completeness_theory | f8 | 1 | completeness at these SNR in Gaussian noise
completeness_forced | f8 | 1 | completeness expected with the noise known at each source, from the forced fluxes
forced_bias | f8 | 1 | forced over true flux minus 1, weighted mean; NaN at zero flux
forced_bias_err | f8 | 1 | its error
forced_pull_mean | f8 | 1 | mean pull of the forced fluxes
forced_pull_sd | f8 | 1 | standard deviation of the pull of the forced fluxes
detected_bias | f8 | 1 | detected over true flux minus 1, weighted mean of those found
detected_bias_err | f8 | 1 | its error
detected_bias_theory | f8 | 1 | the same for sources of these SNR that Gaussian noise has lifted above the threshold
detected_pull_mean | f8 | 1 | mean pull of the detected fluxes
detected_pull_sd | f8 | 1 | standard deviation of the pull of the detected fluxes
position_rms_arcsec | f8 | arcsec | rms distance of detections from the truth, per coordinate
position_err_arcsec | f8 | arcsec | rms of the errors stated, per coordinate
position_pull_sd | f8 | 1 | rms pull of both coordinates
"""),
    "false_alarms": _columns("""
snr_min | f8 | 1 | threshold of the search
n_detections | i4 | 1 | detections in the map, known sources taken out
n_negative | i4 | 1 | detections in the negative of the map, known sources and detections taken out
n_expected | f8 | 1 | false alarms expected of Gaussian noise
purity | f8 | 1 | part of the detections that the negative map does not explain, at least 0; NaN without detections
purity_err | f8 | 1 | its Poisson error
"""),
}

FLAGS = {
    "NO_DATA": (0, "the map has no data at this position; the numbers are NaN"),
    "MASKED": (1, "the position lies under the galaxy, planet or edge mask"),
    "NEAR_EDGE": (2, "closer to the edge of the observed area than the stated distance"),
    "NEAR_HOLE": (3, "an unobserved hole lies within one template width"),
    "BLENDED": (4, "solved together with neighbours"),
    "POINTING_IDENTITY": (5, "too few bright sources: no pointing correction was applied"),
    "NO_OFFSET": (6, "too faint for a position, or the position fit did not converge"),
    "OFFSET_LARGE": (7, "fitted position differs from the expected one by more than 5 sigma"),
    "NEAR_BRIGHT": (8, "the wings of a much brighter source reach this position"),
    "FLUX_CHANGED": (9, "flux differs from the catalogue by more than the stated significance"),
    "BAD_SHAPE": (10, "the neighbourhood does not look like the template"),
    "EXTENDED": (11, "wider than a point source"),
    "NO_TIME": (12, "the map has no observation time at this position"),
}

MASK_BITS = {
    "UNOBSERVED": 1,
    "EDGE": 2,
    "GALAXY": 4,
    "PLANET": 8,
    "BRIGHT": 16,
    "USER": 32,
}


def flag(*names):
    """Bits of the named flags as one integer."""
    return int(sum(1 << FLAGS[name][0] for name in set(names)))


def flag_names(bits):
    """Names of the flags set in the integer ``bits``, in order of their bit."""
    return [name for name, (bit, _) in FLAGS.items() if int(bits) >> bit & 1]


def column_names(schema):
    """Names of the columns of a schema, in order."""
    return [column.name for column in SCHEMAS[schema]]


def make(schema, columns):
    """Make a table of the named schema.

    Parameters
    ----------
    schema : str
        A key of ``SCHEMAS``.
    columns : mapping of str to array
        One array a column, all of one length; scalars are repeated. A DataFrame serves as well.

    Returns
    -------
    pandas.DataFrame
        With exactly the schema's columns, in its order and types, and a fresh integer index.

    Raises
    ------
    ValueError
        If a column is missing or unknown.
    """
    wanted = column_names(schema)
    missing, unknown = set(wanted) - set(columns), set(columns) - set(wanted)
    if missing or unknown:
        raise ValueError(
            f"table {schema!r}: missing columns {sorted(missing)}, unknown columns {sorted(unknown)}; "
            f"expected exactly {wanted}"
        )
    length = max((np.size(columns[name]) for name in wanted if np.ndim(columns[name])), default=0)
    arrays = {c.name: _as_column(columns[c.name], c.dtype, length) for c in SCHEMAS[schema]}
    return pd.DataFrame(arrays)


def empty(schema):
    """Table of the named schema with no rows and the right types."""
    return make(schema, {name: [] for name in column_names(schema)})


def _as_column(values, dtype, length):
    if np.ndim(values) == 0:
        values = [values] * length
    if dtype == "str":
        if getattr(values, "dtype", None) == "str" and not pd.isna(values).any():
            return pd.array(values, dtype="str")  # as it is: text by text was a fifth of a merge
        return pd.array(["" if v is None else str(v) for v in values], dtype="str")
    return np.asarray(values).astype(dtype)
