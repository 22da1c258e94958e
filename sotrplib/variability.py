"""How a source varies: the statistics of light curves that transient surveys use.

All functions work on columns of many sources at once, grouped by number, never source by source. Sums run in two
passes (mean first, then residuals), so that no precision is lost on bright, steady sources.
"""

import numpy as np

from sotrplib import tables

UNUSABLE = tables.flag("NO_DATA", "MASKED")
_NOT_AT_A_FIXED_PLACE = "blind"


def usable(measurements):
    """Which measurements count: a finite flux with a positive error, with data, outside all masks.

    Parameters
    ----------
    measurements : pandas.DataFrame
        With the columns flux_mjy, flux_err_mjy and flags.

    Returns
    -------
    array of bool, shape (n,)
    """
    flux, err = measurements["flux_mjy"].to_numpy(), measurements["flux_err_mjy"].to_numpy()
    good = np.isfinite(flux) & np.isfinite(err) & (err > 0)
    return good & ((measurements["flags"].to_numpy() & UNUSABLE) == 0)


def of_light_curves(measurements):
    """Which measurements make light curves: :func:`usable` and at a fixed (or predicted) place.

    Blind ones repeat maps already measured there, each at its own brightest point.
    """
    return usable(measurements) & (measurements["kind"] != _NOT_AT_A_FIXED_PLACE).to_numpy()


# ---- all epochs of a group --------------------------------------------------------------------------


def statistics(flux, flux_err, group, n_groups):
    """Statistics of flux measurements, a row a group.

    Parameters
    ----------
    flux, flux_err : array, shape (n,)
        Finite fluxes and their positive errors, in any one unit.
    group : array of int, shape (n,)
        Group of each measurement, 0 to ``n_groups`` - 1.
    n_groups : int
        Number of groups; a group may be empty.

    Returns
    -------
    dict of str to array, shape (n_groups,)
        ``n``; ``mean`` (inverse-variance weighted) and ``mean_err``; ``plain`` (unweighted mean); ``scatter``
        (sample standard deviation); ``v = scatter / plain`` and ``eta = sum(w (F - mean)^2) / (n - 1)`` of TraP
        (Swinbank et al. 2015, eqs. 1 and 2), which is the reduced chi-square against a constant flux; ``chi2``
        itself and ``p_constant``, the probability of one so large; ``f_var`` and ``f_var_err``, see
        :func:`fractional_variability`. NaN where ``n`` is too small to tell (0 for the means, below 2 else).
    """
    from scipy.special import chdtrc

    def total(values):
        return np.bincount(group, values, minlength=n_groups)

    variance = np.asarray(flux_err, float) ** 2
    n, sum_w = np.bincount(group, minlength=n_groups), total(1 / variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, plain = total(flux / variance) / sum_w, total(flux) / n
        dof = np.where(n > 1, n - 1, np.nan)
        chi2 = np.where(n > 1, total((flux - mean[group]) ** 2 / variance), np.nan)
        scatter = np.sqrt(total((flux - plain[group]) ** 2) / dof)
        f_var, f_var_err = fractional_variability(n, plain, scatter, total(variance) / n)
        return {
            "n": n,
            "mean": mean,
            "mean_err": np.where(n > 0, sum_w**-0.5, np.nan),
            "plain": plain,
            "scatter": scatter,
            "v": scatter / plain,
            "eta": chi2 / dof,
            "chi2": chi2,
            "p_constant": chdtrc(dof, chi2),
            "f_var": f_var,
            "f_var_err": f_var_err,
        }


def fractional_variability(n, mean, scatter, mean_square_err):
    """Intrinsic scatter over mean, what the measurement errors add taken out.

    Parameters
    ----------
    n, mean, scatter, mean_square_err : array, shape (n_groups,)
        Number of measurements, their unweighted mean and sample standard deviation, mean square of their errors.

    Returns
    -------
    f_var, f_var_err : array, shape (n_groups,)
        ``sqrt(scatter^2 - mean_square_err) / mean`` and its error from measurement noise alone (Vaughan et al. 2003,
        eqs. 10 and B2). Where the errors explain all scatter, 0 and the value that one sigma of the noise would give.
        NaN below two measurements and for means that are not positive.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where((n > 1) & (mean > 0), mean, np.nan)
        excess = (scatter**2 - mean_square_err) / mean**2
        noise = mean_square_err / mean**2
        f_var = np.sqrt(np.maximum(excess, 0))
        excess_err = np.sqrt(2 / n * noise**2 + 4 / n * noise * f_var**2)
        return f_var, np.where(f_var > 0, excess_err / (2 * f_var), np.sqrt(excess_err))


def medians(flux, group, n_groups):
    """Median flux of each group, shape (n_groups,); NaN for an empty one."""
    order, n = np.lexsort((flux, group)), np.bincount(group, minlength=n_groups)
    sorted_flux, first = np.append(np.asarray(flux, float)[order], np.nan), np.cumsum(n) - n
    low, high = (first + np.where(n > 0, (n - odd) // 2, 0) for odd in (1, 0))
    return np.where(n > 0, (sorted_flux[low] + sorted_flux[high]) / 2, np.nan)


def largest(values, group, n_groups):
    """Largest value of each group, shape (n_groups,); NaN for an empty one and where all values are NaN."""
    found = np.full(n_groups, -np.inf)
    np.fmax.at(found, group, values)
    return np.where(np.isfinite(found), found, np.nan)


# ---- pairs of epochs --------------------------------------------------------------------------------


def pair_metrics(flux_1, flux_err_1, flux_2, flux_err_2):
    """Significance and size of the change between two measurements (VAST; Mooley et al. 2016).

    Returns
    -------
    vs : array
        ``(F1 - F2) / sqrt(err1^2 + err2^2)``, a t statistic.
    m : array
        ``2 (F1 - F2) / (F1 + F2)``, the modulation; infinite or NaN where the fluxes cancel.
    """
    change = np.subtract(flux_1, flux_2, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return change / np.hypot(flux_err_1, flux_err_2), 2 * change / np.add(flux_1, flux_2, dtype=float)


def most_significant_pair(flux, flux_err, group, n_groups):
    """Vs and m of the pair of epochs that differ most significantly, of all pairs of a group.

    Parameters
    ----------
    flux, flux_err, group, n_groups
        As for :func:`statistics`.

    Returns
    -------
    vs, m : array, shape (n_groups,)
        Of the pair with the largest Vs, see :func:`pair_metrics`; both are 0 or more unless the mean of the two is
        negative. NaN below two measurements.

    Notes
    -----
    Not all n^2 pairs are looked at, and none is missed: if another measurement is as high or higher and has as small
    an error or smaller, then it differs from any lower one at least as significantly. So the bright end of the pair
    is on the front of measurements to which there is no such other, and the faint end on the front of the faint
    ones. Fronts have about log n members: the cost is that of sorting.
    """
    import pandas as pd

    flux, flux_err, group = np.asarray(flux, float), np.asarray(flux_err, float), np.asarray(group)
    high, low = (np.flatnonzero(_front(sign * flux, flux_err, group)) for sign in (1, -1))
    ends = [pd.DataFrame({"group": group[rows], "row": rows}) for rows in (high, low)]
    pairs = ends[0].merge(ends[1], on="group", suffixes=("_high", "_low"))
    one, two, of = (pairs[name].to_numpy() for name in ("row_high", "row_low", "group"))
    vs, m = pair_metrics(flux[one], flux_err[one], flux[two], flux_err[two])
    order = np.lexsort((vs, of))
    last = order[np.append(np.diff(of[order]) != 0, True)[: len(order)]]
    best, size = np.full((2, n_groups), np.nan), np.bincount(group, minlength=n_groups)
    best[:, of[last]] = vs[last], m[last]
    return np.where(size > 1, best, np.nan)


def _front(flux, flux_err, group):
    """Which measurements have, of all as bright or brighter in their group, the smallest error."""
    import pandas as pd

    order = np.lexsort((flux_err, -flux, group))
    least = pd.Series(flux_err[order]).groupby(group[order]).cummin().to_numpy()
    first = np.append(True, (np.diff(group[order]) != 0) | (np.diff(least) != 0))[: len(order)]
    front = np.zeros(len(order), bool)
    front[order[first]] = True
    return front


# ---- against the catalogue --------------------------------------------------------------------------


def excess_significance(measurements, options, reference_ghz):
    """Excess of each flux over the catalogue's, over the error of both: the test for a flare.

    Parameters
    ----------
    measurements : pandas.DataFrame
        Columns flux_mjy, flux_err_mjy, catalog_flux_mjy and catalog_flux_err_mjy (both in the band of the
        measurement; NaN for an error that is not known) and freq_ghz.
    options : mapping
        ``calibration_err`` of the map and ``catalog_flux_err_fraction`` of catalogue fluxes without an error,
        fractions; ``spectral_index_err``, for what bringing the catalogue's flux to the band adds.
    reference_ghz : float
        Frequency of the catalogue's fluxes.

    Returns
    -------
    array, shape (n,)
        NaN where there is no catalogue flux.
    """
    flux, expected = (measurements[name].to_numpy(float) for name in ("flux_mjy", "catalog_flux_mjy"))
    given = measurements["catalog_flux_err_mjy"].to_numpy(float)
    catalog_err = np.where(np.isfinite(given), given, options["catalog_flux_err_fraction"] * np.abs(expected))
    ratio = measurements["freq_ghz"].to_numpy(float) / reference_ghz
    spectral_err = options["spectral_index_err"] * np.abs(np.log(ratio)) * expected
    variance = measurements["flux_err_mjy"].to_numpy(float) ** 2 + (options["calibration_err"] * flux) ** 2
    return (flux - expected) / np.sqrt(variance + catalog_err**2 + spectral_err**2)


def upper_limits(flux, flux_err, confidence=0.95):
    """Fluxes that a source does not exceed, with the stated confidence.

    Parameters
    ----------
    flux, flux_err : array, shape (n,)
        Measurements, of either sign.
    confidence : float, default 0.95

    Returns
    -------
    array, shape (n,)
        Quantile of the posterior of the true flux for a Gaussian likelihood and a flat prior on fluxes of zero or
        more, ``F + err Phi^-1(1 - (1 - c) Phi(F / err))``: positive however negative the flux, 1.96 errors at zero
        flux and the usual ``F + 1.64 err`` for bright sources.
    """
    from scipy.special import log_ndtr, ndtri_exp

    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.divide(flux, flux_err, dtype=float)
        return np.asarray(flux, float) - flux_err * ndtri_exp(np.log(1 - confidence) + log_ndtr(snr))


# ---- tables -----------------------------------------------------------------------------------------


def band_statistics(measurements, options, reference_ghz):
    """One row a source and band: mean flux, scatter and tests against a constant flux.

    Parameters
    ----------
    measurements : pandas.DataFrame
        Table ``measurements`` of one, some or all sources; only those :func:`of_light_curves` count.
    options, reference_ghz
        As for :func:`excess_significance`.

    Returns
    -------
    pandas.DataFrame
        Table ``source_bands``, sorted by source_id and band.
    """
    import pandas as pd

    kept = measurements[of_light_curves(measurements)]
    source, source_ids = pd.factorize(kept["source_id"], sort=True)
    band, bands = pd.factorize(kept["band"], sort=True)
    pairs, group = np.unique(source * max(len(bands), 1) + band, return_inverse=True)
    flux, err = kept["flux_mjy"].to_numpy(), kept["flux_err_mjy"].to_numpy()
    found, median = statistics(flux, err, group, len(pairs)), medians(flux, group, len(pairs))
    vs, m = most_significant_pair(flux, err, group, len(pairs))
    with np.errstate(invalid="ignore", divide="ignore"):
        peak_to_median = np.where(median > 0, largest(flux, group, len(pairs)) / median, np.nan)
    columns = {
        "source_id": source_ids[pairs // max(len(bands), 1)],
        "band": bands[pairs % max(len(bands), 1)],
        "n_measurements": found["n"],
        "mean_flux_mjy": found["mean"],
        "mean_flux_err_mjy": found["mean_err"],
        "scatter_mjy": found["scatter"],
        "median_flux_mjy": median,
        "peak_to_median": peak_to_median,
        "vs": vs,
        "m": m,
        "flare_sigma": largest(excess_significance(kept, options, reference_ghz), group, len(pairs)),
    }
    same = ("eta", "v", "p_constant", "f_var", "f_var_err")
    return tables.make("source_bands", columns | {name: found[name] for name in same})
