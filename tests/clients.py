"""The clients of the services, each in a process of its own, and databases made with them."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def process():
    """A process for one client package: ``ask(function, *args, **environment)`` calls a function there."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *args, **environment: pool.submit(_call, function, args, environment).result(timeout=120)


def _call(function, args, environment):
    kept = dict(os.environ)
    os.environ.update(environment)
    try:
        return function(*args)
    finally:
        os.environ.clear()
        os.environ.update(kept)
