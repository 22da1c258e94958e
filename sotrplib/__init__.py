"""Time-domain astronomy with millimetre depth-1 maps: small functions that the workflow's rules call."""

__version__ = "0.1.0"
