"""Figures of maps, light curves and fluxes: the only package that imports matplotlib.

Functions named after what they show return a matplotlib Figure, ready to be saved as PDF or PNG by :func:`save`.
:func:`to_svg` makes one fit for an HTML page: its colours become the CSS variables of :data:`THEME`, so that it
follows the page from light to dark. Images of pixels are PNG with a palette. Equal inputs give equal bytes.

Bands differ in colour (Okabe and Ito's palette, which the colour-blind can tell apart) and in marker.
"""

from sotrplib.plots.curves import flux_comparison, light_curve, spectrum
from sotrplib.plots.images import coverage_image, gradient, image, image_png, snr_image, to_uri
from sotrplib.plots.maps import beam_response, noise_spectra, pointing_residuals, snr_histogram, snr_map
from sotrplib.plots.paper import sky_image
from sotrplib.plots.sheets import save_sheet, sheet
from sotrplib.plots.sky import CIRCLES, great_circle, sky, unwrap
from sotrplib.plots.style import CLASS_STYLES, KINDS, SNR_MAX, THEME, band_style, save, to_svg
from sotrplib.plots.trends import completeness, completeness_by_flux, pulls, purity, trend

__all__ = [
    "CIRCLES",
    "CLASS_STYLES",
    "KINDS",
    "SNR_MAX",
    "THEME",
    "band_style",
    "beam_response",
    "completeness",
    "completeness_by_flux",
    "coverage_image",
    "flux_comparison",
    "gradient",
    "great_circle",
    "image",
    "image_png",
    "light_curve",
    "noise_spectra",
    "pointing_residuals",
    "pulls",
    "purity",
    "save",
    "save_sheet",
    "sheet",
    "sky",
    "sky_image",
    "snr_histogram",
    "snr_image",
    "snr_map",
    "spectrum",
    "to_svg",
    "to_uri",
    "trend",
    "unwrap",
]
