"""The configuration being made from an old one, and the account of every option of the old one."""

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

MAPPED, UNNEEDED, REFUSED = "mapped", "not needed", "refused"
VERDICTS = (MAPPED, UNNEEDED, REFUSED)
NOT_GIVEN = object()


@dataclass(frozen=True)
class Note:
    """What became of one option of the old configuration.

    ``key`` is ours that it set, if any; ``text`` says the value there, or the reason.
    """

    option: str
    found: object
    verdict: str
    text: str
    key: str = ""

    def __str__(self):
        found = "" if self.found is NOT_GIVEN else f" = {plain(self.found)}"
        arrow = " -> " if self.verdict == MAPPED else ": "
        return f"{self.option}{found}{arrow}{self.key + ' ' if self.key else ''}{self.text}"


@dataclass
class Draft:
    """A configuration of ours that grows, key by key, with a note for each option it came from."""

    config: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    files: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    @property
    def simulated(self):
        """Whether any map is to be simulated."""
        return any(row["map_path"].startswith("results/simulated/") for row in self.rows)

    def get(self, key):
        """Value of a dotted key so far, None if it was not set."""
        part = self.config
        for name in key.split("."):
            part = part.get(name) if isinstance(part, dict) else None
        return part

    def put(self, key, value, option, found=NOT_GIVEN):
        """Set a dotted key; a second value for the same key is refused, for only one of them can hold."""
        if self.get(key) not in (None, value):
            self.refuse(option, found, f"{key} is {self.get(key)!r} already; one value holds for all")
            return
        *sections, name = key.split(".")
        part = self.config
        for section in sections:
            part = part.setdefault(section, {})
        part[name] = value
        self.notes.append(Note(option, found, MAPPED, plain(value), key))

    def add(self, key, value, option, found=NOT_GIVEN):
        """Append to a list at a dotted key."""
        so_far = self.get(key) or []
        if so_far:
            self.remove(key)
        self.put(key, so_far + [value], option, found)
        self.notes[-1] = replace(self.notes[-1], text=plain(value))

    def remove(self, key):
        """Take a dotted key out again."""
        section, _, name = key.rpartition(".")
        (self.get(section) if section else self.config).pop(name, None)

    def column(self, row, name, value, option, found=NOT_GIVEN):
        """Set a column of one row of the map table."""
        row[name] = value
        self.note(option, found, f"map table, {name} {plain(value)}")

    def note(self, option, found, text):
        """Note an option that has its place here without being one key."""
        self.notes.append(Note(option, found, MAPPED, text))

    def skip(self, option, found, reason):
        """Note an option that has nothing to do here."""
        self.notes.append(Note(option, found, UNNEEDED, reason))

    def refuse(self, option, found, reason):
        """Note an option that has no counterpart."""
        self.notes.append(Note(option, found, REFUSED, reason))

    def reject(self, key, reason):
        """Take back the key whose value, or part of it, does not fit, and refuse the options that set it."""
        ours = next((note.key for note in self.notes if note.key and f"{key}.".startswith(f"{note.key}.")), key)
        self.remove(ours)
        self.notes = [
            replace(note, verdict=REFUSED, key="", text=f"{key}: {reason}") if note.key == ours else note
            for note in self.notes
        ]


@dataclass(frozen=True)
class To:
    """Rule: the option is one of our keys.

    Parameters
    ----------
    key : str
        Ours, dotted.
    unit : str
        Unit that the value is brought to; empty for plain values.
    default : object
        What the original takes when the option is not given; None if ours may decide.
    factor : float
        Our value is the old one times this.
    kind : type
        Of plain values.
    names : dict
        Old word to ours.
    """

    key: str
    unit: str = ""
    default: object = None
    factor: float = 1.0
    kind: type = float
    names: dict = field(default_factory=dict)

    def __call__(self, draft, option, found):
        draft.put(self.key, self.convert(found), option, found)

    def convert(self, found):
        """Our value of an old one."""
        if self.names:
            found = truth(found) if set(self.names) == {True, False} else found
            if found not in self.names:
                raise ValueError(f"expected one of {', '.join(map(str, self.names))}")
            return self.names[found]
        if self.unit:
            return tidy(quantity(found, self.unit) * self.factor)
        return self.kind(found) if self.kind is not float else tidy(float(found) * self.factor)


@dataclass(frozen=True)
class Unneeded:
    """Rule: the option has nothing to do here, for this reason."""

    reason: str
    default: None = None

    def __call__(self, draft, option, found):
        draft.skip(option, found, self.reason)


@dataclass(frozen=True)
class Refuse:
    """Rule: the option has no counterpart, except at values at which it does nothing."""

    reason: str
    harmless: tuple = ()
    default: None = None

    def __call__(self, draft, option, found):
        if found in self.harmless or str(found) in map(str, self.harmless):
            draft.skip(option, found, "does nothing at this value")
        else:
            draft.refuse(option, found, self.reason)


def apply_rules(draft, where, given, rules, done=()):
    """Apply to every option of a part of the old configuration its rule; one without a rule is refused by name.

    A rule is a function of (draft, option, found) that may raise ValueError, with an attribute ``default`` if the
    original has a value of its own for an option that is not given. Options in ``done`` are left alone.
    """
    for name, found in given.items():
        option = f"{where}.{name}"
        if name in done:
            continue
        if name not in rules:
            draft.refuse(option, found, f"no such option; known here: {', '.join([*done, *rules]) or 'none'}")
        elif found is None:
            draft.skip(option, found, "as if not given")
        else:
            _apply(rules[name], draft, option, found)
    for name, rule in rules.items():
        default = getattr(rule, "default", None)
        if given.get(name) is None and default is not None:
            _apply(rule, draft, f"{where}.{name} (default)", default)


def _apply(rule, draft, option, found):
    try:
        rule(draft, option, found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # what values of the wrong type lead to
        draft.refuse(option, found, f"cannot be read: {error}")


def plain(value):
    """A value as it would stand in a file."""
    return value if isinstance(value, str) else json.dumps(value)


def quantity(found, unit):
    """A number in ``unit`` from ``"15 arcmin"`` or ``{"value": 15, "unit": "arcmin"}``.

    Raises
    ------
    ValueError
        If it has no unit or one of another kind.
    """
    from astropy import units

    if isinstance(found, dict):
        found = f"{found.get('value')} {found.get('unit', '')}"
    try:
        read = units.Quantity(found)
        if read.unit == units.dimensionless_unscaled:
            raise ValueError(f"has no unit; expected one as in '1 {unit}'")
        return float(read.to_value(unit))
    except (TypeError, units.UnitConversionError) as error:
        raise ValueError(str(error)) from error


def truth(found):
    """True or false from a JSON value or a word."""
    words = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
    if str(found).lower() not in words:
        raise ValueError("expected true or false")
    return words[str(found).lower()]


def unix_time(found):
    """Unix seconds of an ISO date or date and time; UTC where it names no zone."""
    read = datetime.fromisoformat(str(found))
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def duration_s(found):
    """Seconds of ``P1D``, ``PT6H``, ``01:30:00`` or a number of seconds."""
    text = str(found)
    iso = re.fullmatch(r"P(?:([\d.]+)W)?(?:([\d.]+)D)?(?:T(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?)?", text)
    clock = re.fullmatch(r"(\d+):(\d+)(?::([\d.]+))?", text)
    parts = (0, 0, *clock.groups()) if clock else iso.groups() if iso else (0, 0, 0, 0, text)
    return sum(float(part or 0) * size for part, size in zip(parts, (604800, 86400, 3600, 60, 1), strict=True))


def tidy(number):
    """A float without the last digits that a change of unit adds."""
    return float(f"{number:.10g}")
