"""Numbers and times as text for the page."""

from datetime import UTC, datetime

import numpy as np


def format_number(value, digits=3):
    """A number to ``digits`` significant digits (all of a whole number's), a dash where there is none."""
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(int(value))
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return (f"{value:.1e}" if "e" in text else text).replace("-", "−")


def format_pair(value, error):
    """A number and its error, as many decimals as give the error two digits; a dash where there is no number."""
    if not np.isfinite(value):
        return "–"
    decimals = int(np.clip(1 - np.floor(np.log10(error)), 0, 9)) if np.isfinite(error) and error > 0 else 1
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")


def format_utc(time_unix_s):
    """Unix seconds as a date and time, a dash where there are none."""
    if not np.isfinite(time_unix_s):
        return "–"
    return datetime.fromtimestamp(round(time_unix_s), UTC).strftime("%Y-%m-%d %H:%M")


def format_sexagesimal(ra_deg, dec_deg):
    """Position as hours, minutes and seconds and degrees, minutes and seconds."""
    from astropy.coordinates import SkyCoord

    return SkyCoord(ra_deg, dec_deg, unit="deg").to_string("hmsdms", sep=":", precision=1)


def format_chance(probability):
    """A probability in words: its number, or that it is below what is worth saying."""
    if not np.isfinite(probability):
        return "not known"
    return "below 1e−15" if probability < 1e-15 else format_number(probability, 2)
