"""The selection function of a search in Gaussian noise: what it finds, how bright that looks, and its false alarms."""

import numpy as np

from sotrplib import template as templates

_NODES = np.linspace(-8, 8, 321)  # of integrals over a unit normal
_EXPONENTIAL = np.polynomial.laguerre.laggauss(16)


def completeness(snr, threshold):
    """Probability that a search finds a source in Gaussian noise.

    Parameters
    ----------
    snr : float or array
        True SNR S >= 0: flux over the error of the forced flux.
    threshold : float
        Lowest peak T that counts.

    Returns
    -------
    float or array

    Notes
    -----
    At the true position s = S + z, z a unit normal. The peak near it exceeds s^2 by a chi-square of two degrees of
    freedom, one for each coordinate, so C(S) = integral phi(z) p(S + z) dz, p(s) = exp(-(T^2 - s^2) / 2) for
    0 <= s < T and 1 above (:func:`reaches`). This is Q(T - S) + (phi(T - S) - phi(T) exp(-S^2 / 2)) / S.
    """
    from scipy.stats import norm

    snr = np.asarray(snr, float)
    safe = np.maximum(snr, 1e-6)
    lifted = (norm.pdf(threshold - safe) - norm.pdf(threshold) * np.exp(-(safe**2) / 2)) / safe
    return norm.sf(threshold - snr) + lifted


def reaches(s, threshold):
    """Probability that the peak of a source reaches ``threshold`` where s at its true position (array) is known."""
    s = np.clip(s, 0, threshold)
    return np.exp((s**2 - threshold**2) / 2)


def detected_snr(snr, threshold):
    """Mean SNR, sqrt(peak^2 - 2), of the sources of true SNR ``snr`` (array) whose peak reaches ``threshold``.

    Near the threshold it is above the true SNR: only those are seen that noise has lifted (see :func:`completeness`).
    """
    nodes, weights = _EXPONENTIAL
    s = np.maximum(np.asarray(snr, float)[..., None] + _NODES, 0)
    missing = np.maximum(threshold**2 - s**2, 0)
    weight = np.exp(-(_NODES**2 + missing) / 2) * (s > 0)
    mean = np.sqrt(np.maximum((s**2 + missing - 2)[..., None] + 2 * nodes, 0)) @ weights
    return np.sum(weight * mean, axis=-1) / np.sum(weight, axis=-1)


def expected_false_alarms(sky_map, threshold):
    """Peaks above a threshold that Gaussian noise makes on the unmasked pixels of a map.

    The Euler characteristic of a smooth field with covariance A: a pixel holds det(M)^1/2 u exp(-u^2 / 2) /
    (2 pi)^3/2 peaks above u, M = -grad grad A(0) per pixel squared.
    """
    curvature = templates.pixel_curvature(sky_map.template, np.arange(sky_map.mask.shape[0]))
    per_pixel = np.sqrt(np.linalg.det(curvature)) * threshold * np.exp(-(threshold**2) / 2) / (2 * np.pi) ** 1.5
    return float(per_pixel @ np.count_nonzero(sky_map.mask == 0, axis=1))
