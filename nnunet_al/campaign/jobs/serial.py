"""A plan as plain JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_al.campaign.jobs.plan import Job, Needs, Plan, Script


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as a JSON object; what jobs leave at its default is left out."""
    return {
        "request": list(plan.request),
        "environment": dict(plan.environment),
        "path": list(plan.path),
        "limit": plan.limit,
        "ends_at_readers": plan.ends_at_readers,
        "gpus": list(plan.gpus),
        "scripts": [_script_to_json(script) for script in plan.scripts.values()],
        "jobs": [_job_to_json(job) for job in plan.jobs],
        "done": sorted(plan.done),
    }


def plan_from_json(content: Mapping[str, Any]) -> Plan:
    """Rebuild a plan from :func:`plan_to_json`.

    Raises
    ------
    KeyError, TypeError, ValueError
        if the content is none.
    """
    scripts = [_script_from_json(entry) for entry in content["scripts"]]
    return Plan(
        scripts={script.name: script for script in scripts},
        jobs=tuple(_job_from_json(entry) for entry in content["jobs"]),
        request=tuple(content["request"]),
        environment=dict(content["environment"]),
        path=tuple(content["path"]),
        limit=content["limit"],
        ends_at_readers=bool(content["ends_at_readers"]),
        gpus=tuple(content["gpus"]),
        done=frozenset(content["done"]),
    )


def _script_to_json(script: Script) -> dict[str, Any]:
    needs = script.needs
    return {
        "name": script.name,
        "phase": script.phase,
        "title": script.title,
        "command": list(script.command),
        "needs": {"gpus": needs.gpus, "cpus": needs.cpus, "memory_gb": needs.memory_gb, "hours": needs.hours},
        "logs": str(script.logs),
        "parts": script.parts,
        "campaign": None if script.campaign is None else str(script.campaign),
    }


def _script_from_json(content: Mapping[str, Any]) -> Script:
    return Script(
        name=content["name"],
        phase=content["phase"],
        title=content["title"],
        command=tuple(content["command"]),
        needs=Needs(**content["needs"]),
        logs=Path(content["logs"]),
        parts=content["parts"],
        campaign=None if content["campaign"] is None else Path(content["campaign"]),
    )


def _job_to_json(job: Job) -> dict[str, Any]:
    content: dict[str, Any] = {"script": job.script, "round": job.round, "after": list(job.after)}
    return content if job.missing == (0,) else {**content, "missing": list(job.missing)}


def _job_from_json(content: Mapping[str, Any]) -> Job:
    return Job(content["script"], content["round"], tuple(content["after"]), tuple(content.get("missing", (0,))))
