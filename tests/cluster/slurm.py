"""A Slurm of one machine, for tests: a munged, a slurmctld and a slurmd of its own, on free ports, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
PATIENCE = 60.0  # seconds until something that takes a moment must have happened
FOREIGN = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SINFO_")
NODE = socket.gethostname().split(".")[0]
BREAK = 3.0  # seconds
NEEDED = "NNUNET_AL_NEEDS_SLURM"
"""Set to 1, tests fail where there is no Slurm, instead of being skipped."""

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
# every event is answered at once instead of within half a minute
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
PriorityType=priority/basic
JobRequeue=1
ReturnToService=2
KillWait=5
BatchStartTimeout=5
MessageTimeout=10
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
MinJobAge=86400
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 Sockets=1 CoresPerSocket={cpus} RealMemory={memory_mb} Gres=gpu:{gpus}
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A running Slurm; what is called with `environment` talks to it."""

    def __init__(self, folder: Path, environment: dict[str, str], munged: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.environment = environment
        self.munged = munged
        self.requeued: dict[str, float] = {}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *command: object) -> str:
        """Call one of Slurm's programs, which must succeed; what it prints."""
        arguments = [str(argument) for argument in command]
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def queue(self) -> dict[str, tuple[str, str]]:
        """What waits or runs: id, with the part of an array ("12_0"), -> its state ("PENDING") and the reason."""
        rows = (row.split("|") for row in self.run("squeue", "-h", "-r", "-o", "%i|%T|%r").splitlines())
        return {row[0]: (row[1], row[2]) for row in rows}

    def node_state(self) -> str:
        """State of the node, "idle" where nothing runs."""
        return self.run("sinfo", "-h", "-o", "%t").strip()

    def wait_until(self, predicate: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until `predicate()` is true; it is wrong not to become true in so many seconds."""
        end = time.monotonic() + seconds
        while not predicate():
            assert time.monotonic() < end, f"nothing came of it in {seconds} s; the queue: {self.queue()}{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """The last lines of what the daemons say."""
        files = sorted(self.folder.glob("*.log"))
        return "".join(f"\n--- {file.name}\n" + "\n".join(_lines(file)[-30:]) for file in files)

    def start_node(self) -> None:
        """Start the node, and wait until it can be used."""
        self.daemons["slurmd"] = self.daemon("slurmd", "-D")
        self.wait_until(lambda: self.node_state() in {"idle", "mix", "alloc"})

    def restart_node(self) -> None:
        """Switch the node off hard, with all that runs on it, and on again once the controller has noticed it."""
        end_now(self.daemons["slurmd"])
        kill_all(self.folder, but=(self.munged.pid, self.daemons["slurmctld"].pid))
        # what it would find out by itself after SlurmdTimeout
        self.run("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=power failure")
        self.start_node()

    def start_controller(self) -> None:
        """Start the controller, and wait until it answers."""
        self.daemons["slurmctld"] = self.daemon("slurmctld", "-D")
        ping = ["scontrol", "ping"]
        self.wait_until(
            lambda: b"UP" in subprocess.run(ping, env=self.environment, capture_output=True, timeout=PATIENCE).stdout
        )

    def end(self) -> None:
        """End the daemons at once, and all jobs with them."""
        for daemon in self.daemons.values():
            end_now(daemon)
        kill_all(self.folder, but=[self.munged.pid])

    def hurry(self) -> None:
        """Let jobs that were requeued start after some seconds; call it again and again.

        Slurm has them wait for two minutes, which cannot be configured. A task that starts again in the second in which
        it was stopped is refused by its node ("job credential revoked").
        """
        waiting = {job for job, (_, reason) in self.queue().items() if reason == "BeginTime"}
        self.requeued = {job: self.requeued.get(job, time.monotonic()) for job in waiting}
        for job, since in self.requeued.items():
            if time.monotonic() > since + BREAK:  # it may have started by itself at this moment
                command = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
                subprocess.run(command, env=self.environment, capture_output=True, timeout=PATIENCE)

    def daemon(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@contextmanager
def running_slurm(cpus: int = os.cpu_count() or 1, memory_gb: int = 8, gpus: int = 2) -> Iterator[Slurm]:
    """Within the block there is a Slurm with one node of so many CPUs, so much memory and so many (imagined) GPUs.

    Where there cannot be one the test is skipped, or fails if NNUNET_AL_NEEDS_SLURM is 1.
    """
    if reason := why_not():
        _do_without(reason)
    # not below pytest's own folder, which user munge may not enter
    folder = Path(tempfile.mkdtemp(prefix="slurm_"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        try:
            munged = start_munge(folder, stack)
            slurm = Slurm(folder, configure(folder, cpus, memory_gb, gpus), munged)
            stack.callback(slurm.end)
            slurm.start_controller()
            slurm.start_node()
        except AssertionError as error:
            _do_without(f"Slurm does not start here: {error}")
        yield slurm


def configure(folder: Path, cpus: int, memory_gb: int, gpus: int) -> dict[str, str]:
    """Write the configuration; the environment in which Slurm's programs find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    ports = free_ports(2)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=NODE,
            folder=folder,
            controller_port=ports[0],
            node_port=ports[1],
            cpus=cpus,
            memory_mb=memory_gb * 1024,
            gpus=gpus,
        )
    )
    devices = [folder / f"gpu{number}" for number in range(gpus)]
    for device in devices:
        device.touch()
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
    version = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    # nothing here uses control groups, which a container may not give; older versions want to have a plugin for them
    plugin = "disabled" if tuple(map(int, version.split(".")[:2])) >= (24, 5) else "cgroup/v1"
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
    # what a person, or a job that runs these tests, has set for Slurm is not for this one
    others = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**others, "SLURM_CONF": str(folder / "slurm.conf")}


def why_not() -> str:
    """Why there can be no Slurm here, in a sentence; empty where there can be one."""
    if os.geteuid() != 0:
        return "A Slurm can be started by root only."
    try:
        pwd.getpwnam("munge")
    except KeyError:
        return "There is no user munge, who has to run munged; install munge and slurm-wlm."
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    return f"{' and '.join(missing)} cannot be found; install munge and slurm-wlm." if missing else ""


def start_munge(folder: Path, stack: ExitStack) -> subprocess.Popen[bytes]:
    """Start a munged with a key of its own in `folder`/munge, and wait until it answers; it ends with `stack`."""
    user = pwd.getpwnam("munge")
    home = folder / "munge"
    home.mkdir()
    key = home / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    for path in (home, key):
        os.chown(path, user.pw_uid, user.pw_gid)
    home.chmod(0o711)
    munged = subprocess.Popen(
        [
            *("munged", "--foreground", f"--key-file={key}", f"--socket={home}/socket", f"--pid-file={home}/pid"),
            *(f"--log-file={home}/log", f"--seed-file={home}/seed", "--num-threads=2"),
        ],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    stack.callback(end_now, munged)
    end = time.monotonic() + PATIENCE
    while not (home / "socket").exists():
        assert munged.poll() is None, "munged did not start:\n" + "\n".join(_lines(home / "log"))
        assert time.monotonic() < end, "munged did not open its socket"
        time.sleep(0.05)
    return munged


def free_ports(number: int) -> list[int]:
    """So many ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def processes_of(folder: Path) -> list[int]:
    """Processes of the Slurm in `folder`, jobs among them, by what they were started with or have open."""
    mark = os.fsencode(folder)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _belongs(entry, mark):
            found.append(int(entry.name))
    return found


def kill_all(folder: Path, but: Collection[int] = ()) -> None:
    """Kill the processes of the Slurm in `folder` but some and their children, and wait until they are gone."""
    end = time.monotonic() + PATIENCE
    while found := [number for number in processes_of(folder) if number not in but and _parent(number) not in but]:
        assert time.monotonic() < end, f"processes {found} do not end"
        for number in found:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def end_now(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that this one started."""
    process.kill()
    process.wait()


def _do_without(reason: str) -> NoReturn:
    if os.environ.get(NEEDED) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def _belongs(process: Path, mark: bytes) -> bool:
    try:
        if _status(process)[0] == b"Z":
            return False
        if mark in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
            return True
        return any(os.fsencode(file.readlink()).startswith(mark) for file in (process / "fd").iterdir())
    except OSError:  # it has ended meanwhile
        return False


def _parent(number: int) -> int:
    try:
        return int(_status(Path(f"/proc/{number}"))[1])
    except OSError:
        return 0


def _status(process: Path) -> list[bytes]:
    return (process / "stat").read_bytes().rpartition(b")")[2].split()


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
