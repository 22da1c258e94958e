"""Reading of maps: every form gives the same sky, every fault is a MapError that names file, found, expected, cure."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sotrplib import beams, boxes, geometry, ingest, mapindex, maps, store, units

DATA = Path(__file__).parents[2] / "shared" / "data"
BAND = beams.BandInfo(90.0, 2.2, solid_angle_sr=1e-7)
SHAPE, CAR = geometry.make_car(10.0, -5.0, 2.0, 1.5, 2.0)
T_REF = 1763085600
MJY_PER_SR = units.intensity_factor("uK", 90.0)

needs_nights = pytest.mark.skipif(not (DATA / "nights").is_dir(), reason="the maps of ../shared/data are not here")


def save(path, values, unit=None, wcs=CAR, **cards):
    header = wcs.to_header() if wcs is not None else fits.Header()
    if unit:
        header["BUNIT"] = unit
    header.update(cards)
    fits.writeto(path, values, header, overwrite=True)
    return str(path)


@pytest.fixture
def sky(rng):
    """Signal, and its error with an unobserved corner (error 0)."""
    error = np.full(SHAPE, 2.0, np.float32)
    error[:5, :7] = 0
    return rng.normal(0, 3, SHAPE).astype(np.float32), error


@pytest.fixture
def files(tmp_path, sky):
    """Write an intensity map in uK with its ivar; returns a function that overrides files or cells of its row."""
    signal, error = sky
    ivar = np.divide(1, error**2, out=np.zeros(SHAPE, np.float32), where=error > 0)
    row = dict.fromkeys(mapindex.COLUMNS, "") | {
        "map_id": f"solat_i1_f090_{T_REF}",
        "instrument": "solat",
        "array": "i1",
        "band": "f090",
        "form": "intensity_ivar",
        "map_path": save(tmp_path / "map.fits", signal, "uK"),
        "weight_path": save(tmp_path / "ivar.fits", ivar, "uK^-2"),
    }

    def change(**cells):
        for name, value in cells.items():
            if isinstance(value, tuple):
                cells[name] = save(tmp_path / f"{name}.fits", *value)
        return row | cells

    return change


def spoil(values, **pixels):
    """A copy with single pixels changed."""
    values = values.copy()
    for value, (y, x) in pixels.items():
        values[y, x] = float(value.replace("minus_", "-"))
    return values


def test_intensity_and_ivar_become_mjy_per_sr(files, sky):
    """uK and uK^-2 become mJy/sr and its inverse square to float32, with 0 where unobserved."""
    found = ingest.read_map(files(), BAND)
    signal, error = sky
    observed = error > 0
    assert found.form == "intensity_ivar" and found.time is None
    assert found.signal.dtype == found.weight.dtype == np.float32
    np.testing.assert_allclose(found.signal[observed], signal[observed] * MJY_PER_SR, rtol=1e-6)
    np.testing.assert_allclose(found.weight[observed], (error[observed] * MJY_PER_SR) ** -2, rtol=1e-6)
    assert not found.signal[~observed].any() and not found.weight[~observed].any()
    assert found.info.info["n_sanitised"] == 0 and found.info.freq_ghz == 90.0


@pytest.mark.parametrize("blank", [0.0, np.nan])
def test_only_the_observed_rows_and_columns_are_read(files, sky, blank):
    """A small map in the middle of unobserved sky, of weight 0 or NaN, is cut to its own rows and columns."""
    signal, error = sky
    inside = np.zeros(SHAPE, bool)
    inside[10:30, 20:50] = True
    inside[10, 20] = False
    ivar = np.where(inside, 0.25, blank).astype("f4")
    given = files(weight_path=(ivar, "uK^-2"), time_path=(np.where(inside, 60.0, 0).astype("f4"), "s"))
    found = ingest.read_map(given, BAND)
    assert found.signal.shape == found.weight.shape == found.time.shape == found.wcs.array_shape == (20, 30)
    np.testing.assert_allclose(found.signal[inside[10:30, 20:50]], signal[inside] * MJY_PER_SR, rtol=1e-6)
    np.testing.assert_allclose(geometry.pix2sky(found.wcs, 0, 0), geometry.pix2sky(CAR, 10, 20), rtol=1e-12)
    assert np.count_nonzero(found.weight) == np.count_nonzero(np.isfinite(found.time)) == 599


@pytest.mark.parametrize("unit", ["K", "mK", "MJy/sr", "Jy/beam"])
def test_the_unit_of_a_file_does_not_matter(files, sky, unit):
    """The same sky in another unit reads as the same map, from BUNIT or from the table."""
    signal, error = sky
    scale = MJY_PER_SR / units.intensity_factor(unit, 90.0, beam_area_sr=BAND.solid_angle_sr)
    ivar = np.divide(1, (error * scale) ** 2, out=np.zeros(SHAPE, np.float32), where=error > 0)
    expected = ingest.read_map(files(), BAND)
    for bunits, column in (([unit], [f"({unit})^-2"]), ""), (([], []), unit):
        row = files(map_path=(signal * np.float32(scale), *bunits[0]), weight_path=(ivar, *bunits[1]), unit=column)
        found = ingest.read_map(row, BAND)
        np.testing.assert_allclose(found.signal, expected.signal, rtol=1e-5)
        np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-5)


def test_bunit_of_the_weight_may_differ(files, sky):
    """A map in uK with its ivar in K^-2 is understood; an ivar that repeats the BUNIT of the map as well."""
    ivar = np.where(sky[1] > 0, 0.25, 0).astype(np.float32)
    expected = ingest.read_map(files(), BAND).weight
    for weight in ((ivar * np.float32(1e12), "K^-2"), (ivar, "uK")):
        np.testing.assert_allclose(ingest.read_map(files(weight_path=weight), BAND).weight, expected, rtol=1e-5)


def test_all_forms_of_a_filtered_map_agree(files, sky):
    """rho + kappa, flux + snr and flux + rms of one sky, in mJy or Jy, give the same rho and kappa."""
    flux, error = sky
    observed = error > 0
    kappa = np.divide(1, error**2, out=np.zeros(SHAPE, np.float32), where=observed)
    forms = {
        "rho_kappa": ((flux * kappa * 1e3, "1/Jy"), (kappa * 1e6, "Jy^-2")),
        "flux_rms": ((np.where(observed, flux, np.nan) / 1e3, "Jy/beam"), (np.where(observed, error, np.nan), "mJy")),
        "flux_snr": ((flux * observed, "mJy"), (np.divide(flux, error, out=np.zeros(SHAPE), where=observed),)),
    }
    for form, (signal, weight) in forms.items():
        found = ingest.read_map(files(form=form, map_path=signal, weight_path=weight), BAND)
        assert found.form == "filtered", form
        np.testing.assert_allclose(found.signal, flux * kappa, rtol=1e-5, err_msg=form)
        np.testing.assert_allclose(found.weight, kappa, rtol=1e-5, err_msg=form)


def test_gain_calibrates_flux_and_error_alike(files, sky):
    """A gain of 1.1 makes fluxes and errors 1.1 times larger and leaves the SNR, in every form."""
    flux, error = np.where(sky[1] > 0, sky[0], 0), sky[1]
    kappa = np.divide(1, error**2, out=np.zeros(SHAPE, np.float32), where=error > 0)
    snr = flux * np.sqrt(kappa)
    forms = {
        "rho_kappa": ((flux * kappa, "1/mJy"), (kappa, "1/mJy^2")),
        "flux_rms": ((flux, "mJy"), (error, "mJy")),
        "flux_snr": ((flux, "mJy"), (snr,)),
    }
    for form, (signal, weight) in forms.items():
        found = ingest.read_map(files(form=form, map_path=signal, weight_path=weight, gain="1.1"), BAND)
        good = found.weight > 0
        np.testing.assert_allclose(found.signal[good] / found.weight[good], 1.1 * flux[good], rtol=1e-5, err_msg=form)
        np.testing.assert_allclose(found.signal[good] / found.weight[good] ** 0.5, snr[good], rtol=1e-5, err_msg=form)
    raw, plain = ingest.read_map(files(gain="1.1"), BAND), ingest.read_map(files(), BAND)
    np.testing.assert_allclose(raw.signal, 1.1 * plain.signal, rtol=1e-6)
    np.testing.assert_allclose(raw.weight, plain.weight / 1.21, rtol=1e-6)


def test_zero_flux_by_chance_keeps_its_error(files):
    """flux + snr: a single 0 among observed pixels takes the kappa around it; a hole of zeros stays unobserved."""
    flux = np.full(SHAPE, 3.0, np.float32)
    flux[10, 10] = flux[20:23, 20:22] = flux[0, 0] = 0
    found = ingest.read_map(files(form="flux_snr", map_path=(flux, "mJy"), weight_path=(flux / 2,)), BAND)
    assert found.weight[10, 10] == pytest.approx(0.25) and found.signal[10, 10] == 0
    assert not found.weight[20:23, 20:22].any() and found.weight[0, 0] == 0


def test_flux_and_snr_that_contradict_each_other_are_unobserved(files):
    """A pixel whose flux and SNR differ in sign, or of which one alone is 0, has no error and is unobserved."""
    flux, snr = np.full(SHAPE, 3.0), np.full(SHAPE, 1.5)
    snr[4, 4], snr[5, 5], flux[6, 6] = -1.5, 0, 0
    found = ingest.read_map(files(form="flux_snr", map_path=(flux, "mJy"), weight_path=(snr,)), BAND)
    assert not found.weight[[4, 5, 6], [4, 5, 6]].any() and found.info.info["n_sanitised"] == 1


def test_unusable_pixels_become_unobserved(files, sky):
    """NaN and inf in the map, NaN, inf and negative ivar: weight 0, signal 0, counted; all else is untouched."""
    signal = spoil(sky[0], nan=(10, 10), inf=(11, 11), minus_inf=(12, 12))
    ivar = spoil(np.full(SHAPE, 0.25, np.float32), nan=(20, 20), inf=(21, 21), minus_1=(22, 22))
    found = ingest.read_map(files(map_path=(signal, "uK"), weight_path=(ivar, "uK^-2")), BAND)
    bad = np.zeros(SHAPE, bool)
    bad[[10, 11, 12, 20, 21, 22], [10, 11, 12, 20, 21, 22]] = True
    np.testing.assert_array_equal(found.weight == 0, bad)
    assert not found.signal[bad].any() and np.isfinite(found.signal).all()
    assert found.info.info["n_sanitised"] == 6


def test_numbers_beyond_float32_become_unobserved(files):
    """A float64 sentinel of 1e300 and a vanishing rms are unobserved, not infinite."""
    flux, rms = np.full(SHAPE, 3.0), np.full(SHAPE, 2.0)
    flux[4, 4], rms[5, 5], rms[6, 6] = 1e300, 1e-300, 1e-30
    found = ingest.read_map(files(form="flux_rms", map_path=(flux, "mJy"), weight_path=(rms, "mJy")), BAND)
    assert not found.weight[[4, 5, 6], [4, 5, 6]].any() and np.isfinite(found.weight).all()


@pytest.mark.parametrize("axes", [(3,), (1, 1), (2, 1)])
def test_the_first_plane_of_a_stack_is_used(files, sky, axes):
    """Of [T, Q, U], or of Stokes and frequency axes, T is read, with the sky of the first two axes."""
    stack = np.full((*axes, *SHAPE), -99.0, np.float32)
    stack[(0,) * len(axes)] = sky[0]
    found = ingest.read_map(files(map_path=(stack, "uK")), BAND)
    np.testing.assert_array_equal(found.signal, ingest.read_map(files(), BAND).signal)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2"])
def test_number_formats(files, dtype):
    """float32, float64 and scaled integers give native float32."""
    values = np.rint(np.linspace(-90, 100, SHAPE[0] * SHAPE[1])).reshape(SHAPE)
    cards = {"BSCALE": 0.5, "BZERO": 10.0} if dtype == ">i2" else {}
    row = files(map_path=(values.astype(dtype), "uK"))
    with fits.open(row["map_path"], mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header.update(cards)
    found = ingest.read_map(row, BAND).signal / MJY_PER_SR
    expected = values * cards.get("BSCALE", 1) + cards.get("BZERO", 0)
    observed = found != 0
    assert found.dtype == np.float32 and observed.mean() > 0.9
    np.testing.assert_allclose(found[observed], expected[observed], rtol=1e-5)


def test_image_in_an_extension(files, sky, tmp_path):
    """A map whose primary HDU is empty is found in the first extension that holds an image."""
    path = tmp_path / "ext.fits"
    image = fits.ImageHDU(sky[0], CAR.to_header())
    image.header["BUNIT"] = "uK"
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    found = ingest.read_map(files(map_path=str(path)), BAND)
    np.testing.assert_array_equal(found.signal, ingest.read_map(files(), BAND).signal)


@pytest.mark.parametrize("projection", ["TAN", "SIN"])
def test_survey_images(files, sky, projection):
    """TAN and SIN images of flux and rms keep their sky."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [359.9, -30.0], [25.0, 20.0], [-0.01, 0.01]
    error = np.full(SHAPE, 2.0, np.float32)
    row = files(form="flux_rms", map_path=(sky[0], "Jy/beam", wcs), weight_path=(error, "Jy/beam", wcs))
    found = ingest.read_map(row, BAND)
    x, y = wcs.wcs_world2pix(0.1, -29.9, 0)
    np.testing.assert_allclose(geometry.sky2pix(found.wcs, 0.1, -29.9), [y, x], atol=1e-8)
    assert found.weight.max() == pytest.approx(2.5e-7)


def box_of(width):
    return {"ra_min_deg": 9.8, "ra_max_deg": 9.8 + width, "dec_min_deg": -5.2, "dec_max_deg": -4.8}


def test_box_cuts_identical_pixels(files, sky):
    """A box with its margin gives exactly the pixels of the whole map there, times and sky included."""
    time = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE) + 1
    row = files(time_path=(time, "s"))
    whole = ingest.read_map(row, BAND)
    part = ingest.read_map(row, BAND, box=box_of(0.5), margin_arcmin=6.0)
    window = boxes.find_slices(SHAPE, whole.wcs, box_of(0.5), 6.0)
    assert part.signal.size < whole.signal.size / 2 and part.signal.shape == part.wcs.array_shape
    for name in ("signal", "weight", "time"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[window])
    np.testing.assert_allclose(
        geometry.pix2sky(part.wcs, 0, 0), geometry.pix2sky(whole.wcs, *(s.start for s in window))
    )


def times(files, values, *, info=None, cards=None, tmp_path=None, **cells):
    if info is not None:
        store.write_info(tmp_path / "info.hdf", info)
        cells["info_path"] = str(tmp_path / "info.hdf")
    row = files(time_path=(np.full(SHAPE, values, np.float32 if values < 1e8 else np.float64), "s"), **cells)
    with fits.open(row["time_path"], mode="update") as hdus:
        hdus[0].header.update(cards or {})
        hdus[0].data[0, 0] = 0
        hdus[0].data[0, 1] = np.nan
    found = ingest.read_map(row, BAND)
    assert np.isnan(found.time[0, :2]).all() and found.time.dtype == np.float32
    return found.info.t_ref_unix_s, found.time[3, 3]


def test_times_are_relative_to_the_reference(files, tmp_path):
    """The reference is that of the table, else of info.hdf, else TREF, else of the name; 0 and NaN are unknown."""
    info = {"t": T_REF + 50.0}
    assert times(files, 7.0) == (T_REF, 7)
    assert times(files, 7.0, cards={"TREF": T_REF + 20.0}) == (T_REF + 20, 7)
    assert times(files, 7.0, info=info, tmp_path=tmp_path) == (T_REF + 50, 7)
    assert times(files, 7.0, time_unix_s=str(T_REF + 5)) == (T_REF + 5, 7)


def test_times_keep_their_own_zero(files, tmp_path):
    """A time map counts from the TREF of its file, else the t of info.hdf, whatever the reference of the map."""
    info = {"t": T_REF + 50.0}
    assert times(files, 7.0, info=info, tmp_path=tmp_path, time_unix_s=str(T_REF)) == (T_REF, 57)
    cards = {"TREF": T_REF + 30.0}
    assert times(files, 7.0, info=info, tmp_path=tmp_path, cards=cards) == (T_REF + 50, -13)


def test_absolute_times(files):
    """Unix seconds are recognised by their size and keep their fractions of a second."""
    assert times(files, T_REF + 12.5) == (T_REF, 12.5)


def test_info_files_of_act_and_so(files, tmp_path, caplog):
    """info.hdf of ACT (array pa5_f090, bytes) and of old SO maps (a detector set) are read; a wrong array is told."""
    period = np.array([T_REF, T_REF + 600.0])
    for label, warns in (("i1_f090", 0), ("pa5_f090", 1), ("ufm_mv12", 1), ("mv12", 0)):
        caplog.clear()
        store.write_info(tmp_path / "i.hdf", {"t": T_REF + 1.0, "array": label, "period": period, "ids": ["a", "b"]})
        found = ingest.read_map(files(info_path=str(tmp_path / "i.hdf")), BAND).info
        assert (found.t_ref_unix_s, found.duration_s, found.info["ids"]) == (T_REF + 1, 600, ["a", "b"])
        assert len(caplog.records) == warns


def faulty_header(**cards):
    """A header alone, with the stated cards."""
    header = fits.PrimaryHDU(np.zeros((1, 1), np.float32), CAR.to_header()).header
    header.update({"BUNIT": "uK"} | cards)
    return header.tostring().encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable FITS image"),
        (b"this is no FITS file\n" * 300, "not a readable FITS image"),
        (
            faulty_header(NAXIS1=1_000_000, NAXIS2=1_000_000),
            "is truncated: the header promises 40000000[0-9]{5} bytes, found",
        ),
        (faulty_header(NAXIS1=10**15, NAXIS2=10**15), "is truncated|not a readable FITS image"),
        (faulty_header(NAXIS1=0, NAXIS2=5), "not a readable|expected pixels"),
        (faulty_header(BITPIX=7), "has BITPIX 7; expected 8, 16"),
    ],
)
def test_files_that_are_no_map(files, tmp_path, content, message):
    """Empty, foreign and corrupt files, and a header that promises 1e12 pixels, are refused before any allocation."""
    path = tmp_path / "bad.fits"
    path.write_bytes(content)
    for name in ("map_path", "weight_path", "time_path"):
        with pytest.raises(maps.MapError, match=message) as error:
            ingest.read_map(files(**{name: str(path)}), BAND)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["map_path", "weight_path"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_files(files, name, share):
    """A file cut short says how many bytes it should have; the cure is to fetch it again."""
    row = files()
    content = Path(row[name]).read_bytes()
    end = 2880 + int(share * np.prod(SHAPE) * 4)
    Path(row[name]).write_bytes(content[:end])
    with pytest.raises(maps.MapError, match=f"{name[:4].replace('weig', 'ivar')}.*truncated: .* found {end}; fetch"):
        ingest.read_map(row, BAND)


def test_compressed_files(files, sky, tmp_path):
    """A compressed file is refused with the way to unpack it."""
    path = tmp_path / "map.fits.gz"
    save(path, sky[0], "uK")
    with pytest.raises(maps.MapError, match=r"is compressed; .* gunzip"):
        ingest.read_map(files(map_path=str(path)), BAND)


def no_sky(header_cards):
    wcs = CAR.deepcopy()
    for name, value in header_cards.items():
        setattr(wcs.wcs, name, value)
    return wcs


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"map_path": "gone.fits"}, "gone.fits: no such file; correct the map table"),
        ({"weight_path": ""}, "no such file"),
        ({"info_path": "gone.hdf"}, "gone.hdf: no such file.*or leave info_path empty"),
        (
            {"weight_path": (np.ones((5, 5)), "uK^-2")},
            r"weight_path.fits: shape \(5, 5\); expected \(45, 60\) as in .*map.fits",
        ),
        ({"time_path": (np.ones((45, 61)), "s")}, r"time_path.fits: shape \(45, 61\); expected \(45, 60\)"),
        ({"weight_path": (np.ones(7), "uK^-2")}, "holds no image; expected two or more axes"),
        ({"map_path": (np.full(SHAPE, np.nan), "uK")}, "none of 2700 pixels is observed; .* leave the map out"),
        ({"map_path": (np.zeros(SHAPE), "uK")}, "all 2665 observed pixels are 0; expected a signal"),
        ({"weight_path": (np.zeros(SHAPE), "uK^-2")}, "none of 2700 pixels is observed"),
        ({"weight_path": (np.full(SHAPE, -np.inf), "uK^-2")}, "none of 2700 pixels is observed"),
        ({"map_path": (np.ones(SHAPE),)}, "map_path.fits: no BUNIT in the header; .*`unit` column of the map table"),
        ({"map_path": (np.ones(SHAPE), "furlong")}, "map_path.fits: unit 'furlong' is not known; expected one of K"),
        ({"map_path": (np.ones(SHAPE),), "unit": "furlong"}, "unit 'furlong' is not known"),
        ({"map_path": (np.ones(SHAPE), "uK^-2")}, r"unit 'uK\^-2'; expected uK\^1: correct BUNIT or `form`"),
        ({"weight_path": (np.ones(SHAPE), "uK^2")}, r"unit 'uK\^2'; expected uK\^-2"),
        ({"map_path": (np.ones(SHAPE), "Jy")}, "unit 'Jy' is no intensity; .* form is intensity_ivar"),
        ({"form": "flux_rms", "weight_path": (np.ones(SHAPE), "uK")}, "unit 'uK' is no flux; .* form is flux_rms"),
        ({"form": "image"}, "form 'image'; expected one of intensity_ivar"),
        ({"map_path": (np.ones(SHAPE), "uK", None)}, "has no usable WCS .*; correct the header"),
        ({"map_path": (np.ones(SHAPE), "uK", no_sky({"ctype": ["GLON-CAR", "GLAT-CAR"]}))}, "is in GLON .*: reproject"),
        (
            {"map_path": (np.ones(SHAPE), "uK", no_sky({"radesys": "FK4"}))},
            "is in RA FK4; expected RA, Dec in ICRS or FK5",
        ),
        (
            {"map_path": (np.ones(SHAPE), "uK", no_sky({"crpix": [1, -3000]}))},
            "has rows beyond the pole or off the sky",
        ),
        (
            {"weight_path": (np.ones(SHAPE), "uK^-2", no_sky({"crpix": [9, 9]}))},
            "pixels off .*map.fits; expected the same",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_faults_of_a_map_are_named(files, cells, message):
    """Each fault is a MapError with file, found, expected and cure."""
    with pytest.raises(maps.MapError, match=message):
        ingest.read_map(files(**cells), BAND)


def test_box_off_the_map(files):
    """A box that misses the map, or holds no data, fails this map alone."""
    with pytest.raises(maps.MapError, match="map.fits: box .* does not touch the map"):
        ingest.read_map(files(), BAND, box=box_of(0.1) | {"dec_max_deg": 50.0, "dec_min_deg": 49.0})
    weight = np.zeros(SHAPE)
    weight[-3:] = 1
    with pytest.raises(maps.MapError, match="inside the box: none of"):
        ingest.read_map(files(weight_path=(weight, "uK^-2")), BAND, box=box_of(0.1), margin_arcmin=0)


def test_units_per_beam_without_a_beam(files):
    """Jy/beam needs a solid angle."""
    with pytest.raises(maps.MapError, match="needs the solid angle of the beam"):
        ingest.read_map(files(map_path=(np.ones(SHAPE), "Jy/beam")), beams.BandInfo(90.0, 2.2))


def test_bunit_wins_over_the_table_and_says_so(files, caplog):
    """Where BUNIT and the table disagree BUNIT is used, with a warning."""
    expected = ingest.read_map(files(), BAND).signal
    caplog.clear()
    np.testing.assert_array_equal(ingest.read_map(files(unit="K"), BAND).signal, expected)
    assert "BUNIT uK is used, not K" in caplog.text


@needs_nights
def test_depth1_maps_read_as_one_kind():
    """Maps in uK and K, T-only and [T, Q, U], from another simulator have the same scale, times and sky."""
    rows = mapindex.discover_depth1(DATA / "nights", "solat")
    assert len(rows) == 9
    for row in rows[::3]:
        found = ingest.read_map(row, BAND)
        observed = found.weight > 0
        assert found.signal.shape == (480, 720) and 0.5 < observed.mean() < 1
        np.testing.assert_array_equal(np.isfinite(found.time), observed)
        assert np.nanmin(found.time) >= 0 and np.nanmax(found.time) <= found.info.duration_s
        assert found.info.t_ref_unix_s == int(row["map_id"].split("_")[-1])
        assert 1 < np.std(found.signal[observed] * np.sqrt(found.weight[observed])) < 3
        assert geometry.pix2sky(found.wcs, 240, 360) == (pytest.approx(6.9), pytest.approx(-10.5))


@needs_nights
def test_depth1_maps_cut_by_a_box():
    """A box of a depth-1 map is identical to the same pixels of the whole."""
    row = mapindex.discover_depth1(DATA / "nights", "solat")[0]
    box = {"ra_min_deg": 6.0, "ra_max_deg": 7.0, "dec_min_deg": -11.0, "dec_max_deg": -10.0}
    whole, part = ingest.read_map(row, BAND), ingest.read_map(row, BAND, box=box)
    window = boxes.find_slices(whole.signal.shape, whole.wcs, box, 60)
    for name in ("signal", "weight", "time"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[window])


def test_window_is_read_exactly(files, sky):
    """A window of the files is that part of the map as read whole, unobserved rims and all."""
    whole = ingest.read_map(files(), BAND)
    window = slice(2, 9), slice(3, 20)
    part = ingest.read_map(files(), BAND, window=window)
    for name in ("signal", "weight"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[window])
    assert geometry.pix2sky(part.wcs, 0, 0) == geometry.pix2sky(whole.wcs, 2, 3)


def test_survey_tells_what_reading_would(files, sky, monkeypatch):
    """Looked through by blocks of rows, a map has the window, the bad pixels and the weights that it has when read."""
    monkeypatch.setattr(ingest, "_SURVEY_ROWS", 7)
    signal, error = sky
    weight = np.where(error > 0, error**-2.0, 0).astype("f4")
    weight[:, : SHAPE[1] // 2] = weight[:10] = 0
    signal[20, -4] = np.nan
    row = files(map_path=(signal, "uK"), weight_path=(weight, "uK^-2"))
    window = ingest.find_window(row)
    found, read = ingest.survey(row, BAND, window), ingest.read_map(row, BAND)
    assert geometry.window_shape(window) == SHAPE
    assert found.window == (slice(10, SHAPE[0]), slice(SHAPE[1] // 2, SHAPE[1]))
    assert geometry.window_shape(found.window) == read.signal.shape
    assert found.n_sanitised == read.info.info["n_sanitised"] == 1
    np.testing.assert_array_equal(np.sort(found.weights), np.sort(read.weight[read.weight > 0]))
    coarse = ingest.survey(row, BAND, window, grid=5).weights
    assert len(coarse) == np.count_nonzero(np.nan_to_num(read.weight)[:, (-(SHAPE[1] // 2)) % 5 :: 5][::5])


@pytest.mark.parametrize(
    ("change", "message"), [(lambda v: v * 0, "none of .* pixels is observed"), (lambda v: v - 9, "none of .* pixels")]
)
def test_survey_of_nothing_is_the_error_of_reading_nothing(files, sky, change, message):
    """No positive weight is the same error from a look through the files as from reading them."""
    row = files(weight_path=(change(np.ones(SHAPE, "f4")), "uK^-2"))
    for read in (lambda: ingest.read_map(row, BAND), lambda: ingest.survey(row, BAND, ingest.find_window(row))):
        with pytest.raises(maps.EmptyMapError, match=message):
            read()
