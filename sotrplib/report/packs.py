"""Columns of numbers inside the page, small and read at once: zlib in base64, unpacked by the script of the page."""

import base64
import json
import zlib

import numpy as np

_KINDS = {"f4": "Float32Array", "f8": "Float64Array", "i4": "Int32Array", "u1": "Uint8Array"}
_ALIGNMENT = 8


def pack(arrays, words):
    """One text of arrays and words.

    Parameters
    ----------
    arrays : mapping of str to array (n,)
        Of one of the types float32, float64, int32 and uint8.
    words : dict
        Anything that JSON holds; NaN is not.

    Returns
    -------
    str
        base64 of zlib of: the length of the header (uint32, little endian), the header (JSON, padded with blanks:
        ``words``, and ``arrays`` by name as [kind, offset, length]), and the arrays one after the other.
    """
    places, parts, offset = {}, [], 0
    for name, values in arrays.items():
        values = np.ascontiguousarray(values)
        values = values.astype(values.dtype.newbyteorder("<"))
        places[name] = [_KINDS[f"{values.dtype.kind}{values.dtype.itemsize}"], offset, len(values)]
        data = values.tobytes()
        data += bytes(-len(data) % _ALIGNMENT)
        parts.append(data)
        offset += len(data)
    header = json.dumps({"arrays": places, "words": words}, allow_nan=False, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + 4) % _ALIGNMENT)
    whole = len(header).to_bytes(4, "little") + header + b"".join(parts)
    return base64.b64encode(zlib.compress(whole, 9)).decode()


def shorten(values, bits=12):
    """float32 of so many bits of mantissa (an error below 2**-13 for 12), which packs to half the size."""
    whole = np.ascontiguousarray(values, np.float32).view("u4")
    drop = np.uint32(23 - bits)
    finite = np.isfinite(values)
    rounded = (whole + (np.uint32(1) << (drop - np.uint32(1)))) >> drop << drop
    return np.where(finite, rounded, whole).astype("u4").view(np.float32)
