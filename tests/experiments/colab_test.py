"""experiments/colab.ipynb runs from top to bottom at smoke size, with an installed package."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "experiments" / "colab.ipynb"
TINY = {
    "steps": 4,
    "eval_every": 4,
    "batch_size": 4,
    "context_length": 16,
    "embed_dim": 16,
    "num_heads": 2,
    "num_layers": 1,
    "max_new_tokens": 20,
    "platform": "cpu",
}
SAMPLING = {"num_samples": 2, "max_new_tokens": 30}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the installed package, from a wheel; its dependencies are those of this run."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, str(ROOT)], check=True, env=os.environ | {"PIP_NO_CACHE_DIR": "1"})
    return folder


@pytest.mark.slow
def test_notebook_trains_reports_samples_and_compares(installed, play, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(installed))  # before an editable install
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if "SETTINGS =" in cell.source)
    given = {"SETTINGS": TINY | {"dataset": str(play)}, "SAMPLING": SAMPLING}
    given |= {"LAB": "gpt", "VARIANT": {"norm": "layernorm"}}
    settings.source = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    where = nbformat.v4.new_code_cell("import jaxlabs\nprint(jaxlabs.__file__)")
    notebook.cells.append(where)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}

    def shown(part, kind):
        (found,) = (out for source, out in outputs.items() if part in source)
        texts = [out.get("text", "") or out.get("data", {}).get(kind, "") for out in found]
        return "".join(texts)

    assert shown("jaxlabs.__file__", "").startswith(str(installed))
    assert "char_rnn" in shown("-m jaxlabs", "")
    assert "data:image/png;base64," in shown("run = jl.train", "text/html")
    assert "iframe" in shown("srcdoc", "text/html")
    assert len(shown("run.sample", "")) > 2 * 20
    assert "norm=layernorm" in shown("jl.compare", "text/html")
    assert (tmp_path / "runs" / "gpt-notebook-variant" / "report.html").exists()
