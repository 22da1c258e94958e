"""The services around the workflow: catalogues of sources (socat) and maps (mapcat), light curves (lightcurvedb).

Each module imports its client when it is used, and one process uses one of them: they share a registry of tables.
"""


class ServiceError(RuntimeError):
    """A service that cannot be used: names what was asked, what was found and the cure."""
