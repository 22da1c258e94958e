"""What a job imports before it does anything is part of its cost: most jobs of a small map cost little else."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import test_preprocessing

ROOT = Path(__file__).parents[1]
FITS = {"preprocess_map", "export_map", "simulate_map", "simulate_truth", "measure_recovery"}
SCIPY = {"simulate_catalog", "report"}  # and matplotlib
OTHERS = {"dump_config", "claim_maps", "read_socat", "write_mapcat"}  # yaml; clients of services
HEAVY = {"astropy", "scipy", "matplotlib", "photutils", "pixell", "numba", "yaml", "jinja2", "lxml", "jplephem"}


def imports_of(script):
    """Import statements at the top of a script."""
    body = ast.parse(script.read_text()).body
    return [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]


def loaded_by(statements):
    """Top names of all packages that a fresh Python has loaded after some statements."""
    code = "\n".join([*statements, "import sys", "print(*{name.partition('.')[0] for name in sys.modules})"])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_scripts_import_nothing_heavy():
    """Scripts other than those that read FITS, draw or call services load none of the heavy packages to begin with."""
    light = [path for path in sorted((ROOT / "scripts").glob("*.py")) if path.stem not in FITS | SCIPY | OTHERS]
    assert {"fit_pointing", "forced_photometry", "find_sources", "sift_candidates"} <= {path.stem for path in light}
    assert not loaded_by([line for path in light for line in imports_of(path)]) & HEAVY


def test_filtering_draws_nothing():
    """The script that reads FITS loads astropy, and none of the packages that only other scripts use."""
    loaded = loaded_by(imports_of(ROOT / "scripts" / "preprocess_map.py"))
    assert loaded & HEAVY == {"astropy"}


def test_package_costs_nothing():
    """`import sotrplib` loads no package but itself."""
    assert not loaded_by(["import sotrplib"]) & {"numpy", "pandas", "h5py", "snakemake"}


FILTERING = """
import numpy as np
from sotrplib import beams, convergence, ephemerides, preprocessing
from sotrplib.geometry import make_car
shape, wcs = make_car(30.0, 0.0, 2.0, 1.5, 0.5)
rng = np.random.default_rng(1)
noise, ivar, beam = rng.standard_normal(shape, np.float32), np.ones(shape, np.float32), beams.gaussian(2.2)
ivar[:5] = 0
clock = ephemerides.PixelClock(np.zeros(shape, np.float32), 1763085600.0)
ephemerides.positions_in_map({"planets": True, "tables": []}, wcs, clock, (-23.0, -67.8, 5188.0))
beam_ell = preprocessing.beam_ell(beam)
convergence.filter_converged(noise * (ivar > 0), ivar, preprocessing.map_pixels(shape, wcs), beam_ell, OPTIONS)
"""


def test_filtering_needs_no_scipy():
    """Filtering a small map far from planets loads no scipy, whose import would be a fifth of the job."""
    code = f"OPTIONS = {test_preprocessing.OPTIONS}{FILTERING}".splitlines()
    assert not loaded_by(code) & {"scipy", "matplotlib", "photutils"}
