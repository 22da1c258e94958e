"""Settings of the clients of services: read in a process of its own for each, as a job does."""

import pytest
from clients import process

from sotrplib.connectors import ServiceError, databases


@pytest.fixture
def ask():
    with process() as ask:
        yield ask


def read(module, name="Settings"):
    databases.client_settings(module, name)


@pytest.mark.parametrize(
    ("module", "variable", "message"),
    [
        ("mapcat.helper", "MAPCAT_DATABASE_TYPE", "mapcat's environment variables: database_type is 'five'"),
        ("socat.settings", "socat_model_database_type", "socat's environment variables: database_type is 'five'"),
        ("lightcurvedb.config", "LIGHTCURVEDB_POSTGRES_PORT", "lightcurvedb's environment .*: postgres_port is 'five'"),
    ],
)
def test_variable_that_cannot_be_is_named(ask, module, variable, message):
    """A client that refuses a variable while it is imported is no traceback, but that variable with what it may be."""
    with pytest.raises(ServiceError, match=message + r".*: Input should be "):
        ask(read, module, **{variable: "five"})


def test_absent_client_is_named():
    """A client that is not installed is an error with the extra that brings it."""
    with pytest.raises(ServiceError, match=r"nowheredb is not installed .*; pip install 'sotrplib\[nowheredb\]'"):
        databases.client_settings("nowheredb.config")
