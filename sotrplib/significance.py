"""How sure is an event? All maps of an observation in one likelihood, and how often noise alone gives as much."""

import numpy as np

_FWHM_SIGMA = 2 * np.sqrt(2 * np.log(2))
_DAY_S = 86400.0


def spectra(ratio, indices):
    """Flux at ``ratio`` (n,) times a frequency, over the flux there, for each spectral index: (n_indices, n)."""
    return np.asarray(ratio, float)[None] ** np.asarray(indices, float)[:, None]


def combine(rows, group, n_groups, indices):
    """Joint flux of simultaneous measurements for power-law spectra, against a constant flux known beforehand.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns excess (flux minus the flux it is compared with, mJy), flux_err_mjy, base_err (error of the flux it is
        compared with, one for all rows of a group: it does not average out) and ratio (frequency over that at which
        the joint flux is wanted).
    group : array of int, shape (n,)
        Group of each row, 0 to ``n_groups`` - 1.
    n_groups : int
    indices : sequence of float
        Spectral indices to try.

    Returns
    -------
    flux, err, snr : array, shape (n_indices, n_groups)
        Best joint excess at ratio 1, its error, and their quotient: the square root of twice the gain in ln L over no
        excess, with its sign. The covariance is that of independent errors and one shared error,
        C = diag(err^2) + b b^T; its inverse is Sherman and Morrison's. NaN for a group without rows.
    """
    weight, base = rows["flux_err_mjy"].to_numpy() ** -2.0, rows["base_err"].to_numpy()
    excess, spectrum = rows["excess"].to_numpy(), spectra(rows["ratio"], indices)

    def total(*factors):
        return np.array([np.bincount(group, v, minlength=n_groups) for v in np.atleast_2d(np.multiply(*factors))])

    shared = 1 + total(weight * base, base)
    along = total(spectrum, weight * base)
    signal = total(spectrum, weight * excess) - along * total(weight * base, excess) / shared
    power = total(spectrum, weight * spectrum) - along**2 / shared
    with np.errstate(invalid="ignore", divide="ignore"):
        return signal / power, power**-0.5, signal / np.sqrt(power)


def peaks_per_deg2(snr, fwhm_arcmin):
    """Maxima of Gaussian noise above a significance, in a map filtered for a beam.

    Parameters
    ----------
    snr : array, shape (n,)
    fwhm_arcmin : array, shape (n,)
        Of the beam. A source in the filtered map is taken for the beam convolved with itself; measured templates
        are 3 % narrower.

    Returns
    -------
    array, shape (n,)
        ``sqrt(det M) u exp(-u^2 / 2) / (2 pi)^1.5`` (Adler 1981), M the curvature of the template at its top; an
        upper limit below a significance of about 2.
    """
    sigma_deg = np.asarray(fwhm_arcmin) / 60 / _FWHM_SIGMA
    u = np.asarray(snr, float)
    return u * np.exp(-(u**2) / 2) / (2 * sigma_deg**2) / (2 * np.pi) ** 1.5


def areas_deg2(time_unix_s, maps):
    """Sky searched around each event's time, and in all: the trials that its significance has to be held against.

    Parameters
    ----------
    time_unix_s : array, shape (n,)
        Of the events.
    maps : pandas.DataFrame
        Columns array, time_unix_s, area_deg2.

    Returns
    -------
    night : array, shape (n,)
        Sum of the areas of all maps within 12 hours; maps of one array and time (its bands) count once, arrays that
        watch the same sky each, so that it is rather too large.
    survey : float
        The same sum over all maps.
    """
    footprints = maps.groupby(["array", "time_unix_s"], as_index=False)["area_deg2"].max().sort_values("time_unix_s")
    times, total = footprints["time_unix_s"].to_numpy(), np.append(0, np.cumsum(footprints["area_deg2"].to_numpy()))
    first, last = (np.searchsorted(times, np.asarray(time_unix_s) + step) for step in (-_DAY_S / 2, _DAY_S / 2))
    return total[last] - total[first], float(total[-1])


def false_alarm_probability(snr, fwhm_arcmin, area_deg2, n_trials):
    """Probability that noise alone has a peak this significant somewhere in an area.

    Parameters
    ----------
    snr, fwhm_arcmin, area_deg2 : array, shape (n,)
    n_trials : array, shape (n,)
        Spectra tried: each counts as a search of its own, which is rather too many.

    Returns
    -------
    array, shape (n,)
        ``1 - exp(-N)`` with N the expected number; NaN where the significance is.
    """
    above = np.maximum(snr, 1.0)  # where the density of peaks is largest; NaN stays
    return -np.expm1(-peaks_per_deg2(above, fwhm_arcmin) * np.multiply(area_deg2, n_trials))
