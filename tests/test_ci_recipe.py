"""The workflow to copy: its steps are whole, and their scripts do what they say with git, the gate and gh in place."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

RECIPE = Path(__file__).parents[1] / "docs" / "ci" / "finn-upgrade.yml"
BUMP = "steps.releases.outputs.bump == 'true'"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(RECIPE.read_text())
    return loaded


@pytest.fixture(scope="module")
def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = workflow["jobs"]["gate"]["steps"]
    return found


def _named(steps: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (step,) = [step for step in steps if name in (step.get("name"), step.get("uses", "").partition("@")[0])]
    return step


def _run(step: Mapping[str, Any], folder: Path, **variables: str) -> tuple[int, dict[str, str], str]:
    """A step's script as GitHub runs it: its status, its outputs, and its part of the summary."""
    output, summary = folder / "output.txt", folder / "summary.txt"
    for file in (output, summary):
        file.write_text("")
    missing = dict.fromkeys(step.get("env", {}), "")
    environment = {
        **os.environ,
        **missing,
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
        **variables,
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    status = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True).returncode
    outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
    return status, outputs, summary.read_text()


def _program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# --------------------------------------------------------------------------------------------------------------- whole


def test_it_starts_by_hand_and_on_a_change_of_the_pins(workflow: dict[Any, Any]) -> None:
    starts = workflow[True]  # YAML 1.1 reads the key `on` so
    assert starts["pull_request"]["paths"] == ["constraints.txt", "pyproject.toml"]
    assert set(starts["workflow_dispatch"]["inputs"]) == {"from", "to"}


def test_it_may_write_comments_and_nothing_else(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}


def test_its_steps_come_in_their_order(steps: list[dict[str, Any]]) -> None:
    names = [step.get("name") or step["uses"].partition("@")[0] for step in steps]
    assert names == [
        *("actions/checkout", "Releases", "actions/setup-python", "Restore the artifact store", "Install", "Doctor"),
        *("Gate", "Save the artifact store", "Summary", "Comment", "Upload the reports", "Verdict"),
    ]


def test_every_step_has_one_kind_of_work_and_every_action_a_release(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        assert ("uses" in step) != ("run" in step), step
        assert re.fullmatch(r"actions/[\w/-]+@v\d+", step.get("uses", "actions/none@v1"))


def test_without_a_bump_nothing_is_installed_or_run(steps: list[dict[str, Any]]) -> None:
    save = "always() && steps.gate.outcome == 'success'"
    for step in steps[2:]:
        assert BUMP in step["if"] or step["if"] == save, step


def test_what_reports_does_so_after_a_failure_too(steps: list[dict[str, Any]]) -> None:
    for step in steps[7:]:
        assert step["if"].startswith("always() && "), step


def test_no_script_holds_an_expression(steps: list[dict[str, Any]]) -> None:
    """What a person typed, or a pull request brought, reaches a script by its environment alone."""
    assert not [step for step in steps if "${{" in step.get("run", "")]


def test_steps_name_only_steps_and_outputs_before_them(steps: list[dict[str, Any]]) -> None:
    known = {"releases": {"from", "to", "bump"}, "gate": {"status"}}
    before: set[str] = set()
    for step in steps:
        for name, output in re.findall(r"steps\.(\w+)\.outputs\.(\w+)", yaml.safe_dump(step)):
            assert name in before, step
            assert output in known[name], step
        before.add(step.get("id", ""))


def test_pip_and_the_store_are_cached_and_the_store_under_one_key(steps: list[dict[str, Any]]) -> None:
    assert _named(steps, "actions/setup-python")["with"]["cache"] == "pip"
    restore = _named(steps, "Restore the artifact store")["with"]
    save = _named(steps, "Save the artifact store")["with"]
    assert save == {name: restore[name] for name in ("path", "key")}
    assert restore["path"] == ".store"
    assert restore["key"].startswith(restore["restore-keys"])


def test_all_reports_are_uploaded(steps: list[dict[str, Any]]) -> None:
    assert {"gate.xml", "gate.md", "gate.json"} <= set(_named(steps, "Upload the reports")["with"]["path"].split())


# ------------------------------------------------------------------------------------------------------------- scripts


def _git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def _bumped(folder: Path, old: str, new: str) -> str:
    """A clone of a repository whose base pins `old` and whose work tree pins `new`; the base's commit."""
    _git(folder, "init", "--quiet", "origin")
    (folder / "origin" / "constraints.txt").write_text(old)
    _git(folder / "origin", "add", ".")
    _git(folder / "origin", "commit", "--quiet", "-m", "base")
    _git(folder, "clone", "--quiet", "origin", "clone")
    (folder / "clone" / "constraints.txt").write_text(new)
    return _git(folder / "origin", "rev-parse", "HEAD")


PIN = "filelock==4.2.11\nfinn-plus=={}\nflatbuffers==1\n"


def test_a_pull_request_compares_its_base_with_itself(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    base = _bumped(tmp_path, PIN.format("1.6.0"), PIN.format("1.6.1  # note"))
    status, outputs, _ = _run(_named(steps, "Releases"), tmp_path / "clone", BASE=base)
    assert (status, outputs) == (0, {"from": "1.6.0", "to": "1.6.1", "bump": "true"})


def test_a_pull_request_that_leaves_finn_alone_compares_nothing(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    base = _bumped(tmp_path, PIN.format("1.6.1"), PIN.format("1.6.1") + "rich==13\n")
    status, outputs, summary = _run(_named(steps, "Releases"), tmp_path / "clone", BASE=base)
    assert (status, outputs["bump"]) == (0, "false")
    assert "nothing to compare" in summary


def test_a_pin_that_is_gone_is_an_error(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    base = _bumped(tmp_path, PIN.format("1.6.1"), "rich==13\n")
    assert _run(_named(steps, "Releases"), tmp_path / "clone", BASE=base)[0] == 2


def test_by_hand_the_releases_are_those_asked_for(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    status, outputs, _ = _run(_named(steps, "Releases"), tmp_path, FROM="1.5.0", TO="1.6.1")
    assert (status, outputs) == (0, {"from": "1.5.0", "to": "1.6.1", "bump": "true"})


@pytest.mark.parametrize("verdict", [0, 1, 2])
def test_the_job_ends_as_the_gate_does(verdict: int, steps: list[dict[str, Any]], tmp_path: Path) -> None:
    _program(tmp_path / ".venv" / "bin" / "python", f'printf "%s\\n" "$@" > words.txt; exit {verdict}')
    status, outputs, _ = _run(_named(steps, "Gate"), tmp_path, FROM="1.6.0", TO="1.6.1")
    assert (status, outputs) == (0, {"status": str(verdict)})
    assert (tmp_path / "words.txt").read_text().splitlines() == [
        *("-m", "qnn", "gate", "--from", "1.6.0", "--to", "1.6.1", "-k", "A3W3 or A4W4"),
        *("--junit", "gate.xml", "--markdown", "gate.md", "--json", "gate.json"),
    ]
    assert _run(_named(steps, "Verdict"), tmp_path, STATUS=outputs["status"])[0] == verdict


def test_a_gate_that_was_not_reached_could_not_run(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    assert _run(_named(steps, "Verdict"), tmp_path)[0] == 2


def test_the_summary_is_the_report_or_says_that_there_is_none(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    step = _named(steps, "Summary")
    status, _, summary = _run(step, tmp_path, FROM="1.6.0", TO="1.6.1")
    assert (status, summary) == (0, "The gate from finn-plus 1.6.0 to 1.6.1 could not run: the job's log says why.\n")
    (tmp_path / "gate.md").write_text("# Clean\n")
    assert _run(step, tmp_path)[2] == "# Clean\n"


@pytest.mark.parametrize(
    ("there", "method", "place"), [("", "POST", "issues/7/comments"), ("41\n42", "PATCH", "comments/41")]
)
def test_there_is_one_comment_which_is_kept_up_to_date(
    there: str, method: str, place: str, steps: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "gate.md").write_text("# Regressed\n" + "x" * 70_000)
    _program(
        tmp_path / "bin" / "gh",
        f'case "$*" in *--paginate*) printf "{there}";; *) printf "%s\\n" "$*" >> calls.txt;; esac',
    )
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    more = {"PATH": path, "GITHUB_REPOSITORY": "ada/finn", "NUMBER": "7", "RUN_URL": "the-run"}
    assert _run(_named(steps, "Comment"), tmp_path, **more)[0] == 0
    (call,) = (tmp_path / "calls.txt").read_text().splitlines()
    assert f"--method {method} repos/ada/finn/" in call
    assert f"{place} --field body=@comment.md" in call
    body = (tmp_path / "comment.md").read_text()
    assert body.startswith("<!-- finn-upgrade-gate -->\n# Regressed\n")
    assert body.endswith("[Reports and log](the-run)\n")
    assert len(body) < 65_536


def test_a_fork_gets_no_comment_since_its_token_may_not_write(steps: list[dict[str, Any]]) -> None:
    assert "head.repo.full_name == github.repository" in _named(steps, "Comment")["if"]
