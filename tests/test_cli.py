"""The command line: exit status, messages that name the cure, and the workflow from a wheel in an empty folder."""

import json
import os
import subprocess
import sys
import zipfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

from sotrplib import cli, store, tables
from sotrplib.cli import dashboard, engine, progress

ROOT = Path(__file__).parents[1]


def run(*arguments, **env):
    return CliRunner().invoke(cli.main, list(map(str, arguments)), env=env)


@pytest.fixture
def mine(tmp_path):
    """A configuration that fits."""
    path = tmp_path / "mine.yaml"
    path.write_text("find_sources: {snr_min: 5}\n")
    return path


@pytest.fixture
def started(monkeypatch):
    """Arguments that Snakemake was started with, in place of the start; status 1."""
    calls = []
    monkeypatch.setattr(engine, "run", lambda arguments: calls.append(arguments) or 1)
    return calls


def map_file(folder, stage, map_id, **attrs):
    path = folder / "results" / stage / f"{map_id}.h5"
    store.write(path, attrs={"map_id": map_id, "status": "ok", "reason": ""} | attrs)
    return path


# ---- sotrp -c CONFIG -------------------------------------------------------------------------------------------------


def test_help_reads_well():
    """--help lists the commands and what the exit status means; without anything it is shown, with status 2."""
    text = run("--help").output
    assert all(
        name in text for name in ("run", "validate", "status", "show", "convert", "Exit status:", "_SOTRP_COMPLETE")
    )
    nothing = run()
    assert nothing.exit_code == 2 and "Usage: " in nothing.output


def test_help_comes_at_once():
    """The command itself loads neither numpy nor Snakemake, so help and completion do not wait for them."""
    code = "import sys, sotrplib.cli; print(*{'numpy', 'pandas', 'h5py', 'snakemake'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("words", "completed"),
    [("sotrp va", "validate"), ("sotrp run --runner p", "prefect"), ("sotrp run --dr", "--dry-run")],
)
def test_shell_completes_commands_and_options(words, completed):
    """The completion that --help tells of knows commands, options and their values."""
    place = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    result = CliRunner().invoke(cli.main, [], prog_name="sotrp", env=place | {"_SOTRP_COMPLETE": "bash_complete"})
    assert completed in result.output


@pytest.mark.parametrize("words", [("-c",), ("run", "-c")])
def test_run_starts_snakemake_with_its_status(mine, started, words):
    """`sotrp -c` and `sotrp run -c` are one: all cores, the given configuration, Snakemake's exit status."""
    assert run(*words, mine).exit_code == 1
    snakefile = str(ROOT / "Snakefile")
    assert started == [["--snakefile", snakefile, "--configfile", str(mine), "--logger", "sotrp", "--cores", "all"]]
    run(*words, mine, "--no-live")
    assert "--logger" not in started[1]


def test_what_follows_two_dashes_goes_to_snakemake(mine, started):
    """Options and targets after -- come last, behind an option that takes no list of values."""
    run("-c", mine, "-n", "--cores", 3, "--", "--forcerun", "report", "--until", "sift_candidates")
    assert started[0][4:] == ["--dry-run", "--cores", "3", "--forcerun", "report", "--until", "sift_candidates"]


def test_data_dir_joins_the_users_own_values(tmp_path, mine, started):
    """--data-dir and a --config of the user's are one option of Snakemake, of which only the last would count."""
    run("-c", mine, "--data-dir", tmp_path, "--", "--config", "seed=2")
    assert started[0][-3:] == ["--config", f"data_dir={tmp_path}", "seed=2"]


def test_runner_comes_from_the_environment(mine, started):
    """sotrp_runner=slurm is --runner slurm: the profile decides on cores unless --cores is given."""
    run("-c", mine, sotrp_runner="slurm")
    assert started[0][-2:] == ["--profile", str(ROOT / "profiles/slurm")]
    run("-c", mine, "--cores", "2", sotrp_runner="slurm")
    assert started[1][-2:] == ["--cores", "2"]
    wrong = run("-c", mine, sotrp_runner="cloud")
    assert wrong.exit_code == 2 and "'basic', 'prefect', 'slurm'" in wrong.output


def test_runner_prefect_without_a_server_runs_all_the_same(mine, started, monkeypatch):
    """A temporary server that does not start costs a warning, and the run is like that of basic."""
    monkeypatch.setattr(dashboard, "server", _no_server)
    result = run("-c", mine, "--runner", "prefect")
    assert "the run goes on without being shown" in result.output
    assert started[0][-4:] == ["--logger", "sotrp", "--cores", "all"]


def test_runner_prefect_names_the_server(mine, started, monkeypatch):
    """With a server, the logger plugin is told its address and the configuration to show as parameters."""
    monkeypatch.setattr(dashboard, "server", lambda: nullcontext("http://here/api"))
    run("-c", mine, "--runner", "prefect", "--", "report")
    assert started[0][4:7] == ["--logger", "sotrp", "prefect"]
    assert started[0][-7:-5] == ["--logger-prefect-api-url", "http://here/api"]
    assert started[0][-3:] == ["--logger-prefect-parameters", str(mine), "report"]
    run("-c", mine, "-n", "--runner", "prefect")
    assert "prefect" not in started[1]


@contextmanager
def _no_server():
    raise dashboard.ServerError("no port is free")
    yield


def test_a_command_in_the_wrong_place_is_told(mine, started):
    """`sotrp -c X validate` is not a target named validate."""
    result = run("-c", mine, "validate")
    assert result.exit_code == 2 and "sotrp validate" in result.output and not started


def test_wrong_configuration_starts_nothing(mine, started):
    """A misspelt key stops the run with status 2 before Snakemake starts."""
    mine.write_text("find_sources: {snr_mim: 5}\n")
    result = run("-c", mine)
    assert result.exit_code == 2 and "'snr_min'" in result.output and not started


# ---- validate --------------------------------------------------------------------------------------------------------


def test_validate_names_a_misspelt_key(mine):
    """A misspelt key is named with the key that was meant; status 2. A right one fits; status 0."""
    right = run("validate", mine)
    assert right.exit_code == 0 and "fits" in right.output
    mine.write_text("find_sources: {snr_mim: 5}\n")
    wrong = run("validate", mine)
    assert wrong.exit_code == 2 and "find_sources.snr_mim" in wrong.output and "'snr_min'" in wrong.output


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yaml", "maps: [unclosed\n", "line 2"),
        ("a.json", '{"seed": 1,}', "line 1"),
        ("a.yaml", "- seed\n", "holds a list"),
        ("a.json", json.dumps({"maps": [], "preprocessors": []}), "sotrp convert"),
        ("a.yaml", "maps: {kind: directory, directory: '{data_dir}/nights'}\n", "data_dir"),
    ],
)
def test_validate_names_what_is_wrong_with_a_file(tmp_path, name, text, told):
    """Broken YAML or JSON, a list, a configuration of the original and an open {data_dir} are told apart; status 2."""
    path = tmp_path / name
    path.write_text(text)
    result = run("validate", path)
    assert result.exit_code == 2 and str(path) in result.output and told in result.output


def test_validate_takes_json_and_lists_missing_files(tmp_path):
    """JSON is as good as YAML; files that are not here are listed, results of the workflow are not."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"catalog": {"path": "nowhere/catalog.fits"}, "seed": 3}, indent="\t"))
    result = run("validate", path)
    assert result.exit_code == 0 and "catalog.path: nowhere/catalog.fits" in result.output
    assert "simulated" not in result.output and "maps.table" not in result.output


# ---- show and status -------------------------------------------------------------------------------------------------


def catalog_frame():
    row = dict.fromkeys(tables.column_names("catalog"), 1.5) | {"source_id": ["A", "B", "C"], "source_name": "A"}
    return tables.make("catalog", row)


def test_show_prints_tables_with_units(tmp_path):
    """A file of one table shows it with units, its arrays with shape; a wrong name lists those there are."""
    path = tmp_path / "a.h5"
    arrays = {"maps/rho": ([[1.0, 2.0]], {"unit": "1/mJy"})}
    store.write(path, attrs={"map_id": "x"}, arrays=arrays, frames={"catalog": ("catalog", catalog_frame())})
    text = run("show", path).output
    assert "map_id         x" in text and "3 rows of source_id" in text and "1 x 2, 1/mJy" in text
    assert "ra_deg [deg]" in text and text.endswith("3 of 3 rows\n")
    missing = run("show", path, "sources")
    assert missing.exit_code == 1 and "catalog" in missing.output


def test_show_takes_rows_and_columns(tmp_path):
    """--rows and --columns, in the order asked for; an unknown column lists those there are."""
    path = tmp_path / "a.h5"
    store.write(path, frames={"catalog": ("catalog", catalog_frame())})
    lines = run("show", path, "catalog", "--rows", 2, "--columns", "dec_deg,source_id").output.splitlines()
    assert lines[0].split() == ["dec_deg", "[deg]", "source_id"] and lines[-1] == "2 of 3 rows" and len(lines) == 4
    wrong = run("show", path, "--columns", "dec")
    assert wrong.exit_code == 1 and "dec_deg" in wrong.output


def test_show_names_quality_flags(tmp_path):
    """Flags are shown by name."""
    row = dict.fromkeys(tables.column_names("forced"), 1.0) | {
        "source_id": ["A"],
        "flags": tables.flag("MASKED", "BLENDED"),
    }
    store.write(tmp_path / "a.h5", frames={"forced": ("forced", tables.make("forced", row))})
    assert "MASKED BLENDED" in run("show", tmp_path / "a.h5", "--columns", "flags").output


def test_status_without_results_says_so(tmp_path, monkeypatch):
    """Before a run there is nothing to tell."""
    monkeypatch.chdir(tmp_path)
    result = run("status")
    assert result.exit_code == 1 and "no maps under ./results" in result.output


def test_status_counts_maps_by_state(tmp_path, monkeypatch):
    """Failed, half-way and finished maps are counted; reasons are told; a failed map gives status 1."""
    monkeypatch.chdir(tmp_path)
    map_file(tmp_path, "preprocessed", "solat_i1_f090_1")
    for stage in progress.STAGES:
        map_file(tmp_path, stage, "solat_i1_f090_2")
    assert run("status").exit_code == 0
    map_file(tmp_path, "preprocessed", "solat_i1_f090_3", status="failed", reason="the header has no BUNIT")
    result = run("status")
    assert result.exit_code == 1 and result.output.startswith("3 maps\n")
    assert "solat_i1_f090_1: done with preprocess_map" in result.output and "no BUNIT" in result.output


def test_status_knows_maps_not_begun_and_maps_out_of_date(tmp_path, monkeypatch):
    """With a configuration maps without files wait; a map newer than the catalogue is not merged."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    waiting = run("status", "-c", "mine.yaml")
    assert waiting.exit_code == 0 and "waiting       9" in waiting.output
    path = map_file(tmp_path, "sifted", "solat_i1_f090_2")
    row = dict.fromkeys(tables.column_names("maps"), 1.0) | {
        "map_id": ["solat_i1_f090_2"],
        "status": "ok",
        "reason": "",
    }
    frame = tables.make("maps", row)
    store.write(tmp_path / "results/catalogs/catalog.h5", frames={"maps": ("maps", frame)})
    assert [one.state for one in progress.map_states("results", progress.find_maps("results"))] == ["merged"]
    later = (tmp_path / "results/catalogs/catalog.h5").stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    assert [one.state for one in progress.map_states("results", progress.find_maps("results"))] == ["sifted"]


# ---- the real thing --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_wheel_carries_the_workflow(tmp_path):
    """A wheel, unpacked far from the checkout, runs its own rules and scripts from an empty folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    installed = tmp_path / "installed"
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(installed)
    (installed / "sotrplib/__init__.py").write_text('__version__ = "0.0.0+wheel"\n')
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "mine.yaml").write_text("simulate: {n_sources: 5}\n")
    command = [sys.executable, "-m", "sotrplib.cli", "-c", "mine.yaml", "--cores", "1", "--"]
    environment = os.environ | {"PYTHONPATH": str(installed), "sotrp_runner": "basic"}
    options = {"cwd": folder, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run([*command, "results/inputs/catalog.h5"], **options)
    assert done.returncode == 0, done.stdout
    assert store.read_attrs(folder / "results/inputs/catalog.h5")["provenance"]["version"] == "0.0.0+wheel"
    assert str(installed / "sotrplib/_workflow") in done.stdout and str(ROOT) not in done.stdout
    assert subprocess.run([*command, "no_such_target"], **options).returncode == 1
    assert (installed / "snakemake_logger_plugin_prefect/__init__.py").exists() and "of 3 jobs" in done.stdout
