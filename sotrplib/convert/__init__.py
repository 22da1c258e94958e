"""Configurations of the original sotrplib (JSON, one handler a stage) made into ours; every option is accounted for."""

from sotrplib.convert.assemble import ConvertError, Result, convert, convert_file, describe, is_old, write
from sotrplib.convert.draft import MAPPED, REFUSED, UNNEEDED, Note

__all__ = [
    "MAPPED",
    "REFUSED",
    "UNNEEDED",
    "ConvertError",
    "Note",
    "Result",
    "convert",
    "convert_file",
    "describe",
    "is_old",
    "write",
]
