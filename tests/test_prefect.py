"""Runs on a Prefect server: what is told, what a real server and its dashboard show, and what a broken server costs."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import browser
import pytest
from snakemake_logger_plugin_prefect import story

from sotrplib.cli import dashboard, engine

pytest.importorskip("prefect", reason="Prefect is not installed")

ROOT = Path(__file__).parents[1]
# Four jobs in a chain of two, one of which works at its second attempt, a merge, and one that never works.
FLOW = """
rule all:
    input: "merged", "never"
rule first:
    output: "{x}.a"
    shell: "sleep {config[nap]}; touch {output}"
rule second:
    input: "{x}.a"
    output: "{x}.b"
    log: "{x}.log"
    shell: "if [ {wildcards.x} = 1 ] && mkdir tried; then echo bad luck > {log}; exit 1; fi; touch {output}"
rule merge:
    input: expand("{x}.b", x=range(2))
    output: "merged"
    shell: "cat {input} > {output}"
rule hopeless:
    output: "never"
    log: "never.log"
    shell: "echo the reason why > {log}; exit 3"
"""


# ---- the story, without a server -------------------------------------------------------------------------------------


class Teller:
    """A story told by hand, at ten seconds an event."""

    def __init__(self):
        self.moment = datetime(2025, 10, 10, tzinfo=UTC)
        self.story = story.Story(now=lambda: self.moment)

    def tell(self, event=None, message="", level=logging.INFO, **fields):
        """Kinds and bodies of the messages that an event leads to."""
        self.moment += timedelta(seconds=10)
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.__dict__.update(event=event, **fields)
        return [(message.kind, message.body("flow")) for message in self.story.handle(record)]

    def start(self, number, rule, *, inputs=(), outputs=(), **wildcards):
        fields = {"jobid": number, "rule_name": rule, "wildcards": wildcards, "log": [], "reason": "because"}
        [(kind, body)] = self.tell("job_info", input=list(inputs), output=list(outputs), **fields)
        assert kind == story.EVENT
        return body

    def finish(self, number):
        return self.tell("job_finished", job_id=number)


def task(event):
    return event["payload"]["task_run"]


def state(event):
    return event["payload"]["validated_state"]["type"], event["payload"]["validated_state"]["name"]


def test_job_is_a_task_run_with_its_times():
    """A job that starts is Running; done, it is Completed with its duration, a log line and links to its outputs."""
    teller = Teller()
    started = teller.start(1, "sift", outputs=["results/sifted/m1.h5"], map_id="m1")
    assert state(started) == ("RUNNING", "Running") and task(started)["name"] == "sift m1"
    (_, done), (kind, line), (_, artifact) = teller.finish(1)
    assert state(done) == ("COMPLETED", "Completed") and task(done)["total_run_time"] == 10.0
    assert done["resource"]["prefect.resource.id"] == started["resource"]["prefect.resource.id"]
    assert kind == story.LOG and "results/sifted/m1.h5" in line["message"]
    assert Path("results/sifted/m1.h5").absolute().as_uri() in artifact["data"] and artifact["key"] == "sift"


def test_dependencies_follow_the_files():
    """A job depends on those of this run that made its inputs, once each."""
    teller = Teller()
    makers = [teller.start(n, "a", outputs=[f"{n}.x", f"{n}.y"], n=n) for n in (1, 2)]
    after = teller.start(3, "b", inputs=["1.x", "1.y", "2.x (retrieve from storage)", "given"])
    ids = [event["resource"]["prefect.resource.id"].removeprefix("prefect.task-run.") for event in makers]
    assert [parent["id"] for parent in task(after)["task_inputs"]["files"]] == ids


def test_retry_is_the_same_task_run(tmp_path):
    """A job that fails is Failed with the end of its log; its second attempt is Retrying, count 2, and may succeed."""
    log = tmp_path / "a.log"
    log.write_text("Traceback\nValueError: no unit\n")
    teller = Teller()
    first = teller.start(1, "a")
    (_, failed), (kind, line) = teller.tell("job_error", jobid=1, log=[str(log)], rule_msg=None)
    assert state(failed) == ("FAILED", "Failed")
    assert failed["payload"]["validated_state"]["message"] == "ValueError: no unit"
    assert kind == story.LOG and "Traceback" in line["message"] and line["level"] == logging.ERROR
    again = teller.start(1, "a")
    assert state(again) == ("RUNNING", "Retrying") and task(again)["run_count"] == 2
    assert task(again)["dynamic_key"] == task(first)["dynamic_key"]
    teller.finish(1)
    assert teller.story.finish()[1:] == ("COMPLETED", "1 of 1 jobs done")


def test_end_of_a_run():
    """A failed job makes the run Failed and names it; jobs cut off are Crashed and so is the run."""
    teller = Teller()
    teller.tell("run_info", stats={"a": 2, "total": 2})
    teller.start(1, "a", n=1)
    teller.start(2, "a", n=2)
    messages, kind, sentence = teller.story.finish()
    assert (kind, sentence) == ("CRASHED", "0 of 2 jobs done; stopped")
    assert [state(message.body("flow"))[0] for message in messages] == ["CRASHED", "CRASHED"]
    teller = Teller()
    teller.start(1, "a", n=1)
    teller.tell("job_error", jobid=1, log=[], rule_msg=None)
    assert teller.story.finish()[1:] == ("FAILED", "0 of 1 jobs done; failed: a 1")


def test_messages_have_one_identity():
    """A message that is sent twice, for an answer was lost, is the same both times."""
    teller = Teller()
    record = logging.LogRecord("snakemake", logging.INFO, "", 0, "", (), None)
    fields = {"jobid": 1, "rule_name": "a", "wildcards": {}, "log": [], "reason": "", "input": [], "output": []}
    record.__dict__.update(event="job_info", **fields)
    [message] = teller.story.handle(record)
    assert message.body("flow") == message.body("flow")


# ---- a real server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of its own for all that Prefect keeps, and no server configured."""
    folder = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder))
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def server(home):
    """Process of a real server and the address of its API."""
    process, url = dashboard._start()
    try:
        dashboard._wait(process, url)
        yield process, url
    finally:
        process.send_signal(signal.SIGCONT)
        dashboard._stop(process)


def ask(url, what, **body):
    """Answer of the server to a POST."""
    request = Request(f"{url}/{what}", json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def snakemake(folder, url, *arguments, nap=0.1):
    """Started `snakemake --logger prefect` on the small workflow."""
    folder.mkdir(exist_ok=True)
    (folder / "Snakefile").write_text(FLOW)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "2",
        "--logger",
        "prefect",
        "--logger-prefect-api-url",
        url,
    ]
    command += ["--config", f"nap={nap}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(engine.PLUGINS)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def settled(url, flow_run):
    """Task runs of a flow run once the server has recorded the end of all of them."""
    chosen = {"flow_runs": {"id": {"any_": [flow_run]}}}
    for _ in range(100):
        found = ask(url, "task_runs/filter", **chosen)
        if found and all(run["state_type"] != "RUNNING" for run in found):
            return {run["name"]: run for run in found}
        time.sleep(0.2)
    raise AssertionError(f"task runs still running: {found}")


@pytest.mark.slow
def test_server_shows_a_run(server, tmp_path):
    """Flow run with parameters and end; task runs with states, retries and dependencies; logs; links; the dashboard."""
    _, url = server
    (tmp_path / "mine.yaml").write_text("maps: {kind: table}\n")
    options = ["--keep-going", "--retries", "1", "--logger-prefect-parameters", str(tmp_path / "mine.yaml")]
    process = snakemake(tmp_path / "run", url, *options, "--logger-prefect-flow", "night")
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 1, text
    address, flow_run = re.search(r"(http\S+/runs/flow-run/(\S+))", text).groups()
    told = json.load(urlopen(f"{url}/flow_runs/{flow_run}", timeout=30))
    assert told["state_type"] == "FAILED" and told["state"]["message"] == "5 of 7 jobs done; failed: hopeless"
    assert told["parameters"]["maps"] == {"kind": "table"} and told["parameters"]["folder"] == str(tmp_path / "run")

    runs = settled(url, flow_run)
    states = {name: (run["state_type"], run["run_count"]) for name, run in runs.items()}
    assert states == {
        "first 0": ("COMPLETED", 1),
        "first 1": ("COMPLETED", 1),
        "second 0": ("COMPLETED", 1),
        "second 1": ("COMPLETED", 2),
        "merge": ("COMPLETED", 1),
        "hopeless": ("FAILED", 2),
    }
    parents = {parent["id"] for parent in runs["merge"]["task_inputs"]["files"]}
    assert parents == {runs["second 0"]["id"], runs["second 1"]["id"]}
    assert runs["first 0"]["total_run_time"] >= 0.1
    lines = {line["message"] for line in ask(url, "logs/filter", logs={"flow_run_id": {"any_": [flow_run]}})}
    assert "hopeless failed\nthe reason why" in lines
    links = ask(url, "artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run]}})
    assert any((tmp_path / "run/merged").as_uri() in link["data"] for link in links)
    look(address, tmp_path)


def look(address, folder):
    """The dashboard in a real browser; the picture is kept in the folder named by SOTRP_SCREENSHOTS, if any."""
    if not any(map(browser.shutil.which, browser.NAMES)):
        print("no browser is installed: the dashboard was not looked at")
        return
    picture = Path(os.environ.get("SOTRP_SCREENSHOTS", folder), "prefect_dashboard.png")
    with browser.open_page(address, folder / "profile") as page:
        text = page.wait_for("Failed", "the reason why", "night", "merge: merged")
        time.sleep(2.0)  # the graph is drawn after the text
        page.screenshot(picture)
    assert "went wrong" not in text and picture.stat().st_size > 20_000
    print(f"screenshot: {picture}")


@pytest.mark.slow
def test_broken_server_costs_one_warning(server, tmp_path):
    """A server that hangs, then goes on, then is killed, in the middle of runs: all jobs run, one warning each."""
    process, url = server
    goal = ["--retries", "1", "--", "merged"]

    def broken_run(name, signal_number):
        run = snakemake(tmp_path / name, url, *goal, nap=5)
        first = next(line for line in run.stdout if "flow-run" in line)
        process.send_signal(signal_number)
        text = first + run.communicate(timeout=300)[0]
        assert run.returncode == 0 and (tmp_path / name / "merged").exists(), text
        assert text.count("the run goes on without being shown") <= 1 and "Traceback" not in text
        return re.search(r"flow-run/(\S+)", first)[1], text

    stopped, _ = broken_run("hangs", signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    shown = json.load(urlopen(f"{url}/flow_runs/{stopped}", timeout=60))
    assert shown["state_type"] in ("RUNNING", "COMPLETED")
    _, text = broken_run("killed", signal.SIGKILL)
    assert text.count("the run goes on without being shown") == 1


@pytest.mark.slow
def test_absent_server_costs_one_warning(tmp_path, home):
    """Nothing listens at the address: the run is as it is without, with one warning."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    run = snakemake(tmp_path / "run", url, "--retries", "1", "--", "merged")
    text = run.communicate(timeout=300)[0]
    assert run.returncode == 0 and (tmp_path / "run/merged").exists(), text
    assert text.count("the run goes on without being shown") == 1 and "Traceback" not in text


@pytest.mark.slow
def test_runner_prefect_has_a_server_of_its_own(tmp_path, home):
    """`sotrp_runner=prefect sotrp -c` starts a server, shows the run there, stops it, and the records are kept."""
    import sqlite3

    (tmp_path / "mine.json").write_text(json.dumps({"simulate": {"n_sources": 5}}))
    command = [
        sys.executable,
        "-m",
        "sotrplib.cli",
        "-c",
        "mine.json",
        "--cores",
        "1",
        "--",
        "results/inputs/catalog.h5",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "sotrp_runner": "prefect"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    address, flow_run = re.search(r"(http\S+)/runs/flow-run/(\S+)", done.stderr).groups()
    with pytest.raises(URLError):
        urlopen(f"{address}/api/health", timeout=10)
    with sqlite3.connect(home / "prefect.db") as records:
        select = "SELECT state_type, parameters FROM flow_run WHERE id = ?"
        [(kind, parameters)] = records.execute(select, [flow_run]).fetchall()
        jobs = records.execute("SELECT state_type FROM task_run WHERE flow_run_id = ?", [flow_run]).fetchall()
    assert kind == "COMPLETED" and json.loads(parameters)["simulate"] == {"n_sources": 5}
    assert jobs == [("COMPLETED",)] * 3


@pytest.mark.parametrize("how", ["environment", "profile"])
def test_configured_server_is_used(tmp_path, how):
    """PREFECT_API_URL or a profile, as `prefect config set` writes it, names the server; none is started."""
    url = "http://127.0.0.1:9/api"
    profile = f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{url}"\n' if how == "profile" else ""
    (tmp_path / "profiles.toml").write_text(profile)
    environment = os.environ | {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_API_URL", None)
    environment |= {"PREFECT_API_URL": url} if how == "environment" else {}
    code = "from sotrplib.cli import dashboard\nwith dashboard.server() as url: print(url)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == url, done.stderr


def test_server_that_does_not_start_is_told(tmp_path, monkeypatch):
    """A temporary server that stops at once is an error that names its log, without waiting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(dashboard, "SERVE", "raise SystemExit(7)")
    with pytest.raises(dashboard.ServerError, match=r"status 7; see .*prefect_server\.log"), dashboard.server():
        pass
