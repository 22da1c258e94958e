"""socat's web server (``socat.api``), for which socat itself has no client: the fixed sources in a box of the sky.

The server tells of moving objects one by one, by ids that it does not list, so that they cannot be asked for.
"""

import json
from http.client import HTTPException
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from sotrplib.connectors import ServiceError

TIMEOUT_S = 60.0
_CURE = "correct socat_client_hostname, or read the database behind that server (socat_client_client_type=db)"


class Client:
    """What of socat's client is used for fixed sources.

    Parameters
    ----------
    hostname : str
        Address of the server: ``http://host:port``, or ``host:port``.
    """

    def __init__(self, hostname):
        self.address = (hostname if "://" in hostname else f"http://{hostname}").rstrip("/")
        if not self.address.startswith(("http://", "https://")):
            raise ServiceError(f"socat_client_hostname: found {hostname}, expected http://host:port; {_CURE}")

    def get_box(self, *, lower_left, upper_right):
        """Fixed sources between two corners (ICRS); the box does not cross RA 0."""
        corners = {"lower_left": _to_json(lower_left), "upper_right": _to_json(upper_right)}
        rows = self._post("/api/v1/source/box", corners)
        try:
            return [_source(row) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise ServiceError(f"{self.address}: not an answer of socat ({error!r}); {_CURE}") from error

    def _post(self, path, body):
        headers = {"Content-Type": "application/json"}
        request = Request(self.address + path, data=json.dumps(body).encode(), headers=headers, method="POST")
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise ServiceError(f"{self.address}{path}: refused with {error.code} {error.reason}; {_CURE}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise ServiceError(f"{self.address}{path}: {error}; {_CURE}") from error


def _to_json(position):
    return {axis: {"value": getattr(position, axis).to_value("deg"), "unit": "deg"} for axis in ("ra", "dec")}


def _source(row):
    """A source with the attributes that those of socat's own clients have."""
    from astropy.coordinates import ICRS
    from astropy.units import Quantity

    position = ICRS(**{axis: Quantity(**row["position"][axis]) for axis in ("ra", "dec")})
    flux = None if row["flux"] is None else Quantity(**row["flux"])
    return SimpleNamespace(source_id=row["source_id"], name=row["name"], position=position, flux=flux)
