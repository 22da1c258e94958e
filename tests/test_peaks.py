"""Search of s for point sources: what is a source, and what a brighter one has left."""

import numpy as np
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_filtered_sky, make_sky_map, make_template
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.stats import norm

from sotrplib import peaks, positions
from sotrplib import template as templates

OPTIONS = {"snr_min": 5.0, "min_separation_fwhm": 0.5, "template_err": 0.02, "chi2_max": 3.0}
FWHM_PIX = 2.0 * np.sqrt(2) / 0.5


def search(image, template, **options):
    skymap = make_sky_map(image.astype("f4"), template)
    return peaks.search(peaks.make_field(skymap, skymap.rho, OPTIONS | options)).peaks


def completeness(snr, threshold=5.0):
    """Part of sources of ``snr`` whose s^2 in place, plus chi^2 of two coordinates, is above the threshold squared."""
    z = np.linspace(-7, 7, 4001)
    missing = np.clip(threshold**2 - np.maximum(snr + z, 0) ** 2, 0, None)
    return np.trapezoid(norm.pdf(z) * np.exp(-missing / 2), z)


def test_completeness_is_that_of_theory(rng):
    """At SNR 4.5, 5 and 6 the part found is within 0.045 of the Gaussian expectation (1200 sources each)."""
    sky = make_filtered_sky((1200, 1200), rng, [4.5, 5.0, 6.0], spacing_pix=20, knee=0.0)
    found = search(sky.s, sky.template)
    distance, _ = cKDTree(np.stack(found[:2], 1)).query(np.stack([sky.y, sky.x], 1))
    for snr in (4.5, 5.0, 6.0):
        assert np.mean(distance[sky.snr == snr] < 3) == pytest.approx(completeness(snr), abs=0.045)


def test_false_alarms_are_those_of_gaussian_noise(rng):
    """On an empty sky maxima above 4.5 are as many as expected (about 80), within 30 %."""
    template, count, expected = make_template(n_rows=2048, fwhm_arcmin=0.9), 0, 0.0
    for _ in range(2):
        noise = filtered_noise((2048, 2048), rng, fwhm_arcmin=0.9)
        count += len(search(noise, template, snr_min=4.5).y)
        det = np.linalg.det(templates.pixel_curvature(template, [0.0])[0])
        expected += noise.size * np.sqrt(det) * 4.5 * np.exp(-(4.5**2) / 2) / (2 * np.pi) ** 1.5
    assert count / expected == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("snr", [30.0, 200.0, 5000.0])
@pytest.mark.parametrize("knee", [0.0, 0.05])
def test_the_ring_of_a_bright_source_is_no_source(rng, snr, knee):
    """A source of SNR 30 to 5000 is one detection, its ring of -10 % and what follows it none."""
    image = filtered_noise((256, 256), rng, knee=knee) + filtered_sources(
        (256, 256), [128.3], [127.6], [snr], knee=knee
    )
    found = search(image, make_template(n_rows=256, knee=knee))
    assert len(found.y) == 1
    assert found.s_max == pytest.approx([snr], abs=4)


def test_a_wrong_beam_makes_no_sources_around_a_bright_one(rng):
    """With a beam 3 % too narrow a source of SNR 500 is still one detection."""
    source = filtered_sources((256, 256), [128.3], [127.6], [500.0], fwhm_arcmin=2.06)
    assert len(search(filtered_noise((256, 256), rng) + source, make_template(n_rows=256)).y) == 1


@pytest.mark.parametrize(
    ("heights", "separation_fwhm"),
    [((20.0, 40.0), 0.6), ((20.0, 40.0), 1.0), ((40.0, 40.0), 0.6), ((40.0, 40.0), 0.75), ((15.0, 150.0), 1.5)],
)
def test_close_sources_are_separated(rng, heights, separation_fwhm):
    """Two sources 0.6 FWHM apart or more are two detections with the right heights; of 1:10, from 1.5 FWHM on."""
    y, x = np.array([60.2, 60.2 + separation_fwhm * FWHM_PIX * np.sin(0.7)]), np.array([64.4, 64.4])
    x[1] += separation_fwhm * FWHM_PIX * np.cos(0.7)
    image = filtered_noise((128, 128), rng) + filtered_sources((128, 128), y, x, heights)
    found = search(image, make_template(n_rows=128))
    assert len(found.y) == 2
    order = np.argsort(found.y)
    assert found.y[order] == pytest.approx(y, abs=0.9)
    assert found.s_max[order] == pytest.approx(heights, abs=6)


def test_a_source_in_the_ring_of_a_brighter_one_is_found(rng):
    """A source of SNR 8 where a template of SNR 60 takes 6 from it is found at its own height."""
    template = make_template(n_rows=160, knee=0.05)
    middle = template.values[0][40]
    ring = 40 + int(np.argmin(middle[40:]))
    assert middle[ring] < -0.05
    y, x = [80.0, 80.0], [60.0, 60.0 + ring - 40]
    image = filtered_sources((160, 160), y, x, [60.0, 8.0], knee=0.05)
    assert image[80, 60 + ring - 40] < 5
    found = search(image + 0.3 * filtered_noise((160, 160), rng, knee=0.05), template)
    assert len(found.y) == 2
    assert found.s_max.min() == pytest.approx(8, abs=1.5)


def test_an_extended_source_stays_in_one_piece(rng):
    """A source twice as wide as the template is one detection, not a heap of templates."""
    image = np.zeros((200, 200))
    image[100, 100] = 1
    image = gaussian_filter(image, 5.0)
    image *= 60 / image.max()
    found = search(image + filtered_noise((200, 200), rng), make_template(n_rows=200))
    assert len(found.y) == 1
    assert found.y == pytest.approx([100], abs=1)


def test_no_source_is_found_twice(rng):
    """On a crowded sky of random sources no two detections are within half a FWHM."""
    y, x = rng.uniform(10, 500, (2, 500))
    snr = 10 ** rng.uniform(0.5, 2.5, 500)
    image = filtered_noise((512, 512), rng) + filtered_sources((512, 512), y, x, snr)
    found = search(image, make_template(n_rows=512))
    assert len(found.y) > 200
    assert not len(positions.close_pairs(found.y, found.x, 0.5 * FWHM_PIX - 0.05))


def test_what_a_subtracted_source_left_is_not_a_source(rng):
    """A residual of 2 % of a source of SNR 1000 is no detection where the model was taken out, and is one elsewhere."""
    template = make_template(n_rows=128)
    source = filtered_sources((128, 128), [64.0], [64.0], [1000.0])
    noise = filtered_noise((128, 128), rng)
    skymap = make_sky_map((noise + source).astype("f4"), template)
    residual = make_sky_map((noise + 0.02 * source).astype("f4"), template)
    assert not len(peaks.search(peaks.make_field(skymap, residual.rho, OPTIONS)).peaks.y)
    assert len(peaks.search(peaks.make_field(residual, residual.rho, OPTIONS)).peaks.y) == 1
