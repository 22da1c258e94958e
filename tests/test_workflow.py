"""The workflow itself, on three maps of 1.5 degrees: what runs, what runs again, and what a bad map costs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import postgres
import pytest
from astropy.io import fits

from sotrplib import boxes, mapindex, maps, recall, store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CODE = ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "sotrplib")
STAGES = ("preprocess_map", "fit_pointing", "forced_photometry", "find_sources", "sift_candidates", "view_map")
MERGES = {
    "confirm_candidates",
    "export_alerts",
    "merge_catalogs",
    "build_lightcurves",
    "export_catalogs",
    "report",
    "dump_config",
}
MERGES |= {"check_maps"}
FIRST, SECOND, THIRD = "solat_i1_f090_1760100000", "solat_i3_f090_1760100600", "solat_i1_f090_1760186400"
OBSERVATION = "solat_joint_multi_1760186400"
KINDS = {"map_path": "map.fits", "weight_path": "ivar.fits", "time_path": "time.fits", "info_path": "info.hdf"}
SIMULATED = [f"results/simulated/{name}_map.fits" for name in (FIRST, SECOND, THIRD)] + [f"results/sifted/{FIRST}.h5"]
OBJECTS = """name,class,ra_offset_arcmin,dec_offset_arcmin,peak_mjy,peak_h,rise_h,decay_h
flash,transient,10,-12,400,0.2,1,4
"""
CONFIG = """
maps: {table: maps.csv}
search_jointly: {enabled: false}
simulate:
  objects: objects.csv
  width_deg: 1.5
  height_deg: 1.5
  n_sources: 60
  flux_min_mjy: 100.0
  n_holes: 1
"""
GIVEN = """
catalog: {path: given/catalog.csv}
ephemerides: {tables: [given/ephemeris.csv]}
"""


def snakemake(folder, *arguments, config="test.yaml"):
    """Finished process of ``snakemake`` run in a folder, its output in ``stdout``."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", config]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )


def planned(folder, *arguments):
    """What a dry run would do: set of (rule, map_id), with an empty map_id for rules of all maps."""
    done = snakemake(folder, "--dry-run", *arguments)
    assert done.returncode == 0, done.stdout
    jobs = re.findall(r"(?m)^(?:local)?rule (\w+):\n((?:    .*\n)*)", done.stdout)
    found = {(rule, (re.findall(r"map_id=(\w+)", text) or [""])[0]) for rule, text in jobs}
    assert found or "Nothing to be done" in done.stdout
    return found - {("all", "")}


def of_map(map_id, stages=STAGES):
    return {(stage, map_id) for stage in stages}


def set_together(folder):
    """Have all stages of a map in one job."""
    text = (folder / "test.yaml").read_text().replace("{table: maps.csv}", "{table: maps.csv, stages: together}")
    (folder / "test.yaml").write_text(text)


def of_stages(name):
    """Output of each stage for a map."""
    folders = ("preprocessed", "pointing", "forced_photometry", "detections", "sifted", "views")
    return [f"results/{folder}/{name}.h5" for folder in folders] + [f"results/figures/{name}.png"]


def of_all():
    return {(rule, "") for rule in MERGES}


def row(map_id, folder, **values):
    """Row of the map table for a map whose files are in ``folder``."""
    instrument, array, band, _ = map_id.split("_")
    paths = {key: f"{folder}/{map_id}_{name}" for key, name in KINDS.items()}
    labels = {"map_id": map_id, "instrument": instrument, "array": array, "band": band, "form": "intensity_ivar"}
    return dict.fromkeys(mapindex.COLUMNS, "") | labels | paths | values


def copy(folder, target):
    shutil.copytree(folder, target, symlinks=True)
    return target


def edit_pixels(path, change):
    """Rewrite a FITS file with ``change`` applied to its image and header, under a new time stamp."""
    with fits.open(path) as hdus:
        data, header = np.array(hdus[0].data), hdus[0].header
    data = change(data, header)
    fits.writeto(path, data, header, overwrite=True)


def maps_table(folder):
    return store.read_table(folder / "results/catalogs/catalog.h5", "maps").set_index("map_id")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A copy of the code with three simulated maps, one of them run through its stages."""
    folder = tmp_path_factory.mktemp("simulated") / "run"
    folder.mkdir()
    for name in CODE:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy2(source, folder)
    (folder / "objects.csv").write_text(OBJECTS)
    (folder / "test.yaml").write_text(CONFIG)
    mapindex.write_map_table(folder / "maps.csv", [row(name, "results/simulated") for name in (FIRST, SECOND, THIRD)])
    done = snakemake(folder, *SIMULATED)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def given(simulated, tmp_path_factory):
    """The same maps as files from outside, under ``given``, run to the end."""
    folder = copy(simulated, tmp_path_factory.mktemp("given") / "run")
    (folder / "results/simulated").rename(folder / "given")
    for name in ("results", ".snakemake"):
        shutil.rmtree(folder / name)
    (folder / "test.yaml").write_text(CONFIG + GIVEN)
    mapindex.write_map_table(folder / "maps.csv", [row(name, "given") for name in (FIRST, SECOND, THIRD)])
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def run(given, tmp_path):
    """A finished run to change."""
    return copy(given, tmp_path / "run")


# ---- what a run makes ------------------------------------------------------------------------------------------------


def test_transient_is_found_and_confirmed(given):
    """The one flash of the simulated sky is the one candidate, confirmed by the two arrays of the first night."""
    candidates = store.read_table(given / "results/catalogs/catalog.h5", "candidates")
    assert candidates["confirmed"].tolist() == [True]
    assert candidates["n_arrays"].tolist() == [2]


def test_every_map_is_in_the_catalogue(given):
    """All three maps are listed as ok, and each measured known sources."""
    maps = maps_table(given)
    assert maps["status"].tolist() == ["ok"] * 3
    assert (maps["n_forced"] > 3).all()


def test_stages_together_make_the_same_files(run):
    """One job for all stages of a map makes the bytes that the six jobs made, and each stage has its log."""
    made = of_stages(FIRST)
    apart = {path: (run / path).read_bytes() for path in made}
    for path in made:
        (run / path).unlink()
    set_together(run)
    done = snakemake(run, *made)
    assert done.returncode == 0 and "rule process_map" in done.stdout, done.stdout
    assert "rule fit_pointing" not in done.stdout
    assert [path for path in made if (run / path).read_bytes() != apart[path]] == []
    logs = [(run / "results/logs" / stage / f"{FIRST}.log").read_text() for stage in (*STAGES, "process_map")]
    assert all("used " in log for log in logs) and "convergence" in logs[0]


def test_scripts_of_stages_together_are_followed(run):
    """An edit of the script of a stage, or of a module that only it uses, runs the one job of each map again."""
    set_together(run)
    done = snakemake(run, *(path for name in (FIRST, SECOND, THIRD) for path in of_stages(name)), "--touch")
    assert done.returncode == 0, done.stdout
    before = {job for job in planned(run) if job[0] == "process_map"}
    with open(run / "scripts/fit_pointing.py", "a") as file:
        file.write("# edited\n")
    after = {job for job in planned(run) if job[0] == "process_map"}
    assert before == set() and after == {("process_map", name) for name in (FIRST, SECOND, THIRD)}


def test_every_job_has_log_and_benchmark(given):
    """Each job left a log and a benchmark under results."""
    for folder, suffix in (("logs", ".log"), ("benchmarks", ".tsv")):
        found = {
            path.relative_to(given / "results" / folder).with_suffix("")
            for path in (given / "results" / folder).rglob(f"*{suffix}")
        }
        assert {Path(stage, name) for stage in STAGES for name in (FIRST, SECOND, THIRD)} <= found
        assert {Path(rule) for rule in MERGES | {"read_catalog"}} <= found


def test_outputs_name_their_inputs(given):
    """A filtered map names the version, the digests of code and input, and the options it was made with."""
    attrs = store.read_attrs(given / f"results/preprocessed/{FIRST}.h5")
    provenance = attrs["provenance"]
    assert provenance["rule"] == "preprocess_map"
    assert len(attrs["inputs_digest"]) == len(provenance["params"]["code"]) == 32
    assert f"given/{FIRST}_map.fits" in provenance["inputs"]
    assert provenance["params"]["options"]["noise_model"] == "measured"


def test_equal_inputs_give_equal_bytes(given, tmp_path):
    """Making one map and the merges again writes the same bytes into every table, every export and the page."""
    again = copy(given, tmp_path / "run")
    files = [path.relative_to(given) for path in (given / "results").rglob("*.*") if "logs" not in path.parts]
    made = {path for path in files if path.parts[1] in ("catalogs", "exports", "lightcurves")}
    made |= {path for path in files if path.stem == FIRST and path.suffix == ".h5"}
    made |= {Path("results/report.html"), Path("results/run_config.yaml")}
    for path in made:
        (again / path).unlink()
    done = snakemake(again)
    assert done.returncode == 0, done.stdout
    assert len(made) > 20
    assert [str(path) for path in made if lasting_bytes(given / path) != lasting_bytes(again / path)] == []


def test_candidates_are_remembered(run):
    """Candidates made anew are the same bytes, from what is remembered of each map and without."""
    path, memory = run / "results/catalogs/candidates.h5", run / recall.FOLDER

    def make_again():
        path.unlink()
        done = snakemake(run, str(path.relative_to(run)))
        assert done.returncode == 0, done.stdout
        return path.read_bytes(), {file: file.stat().st_mtime_ns for file in memory.rglob("*.h5")}

    first, kept = make_again()
    assert {file.stem for file in kept} == {FIRST, SECOND, THIRD}
    assert make_again() == (first, kept)
    shutil.rmtree(memory)
    assert make_again()[0] == first


def lasting_bytes(path):
    """Bytes of a file without the time and memory that the jobs have used, which the page tells in one line."""
    text = path.read_bytes()
    if path.name != "report.html":
        return text
    left, count = re.subn(rb'<script type="application/json" id="resource-data">.*?</script>', b"", text)
    assert count == 1
    return left


@pytest.mark.parametrize("option", ["--lint", "--rulegraph", "--dag", "--filegraph", "--summary", "--detailed-summary"])
def test_view_of_the_workflow_works(given, option):
    """Snakemake's ways to look at the workflow succeed."""
    done = snakemake(given, option)
    assert done.returncode == 0, done.stdout


def test_report_of_snakemake_works(run):
    """``snakemake --report`` writes a page."""
    done = snakemake(run, "--report", "run.html")
    assert done.returncode == 0, done.stdout
    text = (run / "run.html").read_text()
    assert len(text) > 100_000
    for said in ("Provenance", "Catalogue", "Night", f"results/figures/{FIRST}.png"):
        assert said in text


# ---- what runs again -------------------------------------------------------------------------------------------------


def test_nothing_changed_runs_nothing(given, simulated):
    """After a run there is nothing to do, be the maps from outside or simulated."""
    assert planned(given) == set()
    assert planned(simulated, *SIMULATED) == set()


def test_new_map_bytes_run_that_map(run):
    """Replacing one FITS file runs that map's stages and the merges; then there is nothing to do."""
    before = {path: path.stat().st_mtime_ns for path in (run / "results").rglob(f"*{SECOND}.h5")}
    edit_pixels(run / f"given/{FIRST}_map.fits", lambda data, header: data * np.float32(1.01))
    assert planned(run) == of_map(FIRST) | of_all()
    done = snakemake(run)
    assert done.returncode == 0, done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert planned(run) == set()


def test_new_bytes_with_an_older_date_run_that_map(run):
    """A file restored with an older date is noticed by its bytes."""
    edit_pixels(run / f"given/{FIRST}_ivar.fits", lambda data, header: data * np.float32(1.01))
    os.utime(run / f"given/{FIRST}_ivar.fits", (1, 1))
    assert planned(run) == of_map(FIRST) | of_all()


def test_new_dates_run_nothing(run):
    """Files with the same bytes and new dates run nothing."""
    for path in (run / "given").iterdir():
        path.touch()
    assert planned(run) == set()


def test_finder_threshold_runs_from_the_finder_on(run):
    """A threshold of find_sources runs find, sift, view and the merges for all maps, and no photometry."""
    expected = {job for name in (FIRST, SECOND, THIRD) for job in of_map(name, STAGES[3:])}
    assert planned(run, "--config", "find_sources={snr_min: 6.0}") == expected | of_all()


def test_option_of_a_merge_runs_the_merges(run):
    """An option of confirm_candidates runs the merges alone."""
    assert planned(run, "--config", "confirm_candidates={confirm_snr: 4.0}") == of_all()


@pytest.mark.parametrize(
    ("module", "stages", "merges"),
    [
        ("preprocessing", STAGES, MERGES),
        ("detection", STAGES[3:], MERGES),
        ("sifting", STAGES[4:], MERGES),
        ("report/mapviews", ("view_map",), {"report", "check_maps"}),
        ("report/page", (), {"report", "check_maps"}),
        ("association", (), MERGES),
        ("exports", (), {"export_catalogs", "report", "check_maps"}),
        ("lightcurves", (), {"build_lightcurves", "report", "check_maps"}),
        ("cli", (), set()),
    ],
)
def test_edited_module_runs_its_users(run, module, stages, merges):
    """Editing a module of the library runs exactly the rules that use it, and what follows them."""
    with open(run / f"sotrplib/{module}.py", "a") as file:
        file.write("\n# edited\n")
    per_map = {job for name in (FIRST, SECOND, THIRD) for job in of_map(name, stages)}
    assert planned(run) == per_map | {(rule, "") for rule in merges}


def test_added_map_runs_that_map(run):
    """A new row of the map table runs the new map and the merges."""
    new = "solat_i3_f090_1760187000"
    _add_map(run, new)
    assert planned(run) == of_map(new) | of_all()


def test_removed_map_runs_the_merges(run):
    """A row taken out of the map table runs the merges alone."""
    mapindex.write_map_table(run / "maps.csv", [row(name, "given") for name in (FIRST, SECOND)])
    assert planned(run) == of_all()


def test_sealed_night_is_read_from_one_file(run):
    """A sealed night gives the same tables byte for byte without its own files, and is no job any more.

    A map added afterwards runs itself and the merges; one added to the sealed night stops the run with the cure.
    """
    open_config = CONFIG.replace("enabled: false", "enabled: true") + GIVEN
    (run / "test.yaml").write_text(open_config)
    done = snakemake(run, "results/periods/2025-10-10.h5", "all")
    assert done.returncode == 0, done.stdout
    before = {path.name: path.read_bytes() for path in (run / "results/exports").glob("*.*")}
    files = [path for name in (FIRST, SECOND) for path in (run / "results").glob(f"*/{name}.h5")]
    for path in [*(run / "results/joint").glob("*.h5"), *files]:
        if path.parent.name != "preprocessed":
            path.unlink()

    (run / "test.yaml").write_text(open_config.replace("{table: maps.csv", "{sealed: ['2025-10-10'], table: maps.csv"))
    assert planned(run) == of_all()
    done = snakemake(run)
    assert done.returncode == 0, done.stdout
    after = {path.name: path.read_bytes() for path in (run / "results/exports").glob("*.*")}
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {"alerts.csv"}
    searches = store.list_names(run / "results/periods/2025-10-10.h5", "searches")
    assert searches == ["solat_joint_multi_1760100000.h5"]
    assert planned(run) == set()

    _add_map(run, "solat_i3_f090_1760187000")
    assert planned(run) == of_map("solat_i3_f090_1760187000") | of_all() | {("search_jointly", OBSERVATION)}
    _add_map(run, "solat_i3_f090_1760101000")
    done = snakemake(run, "--dry-run")
    assert done.returncode == 1 and "take 2025-10-10 out of maps.sealed" in done.stdout


def _add_map(run, new):
    """Add a row to the map table: a map like the third."""
    for name in KINDS.values():
        shutil.copy2(run / f"given/{THIRD}_{name}", run / f"given/{new}_{name}")
    rows = mapindex.read_map_table(run / "maps.csv")
    mapindex.write_map_table(run / "maps.csv", [*rows, row(new, "given")])


def test_edited_catalogue_leaves_the_filter_alone(run):
    """A new catalogue runs the photometry of all maps and what follows, and filters nothing."""
    with open(run / "given/catalog.csv", "a") as file:
        file.write("extra,0.6,-30.0,0.2,0.01\n")
    expected = {job for name in (FIRST, SECOND, THIRD) for job in of_map(name, STAGES[1:])}
    assert planned(run) == expected | of_all() | {("read_catalog", "")}


def test_further_catalogues_are_inputs(run):
    """Counterparts and added sources come from files of their own; their new bytes run what reads them."""
    flash = store.read_table(run / "results/catalogs/catalog.h5", "candidates").iloc[0]
    (run / "quasars.csv").write_text(f"ra,dec,id\n{flash['ra_deg']},{flash['dec_deg']},Q1\n")
    (run / "more.csv").write_text("name,raDeg,decDeg,fluxJy,err_fluxJy\nadded,0.6,-30.0,0.2,0.01\n")
    columns = "{path: quasars.csv, name: QSO, ra_deg: ra, dec_deg: dec, label: id}"
    external = f"confirm_candidates: {{external_catalogs: [{columns}]}}"
    given = GIVEN.replace("catalog: {", "catalog: {additional: [more.csv], ")
    (run / "test.yaml").write_text("\n".join([CONFIG, given, external]))
    done = snakemake(run)
    assert done.returncode == 0, done.stdout
    found = store.read_table(run / "results/catalogs/catalog.h5", "candidates").iloc[0]
    assert (found["external_name"], found["external_catalog"]) == ("Q1", "QSO")
    assert "added" in set(store.read_table(run / "results/inputs/catalog.h5", "catalog")["source_id"])
    (run / "quasars.csv").write_text("ra,dec,id\n5,5,Q2\n")
    assert planned(run) == of_all()
    (run / "more.csv").write_text("name,raDeg,decDeg,fluxJy,err_fluxJy\nother,0.6,-30.0,0.2,0.01\n")
    assert {("read_catalog", "")} | of_map(FIRST, STAGES[1:]) <= planned(run)


def test_a_box_cut_after_the_filter_changes_nothing_inside(run):
    """A box cut out of the filtered map holds the pixels of the whole map, and fluxes change by less than 0.1 sigma.

    What is left of a change is that of the pointing model, which has fewer sources.
    """
    path = f"results/forced_photometry/{FIRST}.h5"
    whole = store.read_table(run / path, "forced").set_index("source_id")
    pixels = maps.read_sky_map(run / f"results/preprocessed/{FIRST}.h5")
    ra, dec = (float(whole[name].median()) for name in ("ra_deg", "dec_deg"))
    box = {"ra_min_deg": ra - 0.5, "ra_max_deg": ra + 0.5, "dec_min_deg": dec - 0.5, "dec_max_deg": dec + 0.5}
    section = {"table": "maps.csv", "box_cut": "filtered", "box_margin_arcmin": 8, "box": box}
    (run / "test.yaml").write_text(
        (run / "test.yaml").read_text().replace("maps: {table: maps.csv}", f"maps: {section}")
    )
    done = snakemake(run, path, "--forcerun", "preprocess_map")
    assert done.returncode == 0, done.stdout
    part = maps.read_sky_map(run / f"results/preprocessed/{FIRST}.h5")
    rows, columns = boxes.find_slices(pixels.rho.shape, pixels.wcs, box, 8)
    np.testing.assert_array_equal(part.rho, pixels.rho[rows, columns])
    cut = store.read_table(run / path, "forced").set_index("source_id")
    assert 0 < len(cut) < len(whole)
    inside = cut.index[((cut["ra_deg"] - ra).abs() < 0.5) & ((cut["dec_deg"] - dec).abs() < 0.5)]
    change = ((cut["flux_mjy"] - whole["flux_mjy"]) / whole["flux_err_mjy"])[inside]
    assert change.notna().sum() >= 2 and change.abs().max() < 0.1


def test_maps_too_large_for_memory_are_done_in_strips(run):
    """In strips of 90 rows every map is measured and searched as before, within the noise that a strip can tell."""
    path = f"results/forced_photometry/{FIRST}.h5"
    whole = store.read_table(run / path, "forced").set_index("source_id")
    section = "maps: {table: maps.csv, strip_mpix: 0.02}\npreprocess_map: {noise_zone_deg: 0.7}"
    (run / "test.yaml").write_text((run / "test.yaml").read_text().replace("maps: {table: maps.csv}", section))
    done = snakemake(run)
    assert done.returncode == 0, done.stdout
    log = (run / f"results/logs/preprocess_map/{FIRST}.log").read_text()
    assert log.count("strip of rows") == 2
    assert maps_table(run)["status"].tolist() == ["ok"] * 3
    candidates = store.read_table(run / "results/catalogs/catalog.h5", "candidates")
    assert candidates["confirmed"].tolist() == [True]
    cut = store.read_table(run / path, "forced").set_index("source_id")
    assert cut.index.tolist() == whole.index.tolist()
    change = (cut["flux_mjy"] - whole["flux_mjy"]) / whole["flux_err_mjy"]
    assert change.notna().sum() > 3 and change.abs().median() < 0.5
    assert planned(run) == set()


def test_log_level_runs_no_map(run):
    """What the logs are to say changes the record of the configuration, and no result."""
    assert planned(run, "--config", "log_level=DEBUG") <= {("dump_config", ""), ("report", ""), ("check_maps", "")}


def test_filtered_maps_are_exported_when_asked(run):
    """No run writes FITS images of the filtered maps unless the configuration or the target says so."""
    images = {("export_map", name) for name in (FIRST, SECOND, THIRD)}
    assert planned(run, "--config", "export_map={every_run: true}") == images | {
        ("dump_config", ""),
        ("check_maps", ""),
    }
    assert planned(run, "export_maps") - {("export_maps", "")} == images


def test_directory_gives_the_rows_of_a_table(run):
    """Depth-1 files in a directory are found under the map_ids a table would give them."""
    for map_id in (FIRST, SECOND, THIRD):
        _, array, band, time = map_id.split("_")
        (run / "nights" / time[:5]).mkdir(parents=True, exist_ok=True)
        for name in KINDS.values():
            (run / f"given/{map_id}_{name}").rename(run / f"nights/{time[:5]}/depth1_{time}_{array}_{band}_{name}")
    jobs = planned(run, "--config", "maps={kind: directory, directory: nights}", "--forceall")
    assert {map_id for _, map_id in jobs} == {FIRST, SECOND, THIRD, ""}


# ---- maps together ---------------------------------------------------------------------------------------------------

TOGETHER = """
search_difference: {enabled: true}
coadd_maps: {groups: [{name: all}]}
stack_sources: {positions: stacked.csv, stamp_arcmin: 10.0}
"""


def test_maps_together(run):
    """A coadd goes through the stages, joint and difference searches add detections, and each follows its maps.

    A stack at the place of the flash holds it in the maps of its night, and nothing where nothing is.
    """
    joint, coadd = f"solat_joint_multi_{FIRST[-10:]}", f"solat_coaddall_f090_{FIRST[-10:]}"
    differences = {f"solat_diffi1_f090_{name[-10:]}" for name in (FIRST, THIRD)}
    flash = store.read_table(run / "results/catalogs/catalog.h5", "candidates").iloc[0]
    rows = ("flash", flash["dec_deg"]), ("nothing", flash["dec_deg"] + 0.1)
    lines = [f"{name},{flash['ra_deg']},{dec},," for name, dec in rows]
    lines.append(f"night,{flash['ra_deg']},{flash['dec_deg']},,{float(SECOND[-10:]) + 43200}")
    header = "name,ra_deg,dec_deg,time_min_unix_s,time_max_unix_s"
    (run / "stacked.csv").write_text("\n".join([header, *lines]) + "\n")
    (run / "test.yaml").write_text(CONFIG.replace("enabled: false", "enabled: true") + GIVEN + TOGETHER)
    new = {("search_jointly", joint), ("coadd_maps", coadd)} | {("search_difference", name) for name in differences}
    new.add(("stack_sources", ""))
    assert planned(run) == new | of_map(coadd, STAGES[1:-1]) | of_all()
    done = snakemake(run)
    assert done.returncode == 0, done.stdout
    sifted = store.read_table(run / f"results/joint/{joint}.h5", "sifted")
    assert "transient" in set(sifted["class"]) and not (sifted["class"] == "known").all()
    assert store.read_attrs(run / f"results/preprocessed/{coadd}.h5")["status"] == "ok"
    assert len(store.read_table(run / f"results/forced_photometry/{coadd}.h5", "forced")) > 3
    candidates = store.read_table(run / "results/catalogs/catalog.h5", "candidates")
    assert candidates["confirmed"].tolist()[0] and candidates["found_by"].tolist()[0] == "map"
    stacks = store.read_table(run / "results/stacks/stacks.h5", "stacks").set_index("name")
    assert stacks["n_maps"].drop("(all)").to_dict() == {"flash": 3, "nothing": 3, "night": 2}
    assert stacks["snr"]["night"] > stacks["snr"]["flash"] > 5 and abs(stacks["snr"]["nothing"]) < 4
    assert store.list_contents(run / "results/stacks/stacks.h5")["stamps/f090/snr"] == (4, 21, 21)
    assert set(maps_table(run).index) == {FIRST, SECOND, THIRD}
    assert planned(run) == set()
    edit_pixels(run / f"given/{SECOND}_map.fits", lambda data, header: data * np.float32(1.01))
    again = {("search_jointly", joint), ("coadd_maps", coadd), ("stack_sources", "")}
    again |= of_map(SECOND) | of_map(coadd, STAGES[1:-1])
    assert planned(run) == again | of_all()


# ---- bad input -------------------------------------------------------------------------------------------------------


def _truncate(paths):
    with open(paths["map_path"], "r+b") as file:
        file.truncate(40_000)


def _spoil(key, change):
    return lambda paths: edit_pixels(paths[key], change)


def _set(value, where=slice(None)):
    def change(data, header):
        data[..., where] = value
        return data

    return change


def _move(data, header):
    header["CRVAL1"] += 90
    return data


def _rename_unit(data, header):
    header["BUNIT"] = "furlong"
    return data


BAD = {
    "truncated": (_truncate, "is truncated"),
    "ivar_shape": (_spoil("weight_path", lambda data, header: data[..., :-3, :]), "shape"),
    "time_shape": (_spoil("time_path", lambda data, header: data[..., :-3]), "shape"),
    "all_nan": (_spoil("map_path", _set(np.nan)), "none of .* pixels is observed"),
    "all_zero": (_spoil("map_path", _set(0)), "observed pixels are 0"),
    "missing": (lambda paths: os.remove(paths["weight_path"]), "no such file"),
    "unit": (_spoil("map_path", _rename_unit), "furlong"),
}
ODD = {
    "bad_ivar": _spoil(
        "weight_path", lambda data, header: _set(-1, slice(30, 33))(_set(np.inf, slice(20, 23))(data, header), header)
    ),
    "far_away": lambda paths: [edit_pixels(paths[key], _move) for key in ("map_path", "weight_path", "time_path")],
}


@pytest.fixture(scope="module")
def bad(given, tmp_path_factory):
    """A run of a good map, two odd and seven unusable ones, faulty catalogue and beam: folder, process, map_ids."""
    folder = copy(given, tmp_path_factory.mktemp("bad") / "run")
    shutil.rmtree(folder / "results")
    names = {name: f"solat_i1_f090_{1760200000 + 10 * i}" for i, name in enumerate([*ODD, *BAD])}
    rows = [row(FIRST, "given")]
    for name, map_id in names.items():
        rows.append(row(map_id, "given"))
        for suffix in KINDS.values():
            shutil.copy2(folder / f"given/{FIRST}_{suffix}", folder / f"given/{map_id}_{suffix}")
        spoil = ODD[name] if name in ODD else BAD[name][0]
        spoil({key: folder / f"given/{map_id}_{suffix}" for key, suffix in KINDS.items()})
    mapindex.write_map_table(folder / "maps.csv", rows)
    with open(folder / "given/catalog.csv", "a") as file:
        file.write("lost,nan,nan,0.2,0.01\nfaint,0.7,-30.1,,\n")
    radius = np.sort(np.concatenate([np.arange(0, 400, 10.0), np.arange(10, 400, 10.0) + 1e-3]))
    np.savetxt(folder / "beam.txt", np.stack([radius, np.exp(-4 * np.log(2) * (radius / 125) ** 2)], axis=1))
    done = snakemake(folder, "--config", "beams={f090: beam.txt}")
    return folder, done, names


def test_exit_status_tells_of_failed_maps(bad):
    """The run ends with status 1 and a list of the failed maps with their reasons."""
    _, done, names = bad
    assert done.returncode == 1
    assert "10 maps, 7 of them failed" in done.stdout
    for name, (_, reason) in BAD.items():
        assert re.search(rf"{names[name]}: .*{reason}", done.stdout), name


@pytest.mark.parametrize("name", BAD)
def test_unusable_map_is_recorded(bad, name):
    """A map that cannot be used is failed in the table of maps, with its reason there and in its log."""
    folder, _, names = bad
    found = maps_table(folder).loc[names[name]]
    assert found["status"] == "failed"
    assert re.search(BAD[name][1], found["reason"])
    assert "Traceback" in (folder / f"results/logs/preprocess_map/{names[name]}.log").read_text()


@pytest.mark.parametrize("name", BAD)
def test_unusable_map_has_its_files(bad, name):
    """Every stage of a failed map wrote a file that hands the reason on, the last a sheet besides."""
    folder, _, names = bad
    assert (folder / f"results/figures/{names[name]}.png").read_bytes().startswith(b"\x89PNG")
    for stage in ("preprocessed", "pointing", "forced_photometry", "detections", "sifted", "views"):
        attrs = store.read_attrs(folder / f"results/{stage}/{names[name]}.h5")
        assert attrs["status"] == "failed" and re.search(BAD[name][1], attrs["reason"])


@pytest.mark.parametrize("name", ODD)
def test_odd_map_is_used(bad, name):
    """Infinite and negative weights cost their pixels, and a field without known sources is no failure."""
    folder, _, names = bad
    found = maps_table(folder).loc[names[name]]
    assert found["status"] == "ok"
    assert (found["n_forced"] == 0) == (name == "far_away")


def test_rest_of_the_night_is_finished(bad):
    """The good map is measured as if it were alone: catalogue, exports and report are made from it."""
    folder, _, _ = bad
    measurements = store.read_table(folder / "results/catalogs/catalog.h5", "measurements")
    assert (measurements["map_id"] == FIRST).sum() > 3
    for name in ("exports/measurements.parquet", "lightcurves/lightcurves.h5", "report.html", "run_config.yaml"):
        assert (folder / "results" / name).exists()
    assert not (folder / "results/maps_checked.txt").exists()


def test_images_of_a_failed_map_say_why(bad):
    """Asked for the images of a good and a failed map, the one has pixels and the other the reason in its header."""
    folder, _, names = bad
    good, failed = (f"results/exports/maps/{map_id}_rho.fits" for map_id in (FIRST, names["truncated"]))
    done = snakemake(folder, good, failed, "--config", "beams={f090: beam.txt}")
    assert done.returncode == 0, done.stdout
    assert fits.getdata(folder / good).any()
    assert "is truncated" in fits.getheader(folder / failed)["REASON"]


def test_rows_without_position_or_flux_are_left_out(bad):
    """Catalogue rows with NaN cost themselves."""
    attrs = store.read_attrs(bad[0] / "results/inputs/catalog.h5")
    names = store.read_table(bad[0] / "results/inputs/catalog.h5", "catalog")["source_name"].tolist()
    assert attrs["n_dropped"] == 2
    assert not {"lost", "faint"} & set(names)


def test_map_that_cannot_be_drawn_costs_its_pictures(run):
    """The catalogue and the page are whole, the exit status tells of it, and the mended code draws the map."""
    module = run / "sotrplib/report/mapviews.py"
    text = module.read_text()
    module.write_text(text + "\n\ndef view_map(*paths, **options):\n    raise ValueError('out of ink')\n")
    done = snakemake(run, "--forcerun", "confirm_candidates")
    assert done.returncode == 1 and f"results/views/{FIRST}.h5: out of ink" in done.stdout
    assert maps_table(run)["status"].tolist() == ["ok"] * 3
    assert "No map could be used" in (run / "results/report.html").read_text()
    module.write_text(text)
    done = snakemake(run)
    assert done.returncode == 0, done.stdout
    assert f'id="map-{FIRST}"' in (run / "results/report.html").read_text()


def test_mended_map_runs_alone(bad, tmp_path):
    """With the right file in its place, that map and the merges run."""
    folder, _, names = bad
    mended = copy(folder, tmp_path / "run")
    shutil.copy2(folder / f"given/{FIRST}_map.fits", mended / f"given/{names['truncated']}_map.fits")
    assert planned(mended, "--config", "beams={f090: beam.txt}") == of_map(names["truncated"]) | of_all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("find_sources={snr_mni: 5}", r"find_sources\.snr_mni: unknown key; did you mean 'snr_min'\?"),
        ("find_sorces={snr_min: 5}", r"find_sorces: unknown key; did you mean 'find_sources'\?"),
        ("find_sources={snr_min: high}", r"find_sources\.snr_min: found 'high', expected type number"),
        ("maps={table: none.csv}", r"none\.csv: cannot be read"),
        ("catalog={path: '{data_dir}/a.csv'}", r"catalog\.path: .*data_dir is empty"),
        ("catalog={path: none.fits}", r"catalog\.path: none\.fits does not exist"),
        ("catalog={additional: [none.csv]}", r"catalog\.additional: none\.csv does not exist"),
        ("confirm_candidates={external_catalogs: [{path: a.csv}]}", r"external_catalogs\.0: .*all of the keys"),
        ("beams={f090: none.txt}", r"beams\.f090: none\.txt does not exist"),
    ],
)
def test_mistake_stops_before_the_first_job(run, config, message):
    """A misspelt or mistyped key, or a file that is not there, stops the run with a message that says what to do."""
    before = sorted((run / "results").rglob("*"))
    done = snakemake(run, "--config", config)
    assert done.returncode == 1
    assert re.search(message, done.stdout)
    assert sorted((run / "results").rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: [lines[0].replace("weight_path", "wait_path"), *lines[1:]],
            r"missing columns \['weight_path'\]",
        ),
        (lambda lines: [*lines, lines[1]], rf"line 5: map_id '{FIRST}' is also at .*line 2"),
        (lambda lines: lines[:1], r"maps\.csv: 0 maps"),
    ],
)
def test_faulty_map_table_stops_before_the_first_job(run, change, message):
    """A missing column, a map_id used twice, or no row at all stops the run with the file, the line and the cure."""
    lines = (run / "maps.csv").read_text().splitlines()
    (run / "maps.csv").write_text("\n".join(change(lines)) + "\n")
    done = snakemake(run)
    assert done.returncode == 1
    assert re.search(message, done.stdout)


# ---- the services around it ------------------------------------------------------------------------------------------

SERVICES = """
maps: {kind: mapcat}
catalog: {kind: socat}
ephemerides: {tables: []}
write_lightcurvedb: {enabled: true}
"""


def ask_service(folder, action, *arguments):
    """Answer of one client, asked in a process of its own."""
    command = [sys.executable, ROOT / "tests/end_to_end/services.py", action, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def served(given, tmp_path_factory):
    """The finished run, its maps now listed by mapcat, its sources in socat, light curves bound for lightcurvedb."""
    folder = copy(given, tmp_path_factory.mktemp("served") / "run")
    (folder / "test.yaml").write_text(CONFIG.replace("maps: {table: maps.csv}", "") + SERVICES)
    names = {"socat_client_client_type": "db", "socat_model_database_name": "socat.db"}
    names |= {"MAPCAT_DATABASE_NAME": "mapcat.db", "MAPCAT_DEPTH_ONE_PARENT": "given"}
    with postgres.server() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in (names | postgres.make_database(running, "served")).items():
            patch.setenv(name, value)
        ask_service(folder, "make_socat", "given/catalog.csv", "given/ephemeris.csv")
        for command in (["mapcatmigrate"], ["actingest", "-r", "given", "-g", "*_map.fits"]):
            tool = Path(sys.executable).parent / command[0]
            subprocess.run([tool, *command[1:]], cwd=folder, check=True, capture_output=True)
        ask_service(folder, "make_lightcurvedb", postgres.url(os.environ))
        done = snakemake(folder)
        assert done.returncode == 0, done.stdout
        yield folder, done.stdout


def test_services_give_what_files_give(served, given):
    """Maps from mapcat and sources from socat give the candidates and fluxes of the map table and catalogue file."""
    folder, said = served
    assert "preprocess_map" not in said  # the rows of the map table are the same
    assert maps_table(folder)["status"].tolist() == ["ok"] * 3
    found, expected = (
        {name: store.read_table(run / "results/catalogs/catalog.h5", name) for name in ("measurements", "candidates")}
        for run in (folder, given)
    )
    forced, known = (
        tables["measurements"].query("kind == 'forced'").reset_index(drop=True) for tables in (found, expected)
    )
    assert forced["source_id"].tolist() == known["source_id"].tolist()
    assert np.nanmax(np.abs(forced["flux_mjy"] - known["flux_mjy"]) / known["flux_err_mjy"]) < 1e-3
    assert found["candidates"]["candidate_id"].tolist() == expected["candidates"]["candidate_id"].tolist()


def test_run_from_services_is_offline_afterwards(served, monkeypatch):
    """With all databases gone there is nothing to do: the snapshots hold what was read."""
    for name in ("socat_model_database_name", "MAPCAT_DATABASE_NAME"):
        monkeypatch.setenv(name, "gone.db")
    assert planned(served[0]) == set()
    assert not (served[0] / "gone.db").exists()


def test_light_curve_is_read_back_from_the_database(served):
    """lightcurvedb's client gives the flash in all maps, the night after included, as the catalogue has it."""
    folder, _ = served
    (name,) = store.read_table(folder / "results/catalogs/catalog.h5", "candidates")["candidate_id"]
    ask_service(folder, "read_lightcurve", postgres.url(os.environ), name, "curve.json")
    curves = json.loads((folder / "curve.json").read_text())
    expected = store.read_table(folder / "results/catalogs/catalog.h5", "measurements")
    expected = expected[(expected["source_id"] == name) & (expected["kind"] == "confirm")]
    assert {band: len(curve["time"]) for band, curve in curves.items()} == {"i1_f090": 2, "i3_f090": 1}
    found = sorted(1000 * flux for curve in curves.values() for flux in curve["flux_jy"])
    np.testing.assert_allclose(found, sorted(expected["flux_mjy"]), rtol=1e-9)


def test_states_are_in_mapcat_and_a_second_list_has_no_maps_left(served):
    """All maps are completed; a list made anew has none to process, and says so before the first job."""
    folder, _ = served
    assert re.findall(r": (\w+)$", ask_service(folder, "list_states"), re.M) == ["completed"] * 3
    (folder / "results/inputs/mapcat.csv").rename(folder / "kept.csv")
    done = snakemake(folder)
    (folder / "kept.csv").rename(folder / "results/inputs/mapcat.csv")
    assert done.returncode == 1
    assert re.search(r"mapcat\.db: none of its maps is wanted; .*\{'completed': 3\}: see maps\.mapcat", done.stdout)


def test_wrong_database_of_a_service(served, tmp_path):
    """A mapcat database that is not there stops the run at once; one of socat fails its job and leaves no snapshot."""
    folder = copy(served[0], tmp_path / "run")
    done = snakemake(folder, "--config", "maps={mapcat: {database: none.db}}")
    assert done.returncode == 1 and "none.db: no such database file" in done.stdout
    (folder / "results/inputs/socat.csv").unlink()
    done = snakemake(folder, "--config", "catalog={socat: {database: none.db}}")
    assert done.returncode == 1
    assert "none.db: no such database file" in (folder / "results/logs/read_socat.log").read_text()
    assert not (folder / "results/inputs/socat.csv").exists() and not (folder / "none.db").exists()
