"""Lines on speed and memory, against the usual building blocks in the same run; each in a fresh process.

Times are CPU seconds of one thread, but for the whole chain, which is seconds on the clock on all cores.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scenes
from rows import Row

from sotrplib import (
    beams,
    convergence,
    flatfield,
    geometry,
    ingest,
    maps,
    photometry,
    preprocessing,
    skies,
    subtraction,
    tables,
    template,
    workers,
)

_SIZES = {"full": {"7200 x 2400": (2400, 7200), "7200 x 4800": (4800, 7200)}, "small": {"1200 x 600": (600, 1200)}}
_TILE = (120, 120)
_FINDER = "from rho and kappa to distinct peaks above the threshold, their positions and heights"
_TABLE = "with sources that only show once others are gone, joint fits, shapes, distances to edges, flags"


def speed(size):
    """Ratios of CPU time, memory of the filter, time and memory of the whole chain."""
    for name, shape in _SIZES[size].items():
        yield from _filter_rows(name, _fresh("time_filter", shape))
        yield _ratio(f"flat field, {name}", _fresh("time_flatfield", shape))
    largest = shape
    many = {"full": 10_000, "small": 150}[size]
    times = _fresh("time_forced", largest, many)
    against = f"against {times['fitter']}"
    yield _ratio("forced photometry a source", times)._replace(note=f"whole table, {against}")
    yield _ratio("fluxes alone a source", times | {"ours": times["fluxes"]})._replace(note=against)
    times = _fresh("time_finder", largest, many)
    yield _ratio("finder", times | {"ours": times["peaks"]})._replace(n=times["n_peaks"], note=_FINDER)
    yield _ratio("finder, whole table", times)._replace(n=times["found"], note=_TABLE)
    yield from chain_rows(largest, {"full": 4096, "small": 60}[size])


def _filter_rows(name, times):
    usual = times["usual"]
    yield Row(f"matched filter, 1 pass, {name}", usual / times["one"], _jitter(usual / times["one"]), 1)
    yield Row(f"matched filter, converged, {name}", usual / times["converged"], _jitter(usual / times["converged"]), 1)
    yield Row(f"memory of the filter, bytes a pixel, {name}", times["bytes"], 1.0, 1)


def _ratio(name, times):
    ratio = times["usual"] / times["ours"]
    return Row(name, ratio, _jitter(ratio), 1)


def _jitter(ratio):
    """Error of a ratio of CPU times, which repeat to about a tenth."""
    return 0.1 * ratio


def _fresh(name, *arguments, threads="1"):
    """Result of a function of this module in a fresh process with a number of threads."""
    path = [str(scenes.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, __file__, name, json.dumps(arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"speed: {name}{arguments} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def cpu_seconds(function, *arguments, repeat=1, **options):
    """Least CPU time of a call, and its last result."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        result = function(*arguments, **options)
        times.append(time.process_time() - start)
    return min(times), result


# ---- in the fresh process ----------------------------------------------------------------------------


def time_filter(shape):
    """CPU time of one pass, of the converged filter and of the usual one, on a scan with realistic sources."""
    import blocks
    from filtering import scan_depth

    sides = shape[0] / 120, shape[1] / 120 * np.cos(np.radians(30))
    scene = scenes.make_scene("speed", "f090", sides, dec_deg=-30.0, depth=scan_depth)
    sources = scenes.realistic_sources(scene, skies.rng_for(scenes.SEED, "speed"), limits=(10.0, 5000.0))
    signal, ivar = scene.noise + scenes.paint(scene, sources), scene.ivar
    given = ivar, preprocessing.map_pixels(scene.shape, scene.wcs), scenes.beam_transform(scene)
    options = scenes.options()["preprocess_map"]
    usual, _ = cpu_seconds(blocks.banded_matched_filter, signal, ivar, scene.wcs, given[2])
    workers.keep_memory()  # as every job of the workflow does, and no script around the usual filter
    before = _reset_peak()
    converged, _ = cpu_seconds(convergence.filter_converged, signal, *given, options)
    extra = (_memory("VmHWM") - before) / signal.size
    one, _ = cpu_seconds(convergence.filter_converged, signal, *given, options | {"passes": 1}, repeat=2)
    again, _ = cpu_seconds(convergence.filter_converged, signal, *given, options)
    return {"one": one, "converged": min(converged, again), "usual": usual, "bytes": extra}


def time_flatfield(shape):
    """CPU time of the local rms, and of photutils Background2D in the same tiles."""
    import blocks

    snr = np.random.default_rng(1).standard_normal(shape, np.float32)
    good = np.ones(shape, bool)
    ours, _ = cpu_seconds(flatfield.local_rms, snr, good, _TILE, repeat=3)
    usual, _ = cpu_seconds(blocks.background, snr, _TILE)
    return {"ours": ours, "usual": usual}


def time_forced(shape, n):
    """CPU time a source of forced photometry, and of a 2-D Gaussian fit to a stamp of 21 x 21 pixels."""
    import blocks

    sky_map, sources, y, x = white_map(shape, n, np.random.default_rng(2))
    catalog = scenes.as_catalog(sources)
    scenes.force(sky_map, catalog.iloc[:50], None)
    ours, _ = cpu_seconds(scenes.force, sky_map, catalog, None, repeat=3)
    alone, _ = cpu_seconds(photometry.measure, sky_map.rho, sky_map.kappa, y, x, sky_map.template, repeat=5)
    fitter, fit = blocks.gaussian_fitter()
    flux, error = maps.flux(sky_map), maps.flux_err(sky_map)
    inside = np.flatnonzero((y > 11) & (x > 11) & (y < shape[0] - 12) & (x < shape[1] - 12))[:100]
    stamps = [(slice(round(y[i]) - 10, round(y[i]) + 11), slice(round(x[i]) - 10, round(x[i]) + 11)) for i in inside]
    usual, _ = cpu_seconds(lambda: [fit(flux[stamp], error[stamp]) for stamp in stamps])
    return {"ours": ours / n, "fluxes": alone / n, "usual": usual / len(stamps), "fitter": fitter}


def time_finder(shape, n):
    """CPU time of the search for peaks, alone and with all else, and of photutils' detection, deblending and table."""
    import blocks

    from sotrplib import peaks, pointing

    sky_map, *_ = white_map(shape, n, np.random.default_rng(3))
    field = peaks.make_field(sky_map, sky_map.rho, scenes.options()["find_sources"])
    small, *_ = white_map((400, 400), 20, np.random.default_rng(4))
    scenes.find(small, None, pointing.PointingModel())
    alone, (first, _) = cpu_seconds(
        lambda: peaks.first_peaks(field, peaks.significance(field.rho, sky_map.kappa)), repeat=5
    )
    ours, found = cpu_seconds(scenes.find, sky_map, None, pointing.PointingModel(), repeat=3)
    usual, _ = cpu_seconds(blocks.segment, maps.snr(sky_map))
    return {"ours": ours, "peaks": alone, "usual": usual, "found": len(found), "n_peaks": len(first.y)}


def white_map(shape, n, rng, *, sigma_mjy=10.0, fwhm_arcmin=1.94):
    """Filtered map of white noise with ``n`` sources of SNR 6 to 100: noise of covariance A and sources of shape A."""
    from scipy import fft

    step = 0.5
    ky, kx = np.fft.fftfreq(shape[0], step)[:, None], np.fft.rfftfreq(shape[1], step)
    beam = np.exp(-((np.pi * fwhm_arcmin) ** 2) * (ky**2 + kx**2) / (4 * np.log(2))).astype(np.float32)
    s = fft.irfft2(fft.rfft2(rng.standard_normal(shape, np.float32)) * beam, s=shape)
    s = (s / s.std()).astype(np.float32)
    shape, wcs = geometry.make_car(30.0, 0.0, shape[1] * step / 60, shape[0] * step / 60, step)
    y, x = (rng.uniform(8, size - 9, n) for size in shape)
    snr = 6 * (100 / 6) ** rng.uniform(size=n)
    shape_of_source = template.gaussian_template(fwhm_arcmin, step, n_rows=shape[0])
    s += subtraction.paint(shape, y, x, snr, shape_of_source)
    kappa = np.full(shape, sigma_mjy**-2.0, np.float32)
    info = maps.MapInfo("solat_i1_f090_1763085600", "solat", "i1", "f090", 90.0, 1763085600.0)
    sky_map = maps.SkyMap(s / np.float32(sigma_mjy), kappa, None, np.zeros(shape, np.uint8), wcs, info, shape_of_source)
    sources = scenes.Sources(*geometry.pix2sky(wcs, y, x), snr * sigma_mjy)
    return sky_map, sources, y, x


# ---- the whole chain ---------------------------------------------------------------------------------


def chain_rows(shape, n):
    """Seconds and GB of a process that takes a white-noise map from its files to classified detections."""
    with tempfile.TemporaryDirectory() as folder:
        for form, name in (("flux_rms", "flux + rms"), ("intensity_ivar", "intensity + ivar")):
            write_white_map(folder, form, shape, n)
            start = time.perf_counter()
            result = _fresh("run_chain", folder, form, threads=os.environ.get("OMP_NUM_THREADS", "2"))
            seconds = time.perf_counter() - start
            yield Row(f"whole chain from {name}, seconds", seconds, 0.1 * seconds, result["forced"])
            yield Row(f"whole chain from {name}, GB", result["gb"], 0.01, result["found"])


def write_white_map(folder, form, shape, n):
    """FITS files of a map of white noise with errors of 10 mJy and ``n`` sources, and the catalogue of half of them."""
    from astropy.io import fits

    rng = skies.rng_for(scenes.SEED, "white", form)
    shape, wcs = geometry.make_car(30.0, 0.0, shape[1] / 120, shape[0] / 120, 0.5)
    y, x = (rng.uniform(8, size - 9, n) for size in shape)
    sources = scenes.Sources(*geometry.pix2sky(wcs, y, x), 10.0 * 3 * 100 ** rng.uniform(size=n))
    if form == "flux_rms":
        profile = template.gaussian_template(2.2, 0.5, autocorrelate=False, n_rows=shape[0])
        image, sigma, units = subtraction.paint(shape, y, x, sources.flux, profile), 10.0, ("mJy", "mJy")
    else:
        beam = beams.gaussian(2.2)
        image, units = skies.paint_point_sources(shape, wcs, *sources, beam), ("mJy/sr", "(mJy/sr)^-2")
        area = geometry.pixel_area_sr(shape, wcs)[shape[0] // 2]
        sigma = 10.0 / np.sqrt(
            2 * area * beams.solid_angle_sr(beam)
        )  # kappa = integral of B^2 / (Omega sigma)^2 / area
    image += np.float32(sigma) * rng.standard_normal(shape, np.float32)
    weight = np.full(shape, sigma if form == "flux_rms" else sigma**-2, np.float32)
    for kind, values, unit in zip(("map", "weight"), (image, weight), units, strict=True):
        header = wcs.to_header()
        header["BUNIT"] = unit
        fits.PrimaryHDU(values.astype(">f4"), header).writeto(Path(folder) / f"{form}_{kind}.fits", overwrite=True)
    np.save(Path(folder) / f"{form}_catalog.npy", np.array(sources)[:, : n // 2])


def run_chain(folder, form):
    """Read, filter, calibrate, fit the pointing, measure the catalogue, search and sift: counts, and GB at the peak."""
    from sotrplib import sifting

    workers.keep_memory()
    row = {"map_id": "solat_i1_f090_1763085600", "instrument": "solat", "array": "i1", "band": "f090", "form": form}
    row |= {"map_path": f"{folder}/{form}_map.fits", "weight_path": f"{folder}/{form}_weight.fits", "unit": ""}
    options = scenes.options()
    given = ingest.read_map(row, beams.BandInfo(90.0, 2.2))
    chosen = options["preprocess_map"] | {"noise_model": "white", "given_template": "beam"}
    sky_map = preprocessing.preprocess(given, beams.gaussian(2.2), chosen)
    del given
    catalog = scenes.as_catalog(scenes.Sources(*np.load(f"{folder}/{form}_catalog.npy")))
    model = scenes.fit_pointing(sky_map, catalog)
    forced = scenes.force(sky_map, catalog, model)
    found = scenes.find(sky_map, forced, model)
    sifted = sifting.sift(
        found,
        forced,
        catalog,
        tables.empty("moving"),
        options["sift_candidates"],
        band=sifting.MapBand(2.2, 1.0),
    )
    return {"forced": len(forced), "found": len(found), "sifted": len(sifted), "gb": _memory("VmHWM") / 1e9}


def _memory(name):
    """Memory of this process in bytes: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


def _reset_peak():
    """Forget the peak so far; returns the memory in use."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))) + "\n")
