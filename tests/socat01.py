"""The interface of socat 0.1, which no registry has: what is used of its client that keeps lists, with its signatures.

UUID ids, times as astropy Time, objects found in a box by any row of their ephemeris; like that client, and unlike
the one of its database, boxes do not cross RA 0. Where socat 0.1 is installed, the tests read its own clients too.
"""

import uuid
from dataclasses import dataclass

from astropy.coordinates import ICRS
from astropy.time import Time
from astropy.units import Quantity


@dataclass(frozen=True)
class FixedSource:
    source_id: uuid.UUID
    position: ICRS
    name: str | None
    flux: Quantity | None
    monitored: bool = False
    pointing: bool = False


@dataclass(frozen=True)
class SolarSystemObject:
    sso_id: uuid.UUID
    name: str
    MPC_id: int | None


@dataclass(frozen=True)
class EphemerisPoint:
    sso_id: uuid.UUID
    time: Time
    position: ICRS


class Client:
    def __init__(self):
        self.fixed, self.objects, self.points = [], [], []

    def create_source(self, *, position, name=None, flux=None, flags=None):
        self.fixed.append(FixedSource(uuid.uuid4(), position, name, flux, **(flags or {})))
        return self.fixed[-1]

    def create_sso(self, *, name, MPC_id, flags=None):  # noqa: N803
        self.objects.append(SolarSystemObject(uuid.uuid4(), name, MPC_id))
        return self.objects[-1]

    def create_ephem(self, *, sso_id, MPC_id, name, time, position, flux=None):  # noqa: N803
        self.points.append(EphemerisPoint(sso_id, time, position))

    def get_box_fixed(self, *, lower_left, upper_right):
        return [source for source in self.fixed if _inside(source.position, lower_left, upper_right)]

    def get_box_sso(self, *, lower_left, upper_right, t_min, t_max):
        seen = {
            point.sso_id
            for point in self.points
            if t_min <= point.time <= t_max and _inside(point.position, lower_left, upper_right)
        }
        return [found for found in self.objects if found.sso_id in seen]

    def get_ephem_points(self, *, sso_id, t_min, t_max):
        return [point for point in self.points if point.sso_id == sso_id and t_min <= point.time <= t_max]


def _inside(position, lower_left, upper_right):
    ra_inside = lower_left.ra.deg <= position.ra.deg <= upper_right.ra.deg
    return ra_inside and lower_left.dec.deg <= position.dec.deg <= upper_right.dec.deg
