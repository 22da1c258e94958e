"""The Prefect server that shows a run: the configured one, or one of our own for as long as the run lasts."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

# The server ends when its standard input does, that is with this process, however that ends.
SERVE = """
import os, runpy, signal, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()
sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", sys.argv[1]]
runpy.run_module("prefect", run_name="__main__", alter_sys=True)
"""
LOG = Path(".snakemake/sotrp/prefect_server.log")
START_S = 90.0


class ServerError(RuntimeError):
    """A temporary server that did not start."""


@contextmanager
def server():
    """Address of the API of the configured server, or of a temporary one that is stopped at the end.

    A server is configured by PREFECT_API_URL or `prefect config set`. A temporary one keeps its records where Prefect
    keeps all of them (PREFECT_HOME), so that `prefect server start` shows them again.

    Raises
    ------
    ServerError
        If the temporary server does not start.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect asks its makers' computers nothing and tells them nothing
    from prefect.settings import get_current_settings

    configured = get_current_settings().api.url
    if configured:
        yield configured
        return
    process, url = _start()
    try:
        _wait(process, url)
        yield url
    finally:
        _stop(process)


def _start():
    """Process of a new server on a free port of this machine, and the address of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "PREFECT_SERVER_UI_API_URL": "/api",  # seen from the browser, which may come through a tunnel
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with open(LOG, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(port)],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the run, which then tells the server how it ended
        )
    return process, f"http://127.0.0.1:{port}/api"


def _wait(process, url):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the temporary Prefect server stopped with status {process.returncode}; see {LOG}")
        try:
            with urlopen(f"{url}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise ServerError(f"the temporary Prefect server did not answer within {START_S:.0f} s; see {LOG}")


def _stop(process):
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
