"""What the connectors of all services share: reaching a database and reading which tables it has."""

import importlib
import os
from contextlib import contextmanager
from pathlib import Path

from sotrplib.connectors import ServiceError

_FORGET = "postgresql://"


def set_environment(**values):
    """Set environment variables of a client, in place of any spelling of their names: clients ignore their case.

    Parameters
    ----------
    values : str
        By variable; an empty one is left as the environment has it.
    """
    for name, value in values.items():
        if value:
            for other in [key for key in os.environ if key.lower() == name.lower()]:
                del os.environ[other]
            os.environ[name] = value


def make_engine(kind, name, variable):
    """SQLAlchemy engine of an existing database.

    Parameters
    ----------
    kind : {"sqlite", "postgresql"}
    name : str
        A file, or ``user:password@host:port/database``.
    variable : str
        Environment variable that gives the name, for messages.

    Raises
    ------
    ServiceError
        If a file does not exist (SQLite would make an empty one).
    """
    from sqlalchemy import create_engine

    if kind == "postgresql":
        return create_engine(f"postgresql+psycopg://{name.removeprefix(_FORGET)}", connect_args={"connect_timeout": 10})
    if not Path(name).is_file():
        raise ServiceError(f"{name}: no such database file; correct {variable} or the key `database`")
    return create_engine(f"sqlite:///{name}")


@contextmanager
def explained(what):
    """Turn what a database or its driver complains of into a ServiceError that says what was asked of whom."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ServiceError(
            f"{what}: {reason}; see that the database is there, is whole and up to date, and lets you in"
        ) from error


def client_settings(module, name="Settings"):
    """Settings of a client, as its environment variables say.

    Parameters
    ----------
    module, name : str
        Where they are declared: ``lightcurvedb.config``, ``Settings``. Clients read them when they are imported.

    Raises
    ------
    ServiceError
        If the client is not installed or does not understand a variable.
    """
    client = module.partition(".")[0]
    try:
        with understood(f"{client}'s environment variables"):
            return getattr(importlib.import_module(module), name)()
    except ImportError as error:
        raise ServiceError(f"{client} is not installed ({error}); pip install 'sotrplib[{client}]'") from error


@contextmanager
def understood(what):
    """Turn values that do not fit the models of a client into a ServiceError."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise ServiceError(f"{what}: {name} is {first['input']!r}: {first['msg']}") from error


def reflect(engine, names, what, cure):
    """Tables of a database as they are there, whatever version of a client made them.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    names : sequence of str
        Tables that are needed.
    what, cure : str
        The database, and what to do if a table is missing, for messages.

    Returns
    -------
    dict of str to sqlalchemy.Table
    """
    from sqlalchemy import MetaData, Table, inspect

    with explained(what):
        found = inspect(engine).get_table_names()
        missing = [name for name in names if name not in found]
        if missing:
            raise ServiceError(f"{what}: has no table {', '.join(missing)}, only {found or 'none at all'}; {cure}")
        metadata = MetaData()
        return {name: Table(name, metadata, autoload_with=engine, resolve_fks=False) for name in names}


def require_columns(table, names, what, cure):
    """Raise a ServiceError if a reflected table lacks a column."""
    missing = [name for name in names if name not in table.c]
    if missing:
        found = [column.name for column in table.c]
        raise ServiceError(f"{what}: table {table.name} has no column {', '.join(missing)}, only {found}; {cure}")
