"""Makefile, CI and pre-commit run the same checks, and no test is left out."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import yaml


def printed(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["make", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_slow_and_other_tests_are_all_tests(root: Path) -> None:
    lines = printed(root, "--dry-run", "test", "test-slow").splitlines()
    runs = [line.split("bin/pytest ")[1] for line in lines if "bin/pytest " in line]
    fast, slow = (shlex.split(run) for run in runs)
    processes = ["--numprocesses", fast[1], "--dist", "loadfile"]
    assert fast == [*processes, "-m", "not slow"]
    assert slow == [*processes, "--no-loadscope-reorder", "-m", "slow"]


def test_pre_commit_runs_what_make_check_runs(root: Path) -> None:
    config = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    lines = printed(root, "--dry-run", "check").splitlines()
    assert hooks == [line for line in lines if line.startswith(".venv/bin/")][-len(hooks) :]
    assert len(hooks) == 3


def test_help_lists_every_target(root: Path) -> None:
    shown = printed(root, "help")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (root / "Makefile").read_text(), re.MULTILINE)
    for target in phony.split():
        if target != "help" and not target.startswith("about-"):
            assert f"make {target} " in shown


def test_the_public_workflow_calls_make(root: Path) -> None:
    workflow = yaml.safe_load((root / ".github" / "workflows" / "test.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.12"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[-2:] == ["make test", "make test-slow"]
