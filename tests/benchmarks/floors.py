"""Floors of the cost of a map, in CPU seconds of one thread: what no pipeline on these files can do without."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EMPTY = "import h5py, numpy, pandas\n"  # what every stage needs to read its tables


def measure(table):
    """Floors for the first map of a map table, each the least of three, in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(table)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _floors(row):
    import ducc0

    from sotrplib import store

    signal = _read_plane(row["map_path"])
    ivar, seconds = _read_plane(row["weight_path"]), _read_plane(row["time_path"])
    rows, columns = (np.flatnonzero(ivar.any(axis=axis)) for axis in (1, 0))
    shape = [ducc0.fft.good_size(int(p[-1] - p[0] + 1), True) for p in (rows, columns)]
    part = np.zeros(shape, np.float32)
    found = {
        "read FITS": _least(lambda: [_read_plane(row[f"{name}_path"]) for name in ("map", "weight", "time")]),
        "FFT forward and inverse": _least(lambda: _transform(part)),
    }
    with tempfile.TemporaryDirectory() as folder:
        path, mask = Path(folder, "map.h5"), (ivar > 0).view("u1")
        arrays = {"rho": signal, "kappa": ivar, "time": seconds, "mask": mask}
        found["write HDF5"] = _least(lambda: store.write(path, arrays=arrays))
        found["read HDF5"] = _least(lambda: [store.read_array(path, name) for name in arrays])
    found["empty job"] = _empty_job()
    return found


def _read_plane(path):
    """First plane of a FITS image, by the plainest means: float32, big-endian, after headers of 2880 bytes."""
    with open(path, "rb") as file:
        head = b""
        while not any(head[i : i + 8] == b"END     " for i in range(0, len(head), 80)):
            head += file.read(2880)
        cards = {head[i : i + 8].decode().strip(): head[i + 10 : i + 80] for i in range(0, len(head), 80)}
        shape = [int(cards[f"NAXIS{axis}"].split(b"/")[0]) for axis in (2, 1)]
        return np.fromfile(file, ">f4", shape[0] * shape[1]).reshape(shape).astype("f4")


def _transform(image):
    import ducc0

    spectrum = ducc0.fft.r2c(image, nthreads=1)
    ducc0.fft.c2r(spectrum, lastsize=image.shape[1], inorm=2, forward=False, nthreads=1)


def _least(work, repeat=3):
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def _empty_job(n_jobs=10):
    """CPU time that one more job of the engine costs, whose script imports what all need and does nothing."""
    import dayruns

    costs = []
    for n in (1, 1 + n_jobs):
        with tempfile.TemporaryDirectory(prefix="floor_") as folder:
            Path(folder, "job.py").write_text(EMPTY)
            rules = f'rule all:\n    input: expand("done/{{i}}", i=range({n}))\n\nrule job:\n'
            Path(folder, "Snakefile").write_text(rules + '    output: touch("done/{i}")\n    script: "job.py"\n')
            costs.append(dayruns.snakemake(folder, "--cores", "2")[1])
    return (costs[1] - costs[0]) / n_jobs


if __name__ == "__main__":
    from sotrplib import mapindex

    sys.stdout.write(json.dumps(_floors(mapindex.read_map_table(sys.argv[1], "")[0])) + "\n")
