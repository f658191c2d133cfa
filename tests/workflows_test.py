"""The workflows run the commands that the documentation names, on every operating system."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
SYSTEMS = ["ubuntu-latest", "macos-latest", "windows-latest"]
EXTRAS = ["test", "peers"]


def jobs(name):
    return yaml.safe_load(WORKFLOWS[name].read_text())["jobs"]


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def commands_of(page):
    blocks = re.findall(r"^```\n(.*?)\n```", (ROOT / page).read_text(), re.M | re.S)
    return [block for block in blocks if block.startswith("pip install")]


@pytest.mark.parametrize("job", ["pinned", "newest"])
def test_commands_of_the_readme_run_on_every_system(job):
    found = jobs("commands")[job]
    wanted = commands_of("README.md")
    assert len(wanted) == 2
    if job == "newest":
        wanted = [command.replace(" -c constraints.txt", "") for command in wanted]
    assert [each for each in commands(found) if each.startswith("pip")] == wanted
    assert found["strategy"]["matrix"]["os"] == SYSTEMS
    assert found["runs-on"] == "${{ matrix.os }}"
    assert found["defaults"]["run"]["shell"] == "bash"  # the quotes are those of a Unix shell


def test_newest_versions_are_tried_every_week():
    content = yaml.safe_load(WORKFLOWS["commands"].read_text())
    (schedule,) = content[True]["schedule"]  # YAML 1.1 reads the key `on` as true
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert minute.isdigit()
    assert hour.isdigit()
    assert weekday.isdigit()
    assert (day, month) == ("*", "*")
    assert "schedule" in content["jobs"]["newest"]["if"]


def test_pinned_versions_are_tried_on_every_supported_python():
    matrix = jobs("commands")["pinned"]["strategy"]["matrix"]
    tried = {*matrix["python"], *(each["python"] for each in matrix["include"])}
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert tried == set(classifiers)


def test_site_is_built_as_contributing_says():
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert " && ".join(commands(jobs("site")["build"])) in contributing


def test_tests_that_the_default_leaves_out_run_every_week():
    content = yaml.safe_load(WORKFLOWS["slow"].read_text())
    assert "schedule" in content[True]
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    markers = content["jobs"]["slow"]["strategy"]["matrix"]["marker"]
    assert markers == ["slow", "peers"]
    for marker in markers:
        assert f"pytest -m {marker}`" in contributing
    *installs, tests = commands(content["jobs"]["slow"])
    assert installs == [f"pip install -e '.[{extra}]' -c constraints.txt" for extra in EXTRAS]
    assert tests == "pytest -m ${{ matrix.marker }}"
