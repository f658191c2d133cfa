"""experiments/colab.ipynb runs from top to bottom, at smoke size."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "colab.ipynb"
SMOKE = (
    "--dataset=markov --steps=4 --eval_every=4 --batch_size=4 --eval_batch_size=64"
    " --context_length=16"
    " --embed_dim=16 --num_heads=2 --num_layers=1 --max_new_tokens=20"
)


@pytest.mark.slow
def test_notebook_trains_reports_and_samples(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if "FLAGS =" in cell.source)
    settings.source = f'PLATFORM = "cpu"\nFLAGS = "{SMOKE}"\nWORKDIR = "{tmp_path / "run"}"\n'
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.source: cell.get("outputs", []) for cell in notebook.cells}
    (page,) = next(out for source, out in outputs.items() if "srcdoc" in source)
    assert "iframe" in page["data"]["text/html"]
    assert (tmp_path / "run" / "report.html").exists()
    samples = next(out for source, out in outputs.items() if "--mode=sample" in source)
    assert len("".join(out.get("text", "") for out in samples)) > 2 * 20
