"""Does a source vary? The statistics of its flux measurements, for all sources in one pass.

``w = 1/flux_err**2`` everywhere. Groups are handled with sums over arrays, never source by source, in
two passes (mean first, then residuals), so that no precision is lost on bright, steady sources.
"""

import numpy as np

from sotrplib import tables

UNUSABLE = tables.flag("NO_DATA", "MASKED")


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
        ``n``; ``mean`` (inverse-variance weighted) and ``mean_err``; ``scatter`` (sample standard
        deviation); ``v = scatter / unweighted mean`` and ``eta = sum(w (F - mean)^2) / (n - 1)`` of TraP
        (Swinbank et al. 2015, eqs. 1 and 2); ``chi2`` against a constant flux and ``p_constant``, the
        probability of one so large. NaN where ``n`` is too small to tell (0 for the mean, below 2 else).
    """
    from scipy.special import chdtrc

    def total(values):
        return np.bincount(group, values, minlength=n_groups)

    weight = 1 / np.asarray(flux_err, float) ** 2
    n, sum_w = np.bincount(group, minlength=n_groups), total(weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, plain = total(weight * flux) / sum_w, total(flux) / n
        dof = np.where(n > 1, n - 1, np.nan)
        chi2 = np.where(n > 1, total(weight * (flux - mean[group]) ** 2), np.nan)
        scatter = np.sqrt(total((flux - plain[group]) ** 2) / dof)
        return {
            "n": n,
            "mean": mean,
            "mean_err": np.where(n > 0, sum_w**-0.5, np.nan),
            "scatter": scatter,
            "v": scatter / plain,
            "eta": chi2 / dof,
            "chi2": chi2,
            "p_constant": chdtrc(dof, chi2),
        }


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


def band_statistics(measurements):
    """One row a source and band: mean flux, scatter and tests against a constant flux.

    Parameters
    ----------
    measurements : pandas.DataFrame
        Table ``measurements``; rows that are not :func:`usable` are left out, and so are ``blind`` ones,
        which repeat maps already measured at a fixed position.

    Returns
    -------
    pandas.DataFrame
        Table ``source_bands``, sorted by source_id and band.
    """
    import pandas as pd

    kept = measurements[usable(measurements) & (measurements["kind"] != "blind").to_numpy()]
    source, source_ids = pd.factorize(kept["source_id"], sort=True)
    band, bands = pd.factorize(kept["band"], sort=True)
    pairs, group = np.unique(source * max(len(bands), 1) + band, return_inverse=True)
    found = statistics(kept["flux_mjy"].to_numpy(), kept["flux_err_mjy"].to_numpy(), group, len(pairs))
    columns = {
        "source_id": source_ids[pairs // max(len(bands), 1)],
        "band": bands[pairs % max(len(bands), 1)],
        "n_measurements": found["n"],
        "mean_flux_mjy": found["mean"],
        "mean_flux_err_mjy": found["mean_err"],
        "scatter_mjy": found["scatter"],
    }
    return tables.make("source_bands", columns | {name: found[name] for name in ("eta", "v", "p_constant")})
