"""A small plan made by hand: a dataset, a campaign of `usimf` scored in two parts, and one of `random`."""

from __future__ import annotations

from pathlib import Path

from nnunet_al.jobs.plan import Job, JobResources, Plan, Script

WEIRD = 'it\'s "here" 50% $HOME/é'
PREPARE = "Dataset004_Hippocampus/prepare"
USIMF = "Dataset004_Hippocampus/2d__usimf__seed0/fold_0"
RANDOM = "Dataset004_Hippocampus/2d__random__seed0/fold_0"

CPU, GPU = JobResources(0, 4, 16, 4), JobResources(1, 8, 32, 24)
# phase -> what it waits for; the first waits for the round before
USIMF_PHASES = {
    "prepare": [],
    "train": ["prepare"],
    "evaluate": ["train"],
    "score": ["train"],
    "fisher": ["score"],
    "embed": ["fisher"],
    "select": ["evaluate", "embed"],
}
RANDOM_PHASES = {"prepare": [], "train": ["prepare"], "evaluate": ["train"], "select": ["evaluate"]}


def small_plan(root: Path, rounds: int = 2, ends_at_readers: bool = False, phases: bool = True, **others) -> Plan:
    """A plan for a scheduler (`phases`) or one machine, below `root`; our programs lie in `root`/bin."""
    results = root / "nnUNet_results"
    logs = results / "Dataset004_Hippocampus/al/job_logs"
    prepare = Script(
        PREPARE, "prepare_dataset", "Checks it.", ("nnUNetv2_al_prepare", "-d", "4", "-np", "4"), CPU, logs
    )
    scripts, jobs = [prepare], [Job(PREPARE, None)]
    campaigns = {USIMF: ("usimf", USIMF_PHASES), RANDOM: ("random", RANDOM_PHASES)}
    for name, (strategy, waits) in campaigns.items():
        folder = results / "Dataset004_Hippocampus/al" / name.removeprefix("Dataset004_Hippocampus/")
        command = ("nnUNetv2_al_round", "-d", "4", "-c", "2d", "-s", strategy, "-f", "0", "-seed", "0")
        groups = ("-groups", str(root / "groups.tsv"))

        def script(phase, name=name, command=command, folder=folder, **more):
            title = f"Does {phase} of {name}."
            return Script(f"{name}/{phase}", phase, title, command, logs=folder / "job_logs", campaign=folder, **more)

        if not phases:
            scripts.append(script("round", command=(*command, *groups, "-device", "cuda"), resources=GPU))
            for number in range(rounds + 1):
                after = (f"{name}/round {number - 1}",) if number else (PREPARE,)
                jobs.append(Job(f"{name}/round", number, after))
            continue
        scripts.append(script("start", command=(*command, *groups, "-round", "0"), resources=CPU))
        jobs.append(Job(f"{name}/start", None, (PREPARE,)))
        for phase in waits:
            parts = 2 if phase in {"score", "embed"} else 1
            resources = CPU if phase == "prepare" else GPU
            sharing = ("--share_first",) if phase == "train" else ()
            words = (*command, "-phase", phase, *sharing)
            scripts.append(script(phase, command=words, resources=resources, parts=parts))
        for number in range(1, rounds + 1):
            before = f"{name}/select {number - 1}" if number > 1 else f"{name}/start"
            for phase, waited in waits.items():
                after = tuple(f"{name}/{other} {number}" for other in waited) or (before,)
                parts = (0, 1) if phase in {"score", "embed"} else (0,)
                behind = (f"{USIMF}/train 1",) if f"{name}/{phase} {number}" == f"{RANDOM}/train 1" else ()
                jobs.append(Job(f"{name}/{phase}", number, after, parts, behind))
    return Plan(
        scripts={script.name: script for script in scripts},
        jobs=tuple(jobs),
        request=("-d", "4"),
        environment={
            "nnUNet_raw": str(root / "nnUNet_raw"),
            "nnUNet_preprocessed": str(root / "nnUNet_preprocessed"),
            "nnUNet_results": str(results),
        },
        path=(str(root / "bin"),),
        ends_at_readers=ends_at_readers,
        **{"limit": 3, **others},
    )
