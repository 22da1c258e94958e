"""A real Slurm on this host for as long as one command runs: munge, the controller and several nodes on loopback.

    python tests/slurm_cluster.py snakemake --profile slurm

Debian's packages are installed if they are missing. Everything lives in a temporary folder, on ports that are free;
only the link /etc/slurm/slurm.conf lies outside, since a job step finds its configuration nowhere else. A watcher stops
what was started, by pid files, and removes the link when this process ends, however it ends.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

LINK = Path("/etc/slurm/slurm.conf")
PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "squeue", "scancel", "scontrol")
N_NODES = 4
NODE_CPUS = 2
NODE_MEMORY_MB = 4000
START_S = 60  # the daemons take 2 s on an idle machine

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={port}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdSpoolDir={folder}/spool/%n
SlurmdParameters=config_overrides
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/run/munge.sock
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
ReturnToService=2
KillWait=2
SlurmdTimeout=15
MinJobAge=3600
OverTimeLimit=0
SchedulerParameters=sched_min_interval=0,bf_interval=2
DefMemPerCPU=500
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=1-0 State=UP
"""

# Waits for the end of its standard input, which this process holds open, then stops whatever left a pid file.
WATCHER = """\
cat >/dev/null
timeout 20 scancel --user=root --quiet
for i in 1 2 3 4 5 6 7 8 9 10; do [ -z "$(timeout 5 squeue --noheader)" ] && break; sleep 0.5; done
for signal in TERM KILL; do
    for file in "$1"/run/slurmd.*.pid "$1"/run/slurmctld.pid "$1"/run/munged.pid; do
        [ -s "$file" ] && kill -s $signal "$(cat "$file")" 2>/dev/null
    done
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        alive=
        for file in "$1"/run/*.pid; do [ -s "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null && alive=yes; done
        [ -z "$alive" ] && break 2
        sleep 0.25
    done
done
[ "$(readlink "$2")" = "$1/slurm.conf" ] && rm -f "$2"
rm -rf "$1"
"""


class NoSlurm(RuntimeError):
    """Slurm cannot be had here; the message says why."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its folder, with pid files in ``run`` and logs in ``log``, and the names of its nodes."""

    folder: Path
    nodes: tuple

    def pid(self, daemon):
        """Process id of ``slurmctld``, ``munged`` or ``slurmd.<node>``."""
        return int((self.folder / "run" / f"{daemon}.pid").read_text())

    def jobs(self):
        """All jobs that the controller still knows: a dict of id to its fields, as ``scontrol show job`` names them."""
        lines = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in run("scontrol", "-o", "show", "jobs").splitlines()]
        return {int(job["JobId"]): job for job in lines if "JobId" in job}

    def running(self):
        """Running jobs: a dict of id to the node."""
        return {number: job["NodeList"] for number, job in self.jobs().items() if job["JobState"] == "RUNNING"}

    def script(self, job_id):
        """Batch script of a job."""
        return run("scontrol", "write", "batch_script", str(job_id), "-")

    def kill_node(self, node):
        """Kill the daemon of one node, as a crash would; its jobs go on."""
        os.kill(self.pid(f"slurmd.{node}"), signal.SIGKILL)

    def start_node(self, node):
        """Start the daemon of one node."""
        run("slurmd", "-N", node)


def run(*command, check=True):
    """Output of a command; its errors are shown with the command if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def require():
    """Install what is missing.

    Raises
    ------
    NoSlurm
        If the daemons cannot be run here, with the reason.
    """
    if os.geteuid() != 0:
        raise NoSlurm("Slurm's daemons need root")
    _clear_stale_link()
    if LINK.exists():
        raise NoSlurm(f"{LINK} exists: this host has a Slurm of its own")
    if not _missing():
        return
    if not shutil.which("apt-get"):
        raise NoSlurm(f"{', '.join(_missing())} not found, and no apt-get to install {' '.join(PACKAGES)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in ("update", f"install -y --no-install-recommends {' '.join(PACKAGES)}"):
        apt = ["apt-get", "-q", *command.split()]
        done = subprocess.run(apt, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise NoSlurm(f"{' '.join(apt)} failed: {done.stdout.strip().splitlines()[-1:]}")
    if _missing():
        raise NoSlurm(f"{', '.join(_missing())} not found after installing {' '.join(PACKAGES)}")


@contextmanager
def cluster(n_nodes=N_NODES):
    """Start a cluster of ``n_nodes`` nodes and stop it afterwards.

    Raises
    ------
    NoSlurm
        See :func:`require`.
    """
    require()
    folder = Path(tempfile.mkdtemp(prefix="slurm."))
    with ExitStack() as stack:
        watcher = subprocess.Popen(
            ["sh", "-c", WATCHER, "watcher", str(folder), str(LINK)], stdin=subprocess.PIPE, start_new_session=True
        )
        stack.callback(watcher.wait)
        stack.callback(watcher.stdin.close)
        yield _start(folder, tuple(f"n{i + 1}" for i in range(n_nodes)))


def _start(folder, nodes):
    for name in ("run", "log", "state", "munge", *(f"spool/{node}" for node in nodes)):
        (folder / name).mkdir(parents=True, mode=0o755)
    _start_munge(folder)
    (folder / "slurm.conf").write_text(_config(folder, nodes))
    LINK.parent.mkdir(exist_ok=True)
    LINK.symlink_to(folder / "slurm.conf")
    run("slurmctld", "-c")
    for node in nodes:
        run("slurmd", "-N", node)
    _wait_until_idle(folder, nodes)
    return Cluster(folder, nodes)


def _start_munge(folder):
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    files = {"key-file": key, "socket": folder / "run/munge.sock", "pid-file": folder / "run/munged.pid"}
    files |= {"log-file": folder / "log/munged.log", "seed-file": folder / "munge/seed"}
    folder.chmod(0o755)
    run("munged", "--force", *(f"--{option}={path}" for option, path in files.items()))


def _config(folder, nodes):
    host = socket.gethostname().split(".")[0]
    memory_mb = min(NODE_MEMORY_MB, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10)
    port, *ports = _free_ports(1 + len(nodes))
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={number} CPUs={NODE_CPUS} RealMemory={memory_mb}"
        for node, number in zip(nodes, ports, strict=True)
    ]
    return CONFIG.format(host=host, port=port, folder=folder, nodes="\n".join(lines))


def _free_ports(n):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


def _wait_until_idle(folder, nodes):
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        states = run("sinfo", "-hN", "-o", "%T", check=False).split()
        if states == ["idle"] * len(nodes):
            return
        time.sleep(0.2)
    logs = [f"{path.name}: {path.read_text(errors='replace')[-500:]}" for path in sorted(folder.glob("log/*"))]
    raise RuntimeError("\n".join([f"nodes not idle after {START_S} s: {states}", *logs]))


def _missing():
    return [name for name in PROGRAMS if not shutil.which(name)]


def _clear_stale_link():
    """Remove the link of a cluster whose controller is gone, as after the machine was switched off."""
    if not LINK.is_symlink():
        return
    pid_file = Path(os.readlink(LINK)).parent / "run" / "slurmctld.pid"
    if not pid_file.exists() or not Path("/proc", pid_file.read_text().strip()).exists():
        LINK.unlink()


def main(command):
    """Exit status of ``command``, run with a cluster; 77, as test drivers have it for skipped, without one."""
    try:
        with cluster():
            return subprocess.run(command).returncode
    except NoSlurm as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 77


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
