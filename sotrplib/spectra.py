"""Spectral indices from bands that were observed together, of many sources in one pass."""

import numpy as np

from sotrplib import variability

_GRID = np.linspace(-5.0, 7.0, 49)  # from steep synchrotron to self-absorbed; dust has 3 to 4
_ROUNDS = 6


def observations(group, time_unix_s, gap_s):
    """Number of the observation of each measurement: a chain of times of one group no farther apart than a gap.

    Parameters
    ----------
    group : array of int, shape (n,)
        Source of each measurement.
    time_unix_s : array, shape (n,)
        NaN where unknown: such a measurement is an observation by itself.
    gap_s : float

    Returns
    -------
    array of int, shape (n,)
        From 0, by group and time.
    """
    order = np.lexsort((time_unix_s, group))
    gap = np.diff(np.asarray(time_unix_s, float)[order], prepend=np.nan)
    new = (np.diff(np.asarray(group)[order], prepend=-1) != 0) | ~(gap <= gap_s)
    number = np.empty(len(order), int)
    number[order] = np.cumsum(new) - 1
    return number


def source_indices(measurements, options):
    """Spectral index of each source.

    Parameters
    ----------
    measurements : pandas.DataFrame
        Table ``measurements``; only those ``variability.of_light_curves`` with a frequency count.
    options : mapping
        ``observation_gap_s``: measurements of a source closer in time were made together; ``calibration_err``: error
        of a map's flux calibration, a fraction, which adds to the error of each flux that of the mean flux in its band.

    Returns
    -------
    pandas.DataFrame
        By source_id, sorted: spectral_index, spectral_index_err and n_simultaneous, see :func:`fit_indices`.
    """
    import pandas as pd

    freq_ghz = measurements["freq_ghz"].to_numpy(float)
    kept = measurements[variability.of_light_curves(measurements) & (freq_ghz > 0)]
    source, source_ids = pd.factorize(kept["source_id"], sort=True)
    flux, err = kept["flux_mjy"].to_numpy(float), kept["flux_err_mjy"].to_numpy(float)
    band = kept.groupby([source, kept["band"].to_numpy()], sort=False).ngroup().to_numpy()
    mean = variability.statistics(flux, err, band, int(band.max(initial=-1)) + 1)["mean"]
    err = np.hypot(err, options["calibration_err"] * mean[band])
    together = observations(source, kept["time_unix_s"].to_numpy(), options["observation_gap_s"])
    index, index_err, n = fit_indices(flux, err, kept["freq_ghz"].to_numpy(float), together, source)
    columns = {"spectral_index": index, "spectral_index_err": index_err, "n_simultaneous": n}
    return pd.DataFrame(columns, index=pd.Index(source_ids, name="source_id"))


def fit_indices(flux, flux_err, freq_ghz, observation, source):
    """Spectral index alpha of flux ~ frequency^alpha of each source, its flux free in every observation.

    Parameters
    ----------
    flux, flux_err, freq_ghz : array, shape (n,)
        Measurements, of either sign.
    observation : array of int, shape (n,)
        Measurements of one number were made together; each number belongs to one source.
    source : array of int, shape (n,)
        Source of each measurement, from 0.

    Returns
    -------
    index, index_err : array, shape (n_sources,)
        Maximum of the likelihood with the flux of each observation at its best, and the error of its Fisher
        information. NaN where no observation has two frequencies, the best index is at the end of what is tried
        (-5 to 7), or the source is not seen.
    n_observations : array of int, shape (n_sources,)
        Observations with two frequencies or more.
    """
    flux, weight = np.asarray(flux, float), np.asarray(flux_err, float) ** -2.0
    observation, source = np.asarray(observation, int), np.asarray(source, int)
    n_sources, count = int(np.max(source, initial=-1)) + 1, int(np.max(observation, initial=-1)) + 1
    owner = np.zeros(count, int)
    owner[observation] = source
    middle = _total(observation, weight * np.log(freq_ghz), count) / _total(observation, weight, count)
    ratio = np.log(freq_ghz) - middle[observation]
    both = np.zeros(count, bool)
    both[observation[np.abs(ratio) > 1e-3]] = True
    model = _Model(flux, weight, ratio, observation, owner, n_sources)
    gain = np.stack([model.gain(np.full(n_sources, index)) for index in _GRID])
    best = np.argmax(gain, axis=0)
    index = model.refine(_GRID[best])
    information, amplitude = model.information(index)
    good = (best > 0) & (best < len(_GRID) - 1) & (information > 0) & (amplitude > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = information**-0.5
    n_observations = np.bincount(owner[both], minlength=n_sources)
    good &= n_observations > 0
    return np.where(good, index, np.nan), np.where(good, error, np.nan), n_observations


class _Model:
    """Power laws, the flux free in each observation; ``ratio`` is the logarithm of the frequency over a middle one."""

    def __init__(self, flux, weight, ratio, observation, owner, n_sources):
        self.flux, self.weight, self.ratio = flux, weight, ratio
        self.observation, self.owner, self.n_sources = observation, owner, n_sources

    def _sums(self, index):
        """Sums over each observation of w s F, w s s, and their first two moments in the logarithm of frequency."""
        spectrum = np.exp(index[self.owner][self.observation] * self.ratio)
        signal, power = self.weight * spectrum * self.flux, self.weight * spectrum**2
        terms = (signal, power, signal * self.ratio, power * self.ratio, power * self.ratio**2)
        return [_total(self.observation, term, len(self.owner)) for term in terms]

    def _by_source(self, values):
        return _total(self.owner, values, self.n_sources)

    def gain(self, index):
        """How much each source's chi-square falls with power laws of these indices, (n_sources,)."""
        signal, power, *_ = self._sums(index)
        return self._by_source(np.maximum(signal, 0) ** 2 / power)

    def refine(self, index):
        """Indices (n_sources,) moved to the maximum of the likelihood by scoring, no farther than a grid step."""
        start, step = index, _GRID[1] - _GRID[0]
        for _ in range(_ROUNDS):
            signal, power, signal_1, power_1, power_2 = self._sums(index)
            amplitude = np.maximum(signal, 0) / power
            slope = self._by_source(amplitude * (signal_1 - amplitude * power_1))
            information = self._by_source(amplitude**2 * (power_2 - power_1**2 / power))
            with np.errstate(divide="ignore", invalid="ignore"):
                index = np.clip(index + np.nan_to_num(slope / information), start - step, start + step)
        return index

    def information(self, index):
        """Fisher information on each source's index, and its largest amplitude, (n_sources,)."""
        signal, power, _, power_1, power_2 = self._sums(index)
        amplitude = np.maximum(signal, 0) / power
        found = self._by_source(amplitude**2 * (power_2 - power_1**2 / power))
        return found, self._by_source(amplitude)


def _total(group, values, n):
    return np.bincount(group, values, minlength=n)
