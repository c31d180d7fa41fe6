from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_al.memory import available_bytes, gigabytes

GIB = 1 << 30


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {8 * GIB // 1024} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def version_2(folder: str, limit: str, usage: int, **others: object) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/{folder}memory.max": f"{limit}\n",
        f"sys/fs/cgroup/{folder}memory.current": f"{usage}\n",
        f"sys/fs/cgroup/{folder}memory.stat": "anon 5\n" + "".join(f"{key} {value}\n" for key, value in others.items()),
    }


def version_1(folder: str, limit: int, usage: int, cached: int = 0) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/memory/{folder}memory.limit_in_bytes": f"{limit}\n",
        f"sys/fs/cgroup/memory/{folder}memory.usage_in_bytes": f"{usage}\n",
        f"sys/fs/cgroup/memory/{folder}memory.stat": f"total_inactive_file {cached}\n",
    }


def test_without_limits_it_is_what_the_system_has_free(tmp_path):
    assert available_bytes(system(tmp_path, {})) == 8 * GIB


def test_a_system_that_says_nothing(tmp_path):
    assert available_bytes(tmp_path) is None


JOB = {"proc/self/cgroup": "0::/slurm/job_7/step_0\n"}


@pytest.mark.parametrize(
    "files, expected",
    [
        (JOB | version_2("slurm/job_7/step_0/", str(4 * GIB), GIB), 3 * GIB),
        # the job is limited, not its step
        (JOB | version_2("slurm/job_7/step_0/", "max", GIB) | version_2("slurm/job_7/", str(2 * GIB), GIB), GIB),
        # cached pages of files are given back
        (JOB | version_2("slurm/job_7/", str(4 * GIB), 4 * GIB, inactive_file=GIB, active_file=GIB), 2 * GIB),
        (JOB | version_2("slurm/", "max", 0) | {"sys/fs/cgroup/slurm/memory.high": f"{GIB}\n"}, GIB),
        (JOB | version_2("slurm/job_7/", str(GIB), 2 * GIB), 0),
        (JOB | version_2("slurm/job_7/", str(64 * GIB), 0), 8 * GIB),
        # in a container the group is the root
        ({"proc/self/cgroup": "0::/\n"} | version_2("", str(3 * GIB), GIB), 2 * GIB),
    ],
)
def test_control_groups_of_version_2(tmp_path, files, expected):
    assert available_bytes(system(tmp_path, files)) == expected


MEMORY_GROUP = {"proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/abc\n1:cpuset:/else\n0::/\n"}


@pytest.mark.parametrize(
    "files, expected",
    [
        (version_1("docker/abc/", 4 * GIB, 3 * GIB), GIB),
        (version_1("docker/abc/", 4 * GIB, 3 * GIB, cached=GIB), 2 * GIB),
        (version_1("docker/abc/", 0x7FFFFFFFFFFFF000, 3 * GIB), 8 * GIB),
        (version_1("docker/abc/", 0x7FFFFFFFFFFFF000, 0) | version_1("docker/", 2 * GIB, 0), 2 * GIB),
        (version_1("", 2 * GIB, GIB), GIB),
        ({}, 8 * GIB),
    ],
)
def test_control_groups_of_version_1(tmp_path, files, expected):
    assert available_bytes(system(tmp_path, MEMORY_GROUP | files)) == expected


@pytest.mark.parametrize("limit, taken", [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_limits_of_the_shell(tmp_path, monkeypatch, limit, taken):
    limits = {getattr(resource, limit): 5 * GIB}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits.get(which, resource.RLIM_INFINITY),) * 2)
    assert (
        available_bytes(system(tmp_path, {"proc/self/status": f"Name: x y\n{taken}:\t {GIB // 1024} kB\n"})) == 4 * GIB
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not say")
def test_of_this_process():
    free = available_bytes()
    assert free is not None
    assert 0 < free < 1 << 50
    # a limit that is real leaves less than itself
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); "
        "from nnunet_al.memory import available_bytes; print(available_bytes())"
    )
    limited = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(limited.stdout) < min(3 << 30, 2 * free)


def test_as_people_read_it():
    assert [gigabytes(count) for count in (2.75e9, 1.5e11, 3e8, 0)] == ["2.75 GB", "150 GB", "300 MB", "0 MB"]
