"""Plots of the benchmark: a picture of every line, its numbers beside their targets."""

import re

import numpy as np
import together
from searching import theory


def draw(folder, judged, expectations):
    """One PNG a line, and the completeness against theory."""
    import matplotlib

    matplotlib.use("Agg")
    for line in dict.fromkeys(item.line for item in judged):
        items = [item for item in judged if item.line == line]
        _draw_line(folder / f"{line}.png", expectations[line]["what"], items)
    if any(item.line == "together" for item in judged):
        together.draw(folder, judged)
    points = [item.row for item in judged if item.line == "completeness" and "minus theory" in item.row.quantity]
    if points:
        _draw_completeness(folder / "completeness_curve.png", points)


def _draw_line(path, title, items):
    """Numbers as points with error bars, each in units of its own target where they differ."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.28 * len(items)), layout="constrained")
    place = -np.arange(len(items))
    colours = {True: "tab:green", False: "tab:red", None: "tab:gray"}
    for y, item in zip(place, items, strict=True):
        limits = [float(text) for text in re.findall(r"-?[\d.]+(?:e-?\d+)?", item.target)]
        axes.errorbar(item.row.value, y, xerr=item.row.error, fmt="o", color=colours[item.met], ms=5)
        axes.plot(limits, [y] * len(limits), "k|", ms=10)
    axes.set_yticks(place, [item.row.quantity for item in items], fontsize=7)
    values = np.array([item.row.value for item in items])
    if values.min() > 0 and values.max() > 50 * values.min():
        axes.set_xscale("log")
    axes.set_title(f"{title}; | target", fontsize=9)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_completeness(path, points):
    from matplotlib import pyplot as plt

    snr = np.array([float(row.quantity.rsplit(" ", 1)[1]) for row in points])
    excess, error = np.array([[row.value, row.error] for row in points]).T
    grid = np.linspace(3, 9, 200)
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(grid, [theory(s) for s in grid], "k-", lw=1, label="theory")
    axes.errorbar(snr, excess + [theory(s) for s in snr], error, fmt="o", ms=4, label="measured")
    axes.set(xlabel="true SNR", ylabel="completeness")
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
