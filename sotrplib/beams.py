"""Bands and beams of instruments.

An instrument file (``config/instruments.yaml``) names the bands, arrays and site of every instrument; a beam
is its radial profile B(r) with B(0) = 1, from a file or a Gaussian. A point source of flux F [mJy]
is F * B(r) / Omega [mJy/sr] on the sky, with Omega the solid angle, and has the transform F * B_l with B_0 = 1.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sotrplib.interpolation import cubic_spline
from sotrplib.units import ARCMIN

_MERGE_RELATIVE = 1e-3  # radii closer than this fraction are one sample
_MERGE_ARCMIN = 1e-3
_WING = 4.0  # width of the wing that makes up for a missing solid angle, in FWHM
_STEPS_PER_FWHM = 60
_AT_ONCE = 1_000_000  # values of an integrand in memory
_LITTLE = 1e-7  # what of a transform does not count for the width of its beam


class BeamError(ValueError):
    """An instrument, band or beam profile that is missing or unusable."""


@dataclass(frozen=True)
class BandInfo:
    """What one band of one array is: centre, beam and site.

    ``solid_angle_sr`` and ``profile_path`` are None where not known.
    """

    freq_ghz: float
    fwhm_arcmin: float
    profile_path: str | None = None
    solid_angle_sr: float | None = None
    latitude_deg: float = np.nan
    longitude_deg: float = np.nan
    height_m: float = np.nan


@dataclass(frozen=True)
class Beam:
    """Radial beam profile.

    Attributes
    ----------
    radius_arcmin : array (n,)
        Increasing from 0; the beam is 0 beyond the last.
    profile : array (n,)
        B(r), 1 at radius 0.
    error : array (n,) or None
        As in the file of the profile.
    """

    radius_arcmin: np.ndarray
    profile: np.ndarray
    error: np.ndarray | None = None


def load_instruments(path):
    """Read an instrument file as a dict, see the comments in ``config/instruments.yaml``.

    Raises
    ------
    BeamError
        If the file is missing, not YAML, or an instrument lacks its site or bands.
    """
    import yaml

    try:
        instruments = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BeamError(f"{path}: cannot be read as YAML ({error}); correct the `instruments` path or file") from error
    if not isinstance(instruments, dict) or not instruments:
        raise BeamError(f"{path}: expected a mapping of instrument names, found {type(instruments).__name__}")
    for name, instrument in instruments.items():
        missing = {"site", "bands", "arrays"} - set(instrument or {})
        if missing:
            raise BeamError(f"{path}: instrument {name!r} has no {', '.join(sorted(missing))}; add it")
    return instruments


def band_info(instruments, instrument, array, band, overrides=None):
    """Band, beam and site of one array.

    Parameters
    ----------
    instruments : dict
        From :func:`load_instruments`.
    instrument, array, band : str
        Names as in the map table.
    overrides : dict, optional
        The `beams` section of the configuration: band to profile file, or to FWHM in arcmin.

    Returns
    -------
    BandInfo

    Raises
    ------
    BeamError
        If a name is not known; the message lists those that are.
    """
    found = _named(instruments, instrument, "instrument")
    entry = _named(found["arrays"], array, f"array of {instrument}") or {}
    own = entry.get("bands") or {}
    own = own if isinstance(own, dict) else dict.fromkeys(own, {})
    _named(own or found["bands"], band, f"band of {instrument} {array}")
    values = {**(found["bands"].get(band) or {}), **(own.get(band) or {})}
    values = _override(values, (overrides or {}).get(band))
    where = f"instrument {instrument} {array} {band}"
    solid_angle = values.get("solid_angle_nsr")
    return BandInfo(
        freq_ghz=_positive(values, "freq_ghz", where),
        fwhm_arcmin=_positive(values, "fwhm_arcmin", where),
        profile_path=values.get("profile"),
        solid_angle_sr=None if solid_angle is None else _positive(values, "solid_angle_nsr", where) * 1e-9,
        **{key: float(found["site"][key]) for key in ("latitude_deg", "longitude_deg", "height_m")},
    )


def band_beam(band):
    """Beam of a :class:`BandInfo`: its profile file if it has one, else a Gaussian."""
    if band.profile_path:
        return read_profile(band.profile_path)
    return gaussian(band.fwhm_arcmin, band.solid_angle_sr)


def band_solid_angle_sr(band):
    """Solid angle of the beam of a :class:`BandInfo`, as given or of its profile."""
    return band.solid_angle_sr or solid_angle_sr(band_beam(band))


def read_profile(path):
    """Read a beam profile file: columns radius [arcsec], B(r), and optionally its error and a count.

    Radii are sorted, radii nearer than one part in a thousand (profiles joined from several maps hold such
    near-duplicates) are averaged, and the profile is divided by its value at radius 0, which is extrapolated
    as a parabola if the file does not start there.

    Raises
    ------
    BeamError
        If the file is missing, no table of numbers, has fewer than 3 radii, a negative radius, a value that is
        not finite, or a peak that is not positive and the largest.
    """
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise BeamError(f"{path}: cannot be read as a beam profile ({error})") from error
    if table.shape[1] < 2 or not np.all(np.isfinite(table[:, :2])) or np.any(table[:, 0] < 0):
        raise BeamError(f"{path}: expected two or more columns, radius [arcsec] >= 0 and B(r), all finite")
    merged = _merge_radii(table[:, :3])
    if len(merged) < 3:
        raise BeamError(f"{path}: holds {len(merged)} distinct radii; expected at least 3")
    radius, profile = merged[:, 0] / 60, merged[:, 1]
    error = merged[:, 2] if merged.shape[1] > 2 else None
    peak = _value_at_zero(radius, profile)
    if not peak > 0 or profile.max() > 1.05 * peak:
        raise BeamError(f"{path}: B(0) is {peak:.4g} and the largest B is {profile.max():.4g}; expected the peak at 0")
    if radius[0] > 0:
        radius, profile = np.append(0.0, radius), np.append(peak, profile)
        error = None if error is None else np.append(error[0], error)
    return Beam(radius, profile / peak, None if error is None else error / peak)


def gaussian(fwhm_arcmin, target_sr=None):
    """Gaussian beam.

    Parameters
    ----------
    fwhm_arcmin : float
        Full width at half maximum.
    target_sr : float, optional
        Measured solid angle. What it exceeds that of the Gaussian by is put in a wing four times as wide.

    Raises
    ------
    BeamError
        If the width is not positive, or the solid angle is more than 2 % below that of the Gaussian.
    """
    if not fwhm_arcmin > 0:
        raise BeamError(f"beam of FWHM {fwhm_arcmin} arcmin; expected a positive width")
    core = 2 * np.pi * (fwhm_arcmin * ARCMIN) ** 2 / (8 * np.log(2))
    excess = 0.0 if target_sr is None else target_sr / core - 1
    if excess < -0.02:
        raise BeamError(
            f"solid angle {target_sr * 1e9:.4g} nsr is below the {core * 1e9:.4g} nsr of a Gaussian of FWHM "
            f"{fwhm_arcmin} arcmin; correct solid_angle_nsr or fwhm_arcmin, or give a profile"
        )
    wing = max(excess, 0.0) / (_WING**2 - 1)
    extent = 2.6 * (_WING if wing else 1.0)
    radius = np.arange(0, extent * _STEPS_PER_FWHM + 1) / _STEPS_PER_FWHM
    profile = (1 - wing) * _half_power(radius) + wing * _half_power(radius / _WING)
    return Beam(radius * fwhm_arcmin, profile)


def profile_at(beam, radius_arcmin):
    """B at any radius (array of any shape): a smooth cubic through the profile, 0 beyond its end."""
    radius = np.abs(np.asarray(radius_arcmin, float))
    spline = cubic_spline(beam.radius_arcmin, beam.profile, level_start=True)
    return np.where(radius <= beam.radius_arcmin[-1], spline(radius), 0.0)


def beam_transform(beam, ell):
    """Transform of a beam, normalised at ell = 0.

    Parameters
    ----------
    beam : Beam
    ell : array, any shape
        Multipoles >= 0.

    Returns
    -------
    array, shape of ``ell``
        B_l = 2 pi / Omega * integral B(r) J0(l r) r dr (flat sky), B_0 = 1.
    """
    ell = np.asarray(ell, float)
    end, width = (radius * ARCMIN for radius in (beam.radius_arcmin[-1], _half_width_arcmin(beam)))
    values = _transform(lambda radius: profile_at(beam, radius / ARCMIN), end, width, np.append(0.0, ell))
    return (values[1:] / values[0]).reshape(ell.shape)


def solid_angle_sr(beam):
    """Solid angle of a beam: 2 pi integral B(r) r dr, in sr, by Simpson's rule."""
    end = beam.radius_arcmin[-1]
    part, weight = _simpson(max(_STEPS_PER_FWHM * end / (2 * _half_width_arcmin(beam)), 400))
    return float(2 * np.pi * (end * ARCMIN) ** 2 * np.sum(weight * part * profile_at(beam, part * end)))


def beam_fwhm_arcmin(beam):
    """Full width at half maximum of a beam."""
    radius = np.linspace(0, beam.radius_arcmin[-1], 20001)
    profile = profile_at(beam, radius[:-1])
    outer = int(np.argmax(profile < 0.5))
    if not outer:
        raise BeamError("the beam profile never falls below half its peak; extend it")
    pair = slice(outer - 1, outer + 1)
    return float(2 * np.interp(-0.5, -profile[pair], radius[:-1][pair]))


def transform_fwhm_rad(ell, b_ell):
    """Full width at half maximum, in radians, of the beam whose transform is ``b_ell`` (n,) at ``ell`` (n,)."""
    ell, b_ell = np.asarray(ell, float), np.asarray(b_ell, float)
    guess = np.sqrt(8 * np.log(2) / np.trapezoid(ell * b_ell, ell))  # of a Gaussian
    radius = np.linspace(0, guess, 201)
    last = int(np.flatnonzero(np.abs(b_ell) > _LITTLE)[-1])
    profile = _transform(cubic_spline(ell, b_ell, level_start=True), ell[last], 1 / guess, radius)
    outer = int(np.argmax(profile < profile[0] / 2))
    if not outer:
        raise BeamError("the beam does not fall to half its peak; extend its transform to larger ell")
    pair = slice(outer - 1, outer + 1)
    return float(2 * np.interp(-profile[0] / 2, -profile[pair], radius[pair]))


def _half_power(radius_fwhm):
    return np.exp(-4 * np.log(2) * radius_fwhm**2)


def _half_width_arcmin(beam):
    """Radius at which the profile as tabulated falls to a half."""
    return np.interp(-0.5, -np.minimum.accumulate(beam.profile), beam.radius_arcmin)


def _transform(radial, end, width, at):
    """Fourier transform in two dimensions at ``at`` (n,) of a function of the radius, of a width, 0 beyond ``end``.

    By the slice through its centre, which is the transform of the function seen from the side. Along the slice at
    ``end`` sin(theta), whose equal steps converge fast once they follow the cosine (a quarter of one a radian
    of phase) and the width; along the line of sight by Simpson's rule.
    """
    n_steps = int(0.3 * np.max(at) * end + 4 * end / width) + 50
    theta = np.linspace(0, np.pi / 2, n_steps + 1)
    place, chord = end * np.sin(theta), end * np.cos(theta)
    depth, weight = _simpson(_STEPS_PER_FWHM * end / (2 * width))
    pieces = np.array_split(np.arange(place.size), 1 + place.size * depth.size // _AT_ONCE)
    seen = [radial(np.hypot(place[k, None], chord[k, None] * depth)) @ weight for k in pieces]
    seen = np.concatenate(seen) * chord**2 * (2 * np.pi / n_steps)
    seen[[0, -1]] /= 2
    pieces = np.array_split(at.ravel(), 1 + at.size * place.size // _AT_ONCE)
    return np.concatenate([np.cos(np.outer(piece, place)) @ seen for piece in pieces])


def _simpson(n_steps):
    """Places from 0 to 1 in at least ``n_steps`` steps, and their weights in Simpson's rule."""
    half = int(np.ceil(n_steps / 2))
    weight = np.full(2 * half + 1, 2 / (6 * half))
    weight[1::2] *= 2
    weight[[0, -1]] /= 2
    return np.linspace(0, 1, 2 * half + 1), weight


def _named(mapping, name, what):
    if name not in mapping:
        raise BeamError(f"{what} {name!r} is not known; expected one of {', '.join(map(str, mapping))}")
    return mapping[name]


def _positive(values, key, where):
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < np.inf:
        raise BeamError(f"{where}: {key} is {value!r}; expected a positive number")
    return float(value)


def _override(values, beam):
    if beam is None:
        return values
    plain = {key: value for key, value in values.items() if key not in ("profile", "solid_angle_nsr")}
    return {**plain, "profile": beam} if isinstance(beam, str) else {**plain, "fwhm_arcmin": beam}


def _merge_radii(table):
    table = table[np.argsort(table[:, 0], kind="stable")]
    starts, anchor = [0], table[0, 0]
    for row, radius in enumerate(table[:, 0]):
        if radius - anchor > max(_MERGE_RELATIVE * radius, _MERGE_ARCMIN * 60):
            starts.append(row)
            anchor = radius
    counts = np.diff([*starts, len(table)])
    return np.add.reduceat(table, starts, axis=0) / counts[:, None]


def _value_at_zero(radius, profile):
    if radius[0] == 0:
        return profile[0]
    slope = (profile[1] - profile[0]) / (radius[1] ** 2 - radius[0] ** 2)
    return profile[0] - slope * radius[0] ** 2
