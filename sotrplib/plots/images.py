"""Images of pixels as PNG with a palette, small enough for a page that holds hundreds."""

import base64
import io

import matplotlib
import numpy as np

from sotrplib.plots.style import SNR_MAX

DIVERGING = "RdBu_r"  # blue below zero, red above, white at zero: told apart by the colour-blind
_N_COLOURS = 63
_MASKED, _UNOBSERVED = _N_COLOURS, _N_COLOURS + 1


def snr_image(snr, masked=None):
    """PNG of an SNR image, see :func:`image`, clipped at -+SNR_MAX."""
    return image(snr, SNR_MAX, masked)


def image(values, largest, masked=None):
    """PNG of an image as a data URI, see :func:`image_png`."""
    return to_uri(image_png(values, largest, masked))


def image_png(values, largest, masked=None):
    """PNG (bytes) of an image, blue negative and red positive.

    Parameters
    ----------
    values : array (ny, nx)
        First row at the top; NaN is transparent.
    largest : float
        Clipped at -+ this.
    masked : array (ny, nx) bool, optional
        Pixels drawn grey.
    """
    level = np.nan_to_num(np.clip(values / largest, -1, 1)) * 0.5 + 0.5
    index = np.rint(level * (_N_COLOURS - 1)).astype("u1")
    index[np.isnan(values)] = _UNOBSERVED
    if masked is not None:
        index[masked] = _MASKED
    colours = matplotlib.colormaps[DIVERGING](np.linspace(0, 1, _N_COLOURS), bytes=True)[:, :3]
    palette = np.concatenate([colours, [[150, 150, 150], [0, 0, 0]]]).astype("u1")
    return _with_palette(index, palette, bytes([255] * (_N_COLOURS + 1) + [0]))


def coverage_image(count):
    """PNG of the number of maps that cover each cell, (ny, nx) with the first row at the top; deeper is bluer."""
    from PIL import Image

    top = max(int(np.max(count, initial=0)), 1)
    pixels = np.empty((*count.shape, 4), "u1")
    pixels[..., :3] = (59, 143, 196)
    pixels[..., 3] = np.where(count > 0, np.rint(255 * (0.12 + 0.5 * count / top)), 0)
    return to_uri(_encode(Image.fromarray(pixels)))


def gradient(colours=DIVERGING):
    """CSS gradient of the colours of :func:`image`, from least to largest."""
    shown = matplotlib.colormaps[colours](np.linspace(0, 1, 9))
    return "linear-gradient(to right, " + ", ".join(matplotlib.colors.to_hex(c) for c in shown) + ")"


def to_uri(png):
    """PNG (bytes) as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _with_palette(index, palette, transparency):
    from PIL import Image

    picture = Image.fromarray(index)
    picture.putpalette(palette.tobytes())
    return _encode(picture, transparency=transparency)


def _encode(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=False, compress_level=9, **options)
    return buffer.getvalue()
