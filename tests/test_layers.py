"""Imports run one way, and heavy or special packages are imported in one place each."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sotrplib"

# From the ground up. A module imports from its own floor and those below it, never from above.
FLOORS = [
    [
        "units",
        "geometry",
        "boxes",
        "tables",
        "store",
        "mapindex",
        "mapgroups",
        "periods",
        "configuration",
        "provenance",
        "digests",
        "snapshots",
        "tries",
        "spools",
        "workers",
        "pacing",
        "recall",
    ],
    [
        "crossmatch",
        "outlines",
        "stamps",
        "beams",
        "interpolation",
        "inpainting",
        "autocorrelation",
        "template",
        "reading",
        "noise",
        "flatfield",
        "skies",
    ],
    [
        "maps",
        "images",
        "forms",
        "ingest",
        "versions",
        "masks",
        "maskfiles",
        "tapers",
        "sources",
        "orbits",
        "bodies",
        "positions",
        "matched_filter",
        "subtraction",
        "shapes",
        "blends",
        "overlaps",
        "peaks",
        "resampling",
        "strips",
    ],
    [
        "pointing",
        "offsets",
        "photometry",
        "selection",
        "convergence",
        "detection",
        "ephemerides",
        "preprocessing",
        "truth",
        "simulate",
    ],
    [
        "assembly",
        "injections",
        "matches",
        "stripwise",
        "sifting",
        "association",
        "revisits",
        "coadd_members",
        "coadd",
        "joint",
        "difference",
        "stacking",
        "counterparts",
        "significance",
        "movers",
        "confirmation",
        "variability",
        "spectra",
        "lightcurves",
        "summaries",
        "catalogs",
        "viewers",
        "originals",
        "exports",
        "mapexports",
    ],
    ["plots", "recovery", "report", "packets", "alerts", "logs", "stages", "convert", "plugins", "cli", "connectors"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}

# Package: the only modules that may import it.
ONLY = {"h5py": {"store"}, "hdf5plugin": {"store"}, "matplotlib": {"plots"}, "snakemake": {"cli"}}
ONLY |= {name: {"connectors"} for name in ("socat", "mapcat", "lightcurvedb", "psycopg", "sqlalchemy", "sqlmodel")}


def module_paths():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def top_name(path):
    """Name of the module, or of the subpackage it is in, below the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """Dotted names of everything a file imports, with the names taken from packages appended."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write `from sotrplib import ...`"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def own_imports(path):
    """Modules of the package that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("sotrplib.")} & set(FLOOR)


@pytest.mark.parametrize("path", module_paths(), ids=lambda path: path.stem)
def test_module_imports_from_below(path):
    """Every module has its floor and imports nothing from a higher one."""
    name = top_name(path)
    assert name in FLOOR, f"give {name} a floor in this test"
    assert {other for other in own_imports(path) if FLOOR[other] > FLOOR[name]} == set()


def test_no_module_imports_itself_in_a_circle():
    """Imports, those inside functions included, have no cycle."""
    left = {top_name(path): own_imports(path) - {top_name(path)} for path in module_paths()}
    while left:
        free = {name for name, needs in left.items() if not needs & set(left)}
        assert free, f"these import each other in a circle: {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


@pytest.mark.parametrize("package", ONLY)
def test_package_is_imported_in_one_place(package):
    """HDF5 files are opened by store, figures drawn by plots, the workflow started by cli, and nowhere else."""
    users = {top_name(path) for path in module_paths() if package in {name.split(".")[0] for name in imported(path)}}
    assert users <= ONLY[package]


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_script_only_adapts(path):
    """A script imports the library and the standard library alone, and is short."""
    tops = {name.split(".")[0] for name in imported(path)}
    assert tops - set(sys.stdlib_module_names) <= {"sotrplib", "yaml"}
    assert len(path.read_text().splitlines()) <= 45


def test_package_itself_imports_nothing():
    """Importing sotrplib costs nothing: its __init__ holds the version alone."""
    assert imported(PACKAGE / "__init__.py") == []


def test_every_rule_has_its_script():
    """Rules that run a script and scripts have the same names."""
    lines = [line.strip() for path in (ROOT / "rules").glob("*.smk") for line in path.read_text().splitlines()]
    rules = {line[5:-1] for line in lines if line.startswith("rule ")}
    assert rules == {path.stem for path in (ROOT / "scripts").glob("*.py")}
