"""The rule of confirmation, moving objects and alerts on the example nights, from maps to alerts by the workflow."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sotrplib import alerts, lightcurves, store

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
TARGETS = [f"results/{name}" for name in ("catalogs/catalog.h5", "lightcurves/lightcurves.h5", "exports/alerts.csv")]
BOX = "maps: {box: {ra_min_deg: 5.9, ra_max_deg: 8.4, dec_min_deg: -11.5, dec_max_deg: -10.1}, box_margin_arcmin: 30}\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "nights").is_dir(), reason="nights of ../shared/data are not there"),
]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Folder of a run on the middle of the nine maps, with all that happens in them."""
    folder = tmp_path_factory.mktemp("night")
    (folder / "box.yaml").write_text(BOX)
    files = [ROOT / "config" / "examples" / "depth1.yaml", folder / "box.yaml"]
    command = [sys.executable, "-m", "snakemake", *TARGETS, "--snakefile", ROOT / "Snakefile", "--cores", "2"]
    command += ["--configfile", *files, "--config", f"data_dir={DATA}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def candidates(night):
    return store.read_table(night / "results/catalogs/catalog.h5", "candidates")


def test_what_flares_and_what_is_new_is_confirmed(candidates):
    """A bright and a faint flash, a flaring catalogue source and a bright steady one are confirmed by both arrays."""
    good = candidates[candidates["confirmed"] & (candidates["n_arrays_for"] == 2)]
    flashes = good[good["class"] == "transient"].sort_values("max_snr")
    assert len(flashes) == 2 and flashes["max_snr"].iloc[0] < 15 < flashes["max_snr"].iloc[1]
    assert len(good[(good["class"] == "flare") & good["matched_name"].str.startswith("SRC")]) == 1
    assert len(good[(good["class"] == "new_source") & (good["max_snr"] > 15)]) == 1
    assert (good["p_false_survey"] < 0.1).all()


def test_artefact_of_one_array_is_not_confirmed(candidates):
    """What one array alone sees at 20 sigma is an artefact, with the other array against it."""
    found = candidates[candidates["class"] == "artefact"]
    assert len(found) == 1 and not found["confirmed"].any()
    assert (found["n_arrays_for"].iloc[0], found["n_arrays_against"].iloc[0]) == (1, 1)
    assert found["max_snr"].iloc[0] > 15


def test_nothing_else_above_the_noise_is_confirmed(candidates):
    """Everything that is confirmed has two arrays for it, so no spike of one pixel in one map."""
    confirmed = candidates[candidates["confirmed"]]
    assert (confirmed["n_arrays"] >= 2).all() and (confirmed["n_maps"] >= 2).all()
    assert not candidates["reason"].str.contains("width").any()


def test_ceres_moves_and_has_its_flux_in_every_map(night, candidates):
    """Ceres alone moves, and its light curve has its flux in every map that covers it, with a thermal spectrum."""
    moving = candidates[candidates["class"] == "moving"]
    assert moving["matched_name"].tolist() == ["(1) Ceres"] and moving["confirmed"].all()
    curve = lightcurves.read_source(night / "results/lightcurves/lightcurves.h5", "(1) Ceres")
    assert set(curve["kind"]) == {"moving"} and (curve["snr"] > 30).all() and len(curve) == moving["n_covering"].iloc[0]
    assert curve["ra_deg"].max() - curve["ra_deg"].min() > 0.2
    sources = store.read_table(night / "results/catalogs/catalog.h5", "sources").set_index("source_id")
    ceres = sources.loc["(1) Ceres"]
    assert ceres["spectral_index"] == pytest.approx(2, abs=3 * ceres["spectral_index_err"])
    assert ceres["spectral_index_err"] < 0.2


def test_fluxes_before_the_flash_are_upper_limits(night, candidates):
    """On the nights without it the bright flash has upper limits, all of them far below its flux."""
    flash = candidates[candidates["class"] == "transient"].sort_values("max_snr").iloc[-1]
    curve = lightcurves.read_source(night / "results/lightcurves/lightcurves.h5", flash["candidate_id"])
    other = curve[np.abs(curve["time_unix_s"] - flash["time_unix_s"]) > 43200]
    limits = other["upper_limit_mjy"].dropna()
    assert len(limits) >= len(other) - 1 >= 4 and (limits < 0.3 * flash["flux_mjy"]).all()


def test_alerts_are_those_of_the_confirmed(night, candidates):
    """Each confirmed candidate that does not move has one alert with both its files, the others have none."""
    told = pd.read_csv(night / "results/exports/alerts.csv")
    expected = candidates[candidates["confirmed"] & (candidates["class"] != "moving")]
    assert sorted(told["event_id"]) == sorted(expected["candidate_id"]) and set(told["kind"]) == {"initial"}
    for name in told["alert_id"]:
        assert (night / "results/alerts" / f"{name}.xml").exists() and (
            night / "results/alerts" / f"{name}.json"
        ).exists()
    assert len(alerts.read_ledger(night / "results/alerts")) == len(told)
