"""What a site adds to the scripts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_al.errors import CampaignError
from nnunet_al.jobs.plan import JobResources, Script
from nnunet_al.jobs.targets import MARKS, TARGETS
from nnunet_al.jobs.targets.template import EMPTY, SECTIONS, Template, read_template

TEXT = """\
#!/bin/bash
#SBATCH --account=radiology
# for everybody
module load gcc

[gpu]
#SBATCH --partition=a100

module load cuda

[cpu]
#SBATCH --partition=cpu
[train]
#SBATCH --time=72:00:00
[ -d /scratch ] && export TMPDIR=/scratch
[all]
ulimit -n 4096
"""


def script(phase: str, gpus: int) -> Script:
    return Script(f"D/c/fold_0/{phase}", phase, "", ("x",), JobResources(gpus, 4, 16, 1), Path("/logs"))


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "site.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    "phase, gpus, header, body",
    [
        (
            "train",
            1,
            ["#SBATCH --account=radiology", "#SBATCH --partition=a100", "#SBATCH --time=72:00:00"],
            ["# for everybody", "module load gcc", "", "ulimit -n 4096", "module load cuda"]
            + ["[ -d /scratch ] && export TMPDIR=/scratch"],
        ),
        (
            "prepare_dataset",
            0,
            ["#SBATCH --account=radiology", "#SBATCH --partition=cpu"],
            ["# for everybody", "module load gcc", "", "ulimit -n 4096"],
        ),
    ],
)
def test_a_script_gets_the_lines_of_its_sections_the_most_particular_last(write, phase, gpus, header, body):
    template = read_template(write(TEXT), "#SBATCH", MARKS)
    assert template.header(script(phase, gpus)) == header
    assert template.body(script(phase, gpus)) == body


def test_line_ends_of_other_systems_and_blanks_at_the_end_do_not_matter(write):
    expected = read_template(write(TEXT), "#SBATCH", MARKS)
    assert read_template(write(b"\xef\xbb\xbf" + TEXT.replace("\n", "  \r\n").encode()), "#SBATCH", MARKS) == expected


def test_an_empty_file_adds_nothing(write):
    assert read_template(write("\n\n"), "#SBATCH", MARKS) == EMPTY == Template()


def test_every_phase_has_a_section(write):
    for section in SECTIONS:
        template = read_template(write(f"[{section}]\necho {section}\n"), "", MARKS)
        phase, gpus = {"all": ("train", 1), "gpu": ("train", 1), "cpu": ("start", 0)}.get(section, (section, 0))
        assert template.body(script(phase, gpus)) == [f"echo {section}"]


def test_a_note_about_the_scheduler_is_a_line_of_shell(write):
    template = read_template(write("##SBATCH --off\n#SBATCH_x\n# SBATCH\n"), "#BSUB", MARKS)
    assert template.body(script("train", 1)) == ["##SBATCH --off", "#SBATCH_x", "# SBATCH"]


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_takes_the_lines_of_its_own_scheduler_and_refuses_those_of_all_others(write, target):
    mark = TARGETS[target].mark
    if mark:
        template = read_template(write(f"{mark} -x y\n"), mark, MARKS)
        assert template.header(script("train", 1)) == [f"{mark} -x y"]
    for other in MARKS - {mark}:
        for line in (other, f"{other} -x", f"{other}\t-x"):
            with pytest.raises(CampaignError, match=f"line 1: {re.escape(other)} is for another scheduler"):
                read_template(write(f"{line}\n"), mark, MARKS)


@pytest.mark.parametrize(
    "text, mark, words",
    [
        ("a\n[trains]\n", "#SBATCH", "line 2: there is no section [trains]; use one of all, gpu, cpu, "),
        ("\n#BSUB -P x\n", "#SBATCH", "line 2: #BSUB is for another scheduler; lines for the scheduler begin with #SB"),
        ("#SBATCH --x\n", "#BSUB", "line 1: #SBATCH is for another scheduler; lines for the scheduler begin with #BS"),
        ("#SBATCH\n", "", "line 1: #SBATCH is for another scheduler; there is no scheduler here."),
        (b"\xff\xfe", "#SBATCH", "is not a text file in UTF-8"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(write, text, mark, words):
    path = write(text)
    with pytest.raises(CampaignError) as refusal:
        read_template(path, mark, MARKS)
    assert str(path) in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize("name", ["missing.txt", ""])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(CampaignError, match="cannot be read"):
        read_template(tmp_path / name, "#SBATCH", MARKS)


def test_other_scripts_are_not_touched(write):
    template = read_template(write("[score]\n#SBATCH --mem=64G\nmodule load x\n"), "#SBATCH", MARKS)
    assert template.header(script("train", 1)) == template.body(script("train", 1)) == []
    assert template.header(replace(script("score", 1), parts=4)) == ["#SBATCH --mem=64G"]
