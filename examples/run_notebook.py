"""Execute `quickstart.ipynb` and keep its outputs in the file.

Run: `python examples/run_notebook.py`, after `pip install -e ".[test]"`.
"""

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("quickstart.ipynb")


def execute(notebook):
    """Returns the notebook with fresh outputs, without warnings and times."""
    # What TensorFlow says about the machine is nothing for a reader.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                o for o in cell.outputs if o.get("name") != "stderr"
            ]
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    return notebook


def main(argv=None):
    """Executes the notebook, and writes it unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=NOTEBOOK)
    options = parser.parse_args(argv)
    notebook = execute(nbformat.read(NOTEBOOK, as_version=4))
    nbformat.write(notebook, options.output)
    print(f"Done. The notebook is {options.output}.")
    return notebook


if __name__ == "__main__":
    main()
