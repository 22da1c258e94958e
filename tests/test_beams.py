"""Beams and bands: Gaussians have closed forms; measured profiles have known solid angles and awkward radii."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sotrplib import beams
from sotrplib.units import ARCMIN

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "beams"
INSTRUMENTS = beams.load_instruments(ROOT / "config" / "instruments.yaml")
ELL = np.arange(0, 62000, 20.0)

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the measured beams in ../shared/data are not here")


def sigma_rad(fwhm_arcmin):
    return fwhm_arcmin * ARCMIN / np.sqrt(8 * np.log(2))


def write_profile(path, radius_arcsec, profile, *more):
    np.savetxt(path, np.stack([radius_arcsec, profile, *more]).T)
    return path


@pytest.mark.parametrize("fwhm", [0.9, 2.2, 27.4])
def test_gaussian_has_the_transform_of_a_gaussian(fwhm):
    """B_l = exp(-(l sigma)^2 / 2) to 1e-6 at every l, Omega = 2 pi sigma^2 to 1e-8, and the FWHM is as asked."""
    beam = beams.gaussian(fwhm)
    expected = np.exp(-0.5 * (ELL * sigma_rad(fwhm)) ** 2)
    transform = beams.beam_transform(beam, ELL)
    np.testing.assert_allclose(transform, expected, atol=1e-6)
    assert beams.solid_angle_sr(beam) == pytest.approx(2 * np.pi * sigma_rad(fwhm) ** 2, rel=1e-8)
    assert beams.beam_fwhm_arcmin(beam) == pytest.approx(fwhm, rel=1e-4)
    assert beams.transform_fwhm_rad(ELL, transform) / ARCMIN == pytest.approx(fwhm, rel=1e-4)


def test_few_and_many_multipoles_agree():
    """The tabulated transform of many multipoles is the direct one to 1e-6, in any shape."""
    beam = beams.gaussian(2.2, 480e-9)
    many = beams.beam_transform(beam, ELL.reshape(2, -1))
    assert many.shape == (2, ELL.size // 2)
    np.testing.assert_allclose(many.ravel()[::50], beams.beam_transform(beam, ELL[::50]), atol=1e-6)


def test_solid_angle_of_a_wing():
    """A measured solid angle above that of the Gaussian is met to 1e-6, and the peak keeps its width to 1 %."""
    beam = beams.gaussian(2.05, 480.9e-9)
    assert beams.solid_angle_sr(beam) == pytest.approx(480.9e-9, rel=1e-6)
    assert beams.beam_fwhm_arcmin(beam) == pytest.approx(2.05, rel=0.01)
    with pytest.raises(beams.BeamError, match="300 nsr is below the .* nsr of a Gaussian of FWHM 2.05"):
        beams.gaussian(2.05, 300e-9)


def test_profile_is_zero_beyond_its_end():
    """B(0) = 1, and beyond the last radius the beam is 0."""
    beam = beams.gaussian(2.0)
    values = beams.profile_at(beam, np.array([0.0, 1.0, 1000.0]))
    np.testing.assert_allclose(values, [1.0, 0.5, 0.0], atol=1e-6)


def test_near_duplicate_radii_are_merged(tmp_path):
    """A profile in triplets of radii 0.001 arcsec apart, unsorted, with noise, is the profile of their means."""
    radius = np.arange(0, 400, 10.08)
    triplets = (radius[:, None] * [1 - 6e-5, 1.0, 1 + 6e-5]).ravel()
    noise = np.tile([-1e-3, 0.0, 1e-3], len(radius))
    fwhm = 120.0
    values = 3.0 * (np.exp(-4 * np.log(2) * (triplets / fwhm) ** 2) + noise)
    order = np.random.default_rng(1).permutation(len(triplets))
    path = write_profile(tmp_path / "b.txt", triplets[order], values[order], np.ones_like(values))
    beam = beams.read_profile(path)
    np.testing.assert_allclose(beam.radius_arcmin * 60, radius, atol=1e-9)
    assert beam.profile[0] == 1.0 and beam.error[0] == pytest.approx(1 / 3)
    assert beams.solid_angle_sr(beam) == pytest.approx(2 * np.pi * sigma_rad(2.0) ** 2, rel=2e-4)


def test_profile_that_starts_off_centre(tmp_path):
    """A profile whose first radius is 10 arcsec is continued to the centre as a parabola."""
    radius = np.arange(10.0, 400, 10)
    path = write_profile(tmp_path / "b.txt", radius, np.exp(-4 * np.log(2) * (radius / 120) ** 2))
    beam = beams.read_profile(path)
    assert beam.radius_arcmin[0] == 0 and beams.beam_fwhm_arcmin(beam) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds|expected two or more columns"),
        ("1\n2\n3\n", "expected two or more columns"),
        ("0 one\n", "cannot be read as a beam profile"),
        ("0 1\n10 nan\n20 0\n", "all finite"),
        ("-1 1\n10 .5\n20 0\n", "radius .* >= 0"),
        ("0 1\n0 1\n10 .5\n", "holds 2 distinct radii; expected at least 3"),
        ("0 0\n10 1\n20 0\n", "expected the peak at 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_faults_of_a_profile_are_named(tmp_path, text, message):
    """A profile that cannot be used is refused with its file and what is wrong."""
    path = tmp_path / "b.txt"
    path.write_text(text)
    with pytest.raises(beams.BeamError, match=message) as error:
        beams.read_profile(path)
    assert str(path) in str(error.value)


def test_missing_profile(tmp_path):
    """A profile that is not there is named."""
    with pytest.raises(beams.BeamError, match="b.txt.*cannot be read"):
        beams.read_profile(tmp_path / "b.txt")


@needs_data
@pytest.mark.parametrize(
    ("band", "fwhm", "solid_angle_nsr"),
    [("f090", 1.94, 387), ("f150", 1.30, 173), ("f220", 0.89, 87), ("f280", 0.77, 66)],
)
def test_measured_profiles_have_their_published_size(band, fwhm, solid_angle_nsr):
    """FWHM to 1 %, solid angle to 2 %: the published sums over the samples miss up to that of the peak."""
    beam = beams.read_profile(DATA / f"profile_{band}.txt")
    assert beams.beam_fwhm_arcmin(beam) == pytest.approx(fwhm, rel=0.01)
    assert beams.solid_angle_sr(beam) * 1e9 == pytest.approx(solid_angle_nsr, rel=0.02)
    assert np.diff(beam.radius_arcmin).min() > 0.1


def every_band():
    """All (instrument, array, band) of the instrument file."""
    for name, instrument in INSTRUMENTS.items():
        for array, entry in instrument["arrays"].items():
            yield from ((name, array, band) for band in entry.get("bands", instrument["bands"]))


@pytest.mark.parametrize("names", list(every_band()), ids="-".join)
def test_every_band_of_the_instrument_file_has_a_beam(names):
    """Each array's bands have a site, a centre within 15 % of their name, and a beam of their width."""
    band = beams.band_info(INSTRUMENTS, *names)
    assert band.freq_ghz == pytest.approx(float(names[2][1:]), rel=0.15)
    assert -90 <= band.latitude_deg < 0 and -180 <= band.longitude_deg <= 180 and band.height_m > 2000
    assert beams.beam_fwhm_arcmin(beams.band_beam(band)) == pytest.approx(band.fwhm_arcmin, rel=0.02)


def test_arrays_have_values_of_their_own():
    """pa5 has its measured centre and solid angle; a band it does not have is refused."""
    band = beams.band_info(INSTRUMENTS, "act", "pa5", "f090")
    assert (band.freq_ghz, band.solid_angle_sr) == (96.7, pytest.approx(480.9e-9))
    assert beams.band_solid_angle_sr(band) == pytest.approx(480.9e-9)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("sola", "i1", "f090"), "instrument 'sola' is not known; expected one of solat, sosat, act, spt"),
        (("solat", "i2", "f090"), "array of solat 'i2' is not known; expected one of i1, i3"),
        (("act", "pa5", "f220"), "band of act pa5 'f220' is not known; expected one of f090, f150"),
        (("solat", "i1", "f100"), "band of solat i1 'f100' is not known; expected one of f030"),
    ],
)
def test_unknown_names_are_refused(names, message):
    """A name that is not known is refused with those that are."""
    with pytest.raises(beams.BeamError, match=message):
        beams.band_info(INSTRUMENTS, *names)


def test_configuration_overrides_the_beam(tmp_path):
    """A number in `beams` is a FWHM, a text a profile file; either replaces a measured solid angle."""
    band = beams.band_info(INSTRUMENTS, "act", "pa5", "f090", {"f090": 3.0})
    assert (band.fwhm_arcmin, band.solid_angle_sr) == (3.0, None)
    radius = np.arange(0, 400, 10.0)
    path = write_profile(tmp_path / "b.txt", radius, np.exp(-4 * np.log(2) * (radius / 150) ** 2))
    band = beams.band_info(INSTRUMENTS, "act", "pa5", "f090", {"f090": str(path), "f150": 1.0})
    assert beams.beam_fwhm_arcmin(beams.band_beam(band)) == pytest.approx(2.5, rel=1e-3)
    assert beams.band_solid_angle_sr(band) == pytest.approx(2 * np.pi * sigma_rad(2.5) ** 2, rel=1e-3)


@pytest.mark.parametrize("value", [0, -1.0, "1e-3", True, None])
def test_values_that_are_no_positive_numbers_are_refused(value):
    """A width or centre that is not a positive number (YAML reads 1e-3 as text) names its band and key."""
    instruments = {"x": {**INSTRUMENTS["spt"], "bands": {"f090": {"freq_ghz": 95.0, "fwhm_arcmin": value}}}}
    with pytest.raises(beams.BeamError, match="x spt3g f090: fwhm_arcmin is .*; expected a positive number"):
        beams.band_info(instruments, "x", "spt3g", "f090")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected a mapping"),
        ("a: {site: {}}", "'a' has no arrays, bands"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_faults_of_an_instrument_file(tmp_path, text, message):
    """A file that is no list of instruments is refused with its name."""
    path = tmp_path / "i.yaml"
    path.write_text(text)
    with pytest.raises(beams.BeamError, match=message):
        beams.load_instruments(path)


def test_transform_of_a_wide_profile_takes_little_memory(tmp_path):
    """A profile of three degrees around a core of 1.5 arcmin has the transform of the core, in 200 MB."""
    radius = np.append(np.arange(0, 360, 2.0), np.geomspace(400, 10800, 50))
    beam = beams.read_profile(write_profile(tmp_path / "b.txt", radius, np.exp(-4 * np.log(2) * (radius / 90) ** 2)))
    ell = np.arange(0, 30000, 1000.0)
    tracemalloc.start()
    found = beams.beam_transform(beam, ell)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    np.testing.assert_allclose(found, np.exp(-0.5 * (ell * sigma_rad(1.5)) ** 2), atol=1e-6)
