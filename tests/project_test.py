"""Tests of the project: lint, the commands of the README and CI, and pinned dependencies."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import jaxlabs
from jaxlabs.runner import description

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / name for name in ("README.md", "BUILD_NOTES.md", "CHANGELOG.md", "CONTRIBUTING.md")),
]
RUN = "pip install -e . -c constraints.txt && python -m experiments.gpt --platform=cpu"
TEST = "pip install -e '.[test]' -c constraints.txt && pytest"


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff is not installed")
@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff_passes(command):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("command", [RUN, TEST], ids=["run", "test"])
def test_readme_shows_the_two_commands(command):
    assert command in (ROOT / "README.md").read_text().splitlines()


def test_readme_is_one_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 950


def test_readme_has_twelve_sampled_lines():
    (sample,) = re.findall(
        r"^```\n(ROMEO:\n.*?)\n```$", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert len(sample.splitlines()) == 12


def test_library_example_of_the_readme_samples_and_lowers_the_loss(
    capsys, play, tmp_path, monkeypatch
):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    monkeypatch.chdir(tmp_path)
    tiny = "steps=2, context_length=16, embed_dim=8, num_layers=1, num_heads=1, max_new_tokens=8"
    example = example.replace("steps=200", f"{tiny}, dataset={str(play)!r}")
    assert example.count(tiny) == 1
    exec(compile(example, "README.md", "exec"), {})
    sample, loss = re.fullmatch(r"(.*)\n(\S+)\n", capsys.readouterr().out, re.S).groups()
    assert "ROMEO:" in sample
    assert float(loss) < 0.1


def test_ci_ends_with_the_test_command_of_the_readme():
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == TEST


def test_every_test_of_the_mutation_table_exists():
    named = set(re.findall(r"\btest_\w+", (ROOT / "tests/MUTATIONS.md").read_text()))
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*_test.py"))
    assert named
    assert named <= set(re.findall(r"def (test_\w+)\(", code))


def test_slow_tests_exist():
    names = (ROOT / "tests/slow.txt").read_text().splitlines()
    assert names == sorted(set(names))
    for name in names:
        file, test = name.split("[")[0].split("::")
        assert f"def {test}(" in (ROOT / file).read_text(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_have_at_most_120_characters(page):
    lines = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_version_names_the_commit_of_the_checkout(tmp_path, monkeypatch):
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout")
    assert description.version().startswith(f"{jaxlabs.__version__} (commit {commit}")
    monkeypatch.setattr(jaxlabs, "__file__", str(tmp_path / "jaxlabs" / "__init__.py"))
    assert description.version() == jaxlabs.__version__


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/getting-started.md"])
def test_pages_say_which_python_of_the_metadata_is_untested(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    *tested, untested = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    text = (ROOT / page).read_text()
    assert all(re.search(rf"Python .*{re.escape(each)}", text) for each in (tested[0], tested[-1]))
    assert re.search(rf"{re.escape(untested)}\b(?!\d)[^.;]*untested", text)


def test_version_is_defined_once():
    assert importlib.metadata.version("jaxlabs") == jaxlabs.__version__
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_constraints_pin_each_dependency_once_and_within_its_range(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            assert pin.name not in pins, f"{pin.name} is pinned twice for Python {python}"
            pins[pin.name] = str(pin.specifier).removeprefix("==")
    for line in [*project["dependencies"], *extras["test"], *extras["peers"], *extras["docs"]]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[wanted.name.lower()]), line
