"""The lines of the benchmark by name; each takes "full" or "small" and gives its rows."""

import epochs
import filtering
import fluxes
import inputs
import searching
import speed
import survey
import together

LINES = {
    "efficiency": filtering.efficiency,
    "response": filtering.response,
    "scatter": filtering.scatter,
    "noise_level": filtering.noise_level,
    "forced": fluxes.forced,
    "blends": fluxes.blends,
    "crowded": fluxes.crowded,
    "positions": searching.places,
    "completeness": searching.completeness,
    "separation": searching.separation,
    "together": together.together,
    "differences": epochs.differences,
    "stacks": epochs.stacks,
    "survey": survey.survey,
    "beams": inputs.beam,
    "units": inputs.unit,
    "speed": speed.speed,
}
