"""What the page of a run shows of a map: images, figures, warnings, part of the sky; made once, kept in a file.

The map is read once; all of it comes from that one look, and so does the sheet of the map, a PNG beside the page.
:mod:`viewfiles` reads what is kept here.
"""

import zlib

import numpy as np

from sotrplib import geometry, pointing, store, tables
from sotrplib.report import checks, coverage, looks, words

_IMAGE_PIXELS = 600  # longest side of the image of a map
_THUMBNAIL_PIXELS = 150
FLAT_RANGE = 0.2  # the flat field is drawn from 1 - this to 1 + this


def view_map(map_path, pointing_path, forced_path, sifted_path, *, most_mpix=np.inf):
    """Look at one map.

    Parameters
    ----------
    map_path, pointing_path, forced_path, sifted_path : path
        The filtered map, its pointing, its forced photometry and its sifted detections.
    most_mpix : float
        Of a map of more million pixels, images and checks show the rows in its middle.

    Returns
    -------
    view : dict
        ``attrs``, ``arrays`` and ``frames``, as :func:`store.write` takes them.
    sheet : array (ny, nx, 3) uint8
        Image and checks of the map side by side.
    """
    look = looks.take_look(map_path, pointing_path, forced_path, sifted_path, most_mpix=most_mpix)
    map_id, wcs = look.sky_map.info.map_id, look.sky_map.wcs
    factor = max(-(-max(look.good.shape) // _IMAGE_PIXELS), 1)
    beam = checks.beam_profile(look.sky_map, look.residual, look.forced, look.model)
    numbers, warnings = looks.measure(look, beam), checks.judge_noise(look.noise)
    snr = looks.map_image(look.snr, look.good, factor, wcs)
    figures = _draw_checks(look, beam, numbers, map_path)
    images, levels = _draw_images(look, snr, factor, map_path)
    svgs = _to_svgs(figures, map_id)  # before the sheet, for which they are drawn with pixels
    place, footprint = _place(look, map_path)
    attrs = {"warnings": warnings, "numbers": numbers, "levels": levels} | place
    attrs["figures"] = [[name, caption] for name, _, caption in figures]
    arrays = {"footprint": footprint.astype("u1"), **_as_arrays("images", images), **_as_arrays("figures", svgs)}
    compared = checks.sure_fluxes(store.read_table(forced_path, "forced"))[tables.column_names("compared")]
    view = {"attrs": attrs, "arrays": arrays, "frames": {"compared": ("compared", compared)}}
    return view, _draw_sheet(look, warnings, snr, figures)


def _place(look, map_path):
    """Where the whole map is: its size, its part of the sky, its masks, its WCS and pointing; and its usable blocks."""
    wcs = geometry.text_to_wcs(look.attrs["wcs"])
    shape, part = wcs.array_shape, look.good.shape
    usable = look.good if part == shape else looks.UsableRows(map_path)
    factor = max(-(-max(shape) // _IMAGE_PIXELS), 1)
    footprint = looks.any_in_blocks(usable, factor)
    scales = (float(np.mean(scale)) for scale in geometry.pixel_scales(shape, wcs))
    masked = looks.say_masked(look.sky_map)
    place = {
        "shape_arcmin": [n * scale for n, scale in zip(shape, scales, strict=True)],
        "extent": coverage.measure_extent(footprint, factor, wcs),
        "masked": masked if part == shape else f"{masked or 'none'}; shown are {part[0]} of {shape[0]} rows",
        "pointing": pointing.to_dict(look.model),
        "factor": factor,
        "wcs": look.attrs["wcs"],
    }
    return place, footprint


def _as_arrays(group, contents):
    """Arrays of a file that hold bytes by name."""
    return {f"{group}/{name}": np.frombuffer(content, np.uint8) for name, content in contents.items()}


def _draw_images(look, snr, factor, map_path):
    """Images of a map (PNG by name), and the ends of the scales of their colours."""
    from sotrplib import plots

    wcs, largest = look.sky_map.wcs, plots.SNR_MAX * looks.median_error(look)
    largest = largest if np.isfinite(largest) else 1.0
    flux, masked = looks.map_image(looks.flux_rows(look.sky_map), look.good, factor, wcs)
    small = looks.map_image(look.snr, look.good, max(-(-max(look.good.shape) // _THUMBNAIL_PIXELS), 1), wcs)
    images = {
        "snr": plots.image_png(snr[0], plots.SNR_MAX, snr[1]),
        "flux": plots.image_png(flux, largest, masked),
        "thumbnail": plots.image_png(small[0], plots.SNR_MAX, small[1]),
    }
    levels = {"flux_max": largest}
    if "flatfield/local_rms" in look.contents:
        rms = store.read_array(map_path, "flatfield/local_rms")[looks.turn_north_up(look.good.shape, wcs)]
        images["flat"] = plots.image_png(rms - 1, FLAT_RANGE)
        levels |= {"flat_min": float(rms.min()), "flat_max": float(rms.max())}
    return images, levels


def _draw_checks(look, beam, numbers, map_path):
    """Checks of a map that it has: list of (name, figure, what is said below)."""
    from sotrplib import plots

    made = [("histogram", *_histogram(look, numbers))]
    spectra = store.read_table(map_path, "noise_spectra") if "noise_spectra" in look.contents else ()
    if len(spectra):
        caption = f"noise without sources, and the filter's model of it; zones: {spectra['zone'].nunique()}"
        made.append(("noise", plots.noise_spectra(spectra), caption))
    if beam:
        caption = f"{beam['n_sources']} bright sources are {beam['width']:.2f} times as wide as the filter expects"
        made.append(("beam", plots.beam_response(beam), caption))
    if look.offsets[0].size:
        made.append(("pointing", plots.pointing_residuals(*look.offsets), _say_pointing(look)))
    fluxes = checks.sure_fluxes(look.forced)
    if len(fluxes):
        columns = (fluxes[f"{name}_mjy"].to_numpy() for name in ("catalog_flux", "flux", "flux_err"))
        made.append(("flux", plots.flux_comparison(*columns, look.sky_map.info.band), _say_fluxes(fluxes)))
    return made


def _histogram(look, numbers):
    from sotrplib import plots

    counts = looks.count_in_bins(look.snr[look.good]), looks.count_in_bins(look.noise)
    expected = words.format_number(numbers["n_negative_expected"], 2)
    caption = f"{numbers['n_negative']} peaks below −{checks.SEARCH_SNR:g}σ, of Gaussian noise {expected}"
    return plots.snr_histogram(looks.EDGES, *counts), caption


def _say_fluxes(fluxes):
    ratio, ratio_err, n = checks.flux_ratio(fluxes)
    told = words.format_pair(ratio, ratio_err)
    return f"{len(fluxes)} sources; median ratio of the {n} expected above 10σ: {told}"


def _say_pointing(look):
    before, after, used = look.offsets
    if not used.any():
        return "no source was used: positions are taken as they are"
    rms = [float(np.sqrt(np.mean(values[:, used] ** 2))) for values in (before, after)]
    return f"rms a coordinate {rms[0]:.1f}″ before, {rms[1]:.1f}″ after; {used.sum()} of {len(used)} sources used"


_LABELS = {
    "histogram": "Histogram of the SNR and the unit Gaussian",
    "noise": "Power spectrum of the noise",
    "beam": "Profile of bright sources",
    "pointing": "Pointing residuals",
    "flux": "Forced against catalogue flux",
}


def _to_svgs(figures, map_id):
    """SVG of each check, compressed, by name."""
    from sotrplib import plots

    texts = {name: plots.to_svg(one, f"{name}-{map_id}", f"{_LABELS[name]} of {map_id}") for name, one, _ in figures}
    return {name: zlib.compress(text.encode()) for name, text in texts.items()}


def _draw_sheet(look, warnings, snr, figures):
    from sotrplib import plots

    dy, dx = (float(np.mean(scale)) for scale in geometry.pixel_scales(look.good.shape, look.sky_map.wcs))
    title = look.sky_map.info.map_id + (": not Gaussian: " + "; ".join(warnings) if warnings else "")
    return plots.sheet(title, [plots.snr_map(*snr, dx / dy), *(figure for _, figure, _ in figures)])


def write_sheet(path, pixels):
    """Write the sheet of a map."""
    from sotrplib import plots

    with store.atomic_path(path) as temporary:
        plots.save_sheet(pixels, temporary)


def write_failed_sheet(path, map_id, reason):
    """Write the sheet of a map that failed, which says why."""
    from sotrplib import plots

    write_sheet(path, plots.sheet(f"{map_id} failed: {reason}", []))
