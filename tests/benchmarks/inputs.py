"""Lines on what comes in: beams, right and wrong by a stated amount, and units and forms of maps."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import scenes
from fluxes import mean
from rows import Row

from sotrplib import beams, ingest, mapexports, preprocessing, skies, units

# ---- beams -------------------------------------------------------------------------------------------


def beam(size):
    """Flux of bright sources painted with the measured profiles, filtered with the same and with wrong ones."""
    sides = {"full": (8.0, 10.0), "small": (3.0, 3.0)}[size]
    for band in scenes.FREQ_GHZ if size == "full" else ("f090", "f220"):
        scene = scenes.make_scene(f"beam {band}", band, sides, dec_deg=-30.0)
        y, x = scenes.grid_pixels(scene, 20.0, skies.rng_for(scenes.SEED, "beam", band))
        sources = scenes.at_pixels(scene, y, x, 300 * scenes.exact_flux_err(scene))
        signal = scene.noise + scenes.paint(scene, sources)
        yield Row(f"{band} flux error, %", *_flux_error(scene, signal, sources, scene.beam))
        for wider in (-0.01, 0.02) if band in ("f090", "f150") else ():
            error = _flux_error(scene, signal, sources, _widened(scene.beam, wider))
            stated = 100 * ((1 + wider) ** 2 - 1)
            name = f"{band} filtered with a beam {100 * wider:+.0f} % wide: flux error over that of the solid angle"
            yield Row(name, error[0] / stated, abs(error[1] / stated), error[2])


def _flux_error(scene, signal, sources, beam):
    """Mean error of the forced fluxes in percent, its error, and the number of sources."""
    forced = scenes.force(scenes.preprocess(scene, signal, beam), scenes.as_catalog(sources), None)
    return mean(100 * (forced["flux_mjy"] / forced["catalog_flux_mjy"] - 1).dropna().to_numpy())


def _widened(beam, fraction):
    return dataclasses.replace(beam, radius_arcmin=beam.radius_arcmin * (1 + fraction))


# ---- units -------------------------------------------------------------------------------------------


def unit(size):
    """The same sky in all units and forms: difference of the fluxes, in units of the flux (its error if larger)."""
    sides = {"full": (10.0, 10.0), "small": (4.0, 4.0)}[size]
    scene = scenes.make_scene("units", "f090", sides, dec_deg=-30.0)
    sources = scenes.realistic_sources(scene, skies.rng_for(scenes.SEED, "units"), limits=(5.0, 5000.0))
    signal = scene.noise + scenes.paint(scene, sources)
    known = sources.flux > 3 * scenes.exact_flux_err(scene)
    catalog = scenes.as_catalog(scenes.Sources(*(values[known] for values in sources)))
    with tempfile.TemporaryDirectory() as folder:
        first = _as_intensity(folder, scene, signal, "K")
        reference = _measure(first, scene, catalog)
        for name in ("uK", "Jy/sr", "mJy/beam"):
            measured = _measure(_as_intensity(folder, scene, signal, name), scene, catalog)
            yield from _differences(f"{name}, intensity + ivar", measured, reference)
        filtered = preprocess(first, scene)
        for form in ("rho_kappa", "flux_rms", "flux_snr"):
            measured = _measure(_as_exported(folder, filtered, form), scene, catalog)
            yield from _differences(f"mJy, {form.replace('_', ' + ')}", measured, reference)
        for form, name in (("rho_kappa", "mJy"), ("rho_kappa", "Jy"), ("flux_rms", "mJy"), ("flux_snr", "Jy")):
            measured = _measure(_as_filtered(folder, scene, filtered, form, name), scene, catalog)
            yield from _differences(f"{name}, {form.replace('_', ' + ')}, template unknown", measured, reference)


def preprocess(given, scene):
    """Filtered map of an input map."""
    return preprocessing.preprocess(given, scene.beam, scenes.options()["preprocess_map"])


def _measure(given, scene, catalog):
    forced = scenes.force(preprocess(given, scene), catalog, None)
    return forced["flux_mjy"].to_numpy(), forced["flux_err_mjy"].to_numpy()


def _differences(name, measured, reference):
    """Median and largest relative difference, without statistical error, of the number of sources."""
    difference = np.abs(measured[0] - reference[0]) / np.hypot(*reference)
    difference = difference[np.isfinite(difference)]
    yield Row(f"{name}: median", np.median(difference), 0.0, len(difference))
    yield Row(f"{name}: largest", difference.max(), 0.0, len(difference))


def _as_intensity(folder, scene, signal, name):
    factor = units.intensity_factor(name, scenes.FREQ_GHZ[scene.band], beam_area_sr=beams.solid_angle_sr(scene.beam))
    images = {"map": (signal / factor, name), "weight": (scene.ivar * factor**2, f"({name})^-2")}
    return _write_and_read(folder, scene, images, "intensity_ivar", name)


def _as_filtered(folder, scene, sky_map, form, name):
    factor = units.flux_factor(name)
    rho, kappa = sky_map.rho * factor, sky_map.kappa * factor**2
    observed = kappa > 0
    depth = np.sqrt(np.where(observed, kappa, 1))
    flux = np.where(observed, rho / depth**2, 0)
    images = {
        "rho_kappa": {"map": (rho, f"1/{name}"), "weight": (kappa, f"1/{name}^2")},
        "flux_rms": {"map": (flux, name), "weight": (np.where(observed, 1 / depth, 0), name)},
        "flux_snr": {"map": (flux, name), "weight": (np.where(observed, rho / depth, 0), "")},
    }[form]
    return _write_and_read(folder, scene, images, form, name)


def _as_exported(folder, sky_map, form):
    """A map as ``export_maps`` writes it, read back."""
    fields = [{"rms": "flux_err"}.get(name, name) for name in form.split("_")]
    paths = {name: str(Path(folder) / f"exported_{name}.fits") for name in fields}
    for name, path in paths.items():
        mapexports.write_field(path, sky_map, name)
    info = sky_map.info
    row = {"map_id": info.map_id, "instrument": info.instrument, "array": info.array, "band": info.band, "form": form}
    row |= dict(zip(("map_path", "weight_path"), paths.values(), strict=True))
    return ingest.read_map(row, beams.BandInfo(info.freq_ghz, 2.0))


def _write_and_read(folder, scene, images, form, name):
    from astropy.io import fits

    row = {"map_id": f"solat_i1_{scene.band}_1763085600", "instrument": "solat", "array": "i1", "band": scene.band}
    row |= {"form": form, "unit": name, "time_path": "", "info_path": "", "gain": ""}
    for kind, (image, text) in images.items():
        path = Path(folder) / f"{form}_{kind}.fits"
        header = scene.wcs.to_header()
        header["BUNIT"] = text
        fits.PrimaryHDU(np.asarray(image, ">f4"), header).writeto(path, overwrite=True)
        row[f"{kind}_path"] = str(path)
    width, area = beams.beam_fwhm_arcmin(scene.beam), beams.solid_angle_sr(scene.beam)
    return ingest.read_map(row, beams.BandInfo(scenes.FREQ_GHZ[scene.band], width, solid_angle_sr=area))
