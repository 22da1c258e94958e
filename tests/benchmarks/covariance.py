"""The best possible flux in a scene: N^-1 by conjugate gradients, with the covariance the noise was drawn from."""

import ducc0
import numpy as np
import scenes
from scipy import fft

from sotrplib import skies, units


class Covariance:
    """N = S + sigma C sigma on the observed pixels of a scene, as a product of Fourier transforms.

    The transforms are those of the periodic sky on which the noise was drawn, so the covariance is exact.
    """

    def __init__(self, scene):
        steps = skies.pixel_steps(scene.shape, scene.wcs)
        pad = scenes.PAD_ARCMIN * units.ARCMIN
        self.drawn = [fft.next_fast_len(n + int(pad / d), real=True) for n, d in zip(scene.shape, steps, strict=True)]
        self.shape, self.observed = scene.shape, scene.ivar > 0
        self.scale = float(np.median(scene.ivar[self.observed])) ** -0.5
        sigma = np.where(self.observed, 1 / np.sqrt(np.where(self.observed, scene.ivar, 1)), 0) / self.scale
        self.sigma = sigma.astype(np.float32)
        ell_y, ell_x = skies.multipoles(self.drawn, steps)
        self.whitened = scene.spectrum(ell_y, ell_x).astype(np.float32)
        self.sky = np.zeros((1, 1), np.float32)
        if scene.cmb:
            transfer = scenes.sky_transfer(scene)(ell_y, ell_x).real
            sky = scenes.cmb_power(scene)(ell_y, ell_x) * transfer**2 / np.prod(steps) / self.scale**2
            self.sky = sky.astype(np.float32)
        self.guess = 1 / (self.whitened + self.sky)

    def solve(self, image, *, tolerance=3e-3, n_max=400):
        """N^-1 image, 0 where unobserved; ``image`` (ny, nx) in mJy/sr, the result in its inverse.

        The tolerance makes the best fluxes good to 0.3 % of their errors.
        """
        residual = np.where(self.observed, image / self.scale, 0).astype(np.float32)
        x = np.zeros_like(residual)
        direction = z = self._precondition(residual)
        rz = start = _dot(residual, z)
        for _ in range(n_max):
            product = self._apply(direction)
            step = np.float32(rz / _dot(direction, product))
            x += step * direction
            residual -= step * product
            z = self._precondition(residual)
            rz, previous = _dot(residual, z), rz
            if rz < tolerance**2 * start:
                return x / self.scale
            direction = z + np.float32(rz / previous) * direction
        raise RuntimeError(f"conjugate gradients: {rz / start:.2g} of the residual left after {n_max} steps")

    def _convolve(self, image, transfer):
        padded = np.zeros(self.drawn, np.float32)
        padded[: self.shape[0], : self.shape[1]] = image
        spectrum = ducc0.fft.r2c(padded, nthreads=0)
        spectrum *= transfer
        whole = ducc0.fft.c2r(spectrum, lastsize=self.drawn[1], inorm=2, forward=False, nthreads=0)
        return whole[: self.shape[0], : self.shape[1]]

    def _apply(self, image):
        result = self.sigma * self._convolve(self.sigma * image, self.whitened)
        if self.sky.any():
            result += np.where(self.observed, self._convolve(image, self.sky), 0)
        return result

    def _precondition(self, image):
        weight = np.divide(1, self.sigma, out=np.zeros_like(self.sigma), where=self.observed)
        return weight * self._convolve(weight * image, self.guess)


def _dot(a, b):
    return float(np.einsum("ij,ij->", a, b, dtype=np.float64))
