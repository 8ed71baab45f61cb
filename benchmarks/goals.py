"""Figures beside their goals: shown, written as JSON with the environment, and counted."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from registry.records.base import Record
from tasks.bench.environment import environment


class Goal(Record):
    """One figure that was measured, and what it should be."""

    name: str
    measured: float | None
    """None: nothing that it speaks of has happened, so it is not met."""
    relation: Literal["at most", "at least"]
    goal: float
    unit: str = ""
    detail: str = ""

    @property
    def shown(self) -> str:
        """The figure for people."""
        return "not measured" if self.measured is None else f"{self.measured:.4g} {self.unit}"

    @property
    def met(self) -> bool:
        """True if the figure is what it should be."""
        if self.measured is None:
            return False
        return self.measured <= self.goal if self.relation == "at most" else self.measured >= self.goal


def report(goals: Sequence[Goal], file: Path, figures: Mapping[str, Any]) -> int:
    """Show every goal, write figures, goals and environment to a file, and return the exit code: 1 if a goal is missed.

    Args:
        goals: what was asked for and measured.
        file: JSON; its folder is made.
        figures: everything else that was measured, JSON values.
    """
    for goal in goals:
        sign = "met   " if goal.met else "MISSED"
        click.echo(f"{sign} {goal.name}: {goal.shown}, {goal.relation} {goal.goal:g}  {goal.detail}")
    written = {
        "goals": [{**goal.model_dump(), "met": goal.met} for goal in goals],
        "figures": dict(figures),
        "environment": environment().model_dump(mode="json"),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(written, indent=1), encoding="utf-8")
    missed = sum(not goal.met for goal in goals)
    click.echo(f"{len(goals) - missed} of {len(goals)} goals met; figures: {file}")
    return 1 if missed or not goals else 0
