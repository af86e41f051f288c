"""The notebook that Kaggle runs: it installs the wheel, finds its inputs and calls verbs, and decides nothing itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.kernel.settings import Settings

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELLS = 10  # a notebook has fewer

# what keeps the libraries off the network
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# what they write, beside the notebook's output
CACHES = {"TRITON_CACHE_DIR": "triton", "EEDI_CACHE": "eedi"}

HEAD = f"""\
# {{title}}

Ranks the competition's misconceptions for every wrong answer of `test.csv`, without a network, and writes `submission.csv`.
The last cell alone says whether that is valid: what fails before is left out, and the log says so.

Made by `eedi kernel build`, version {__version__}. To change it, change the bundle or `kernel.yaml` and build again.
"""

INSTALL = """\
# Install the project's wheel from its dataset, wherever Kaggle has mounted that.
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

STARTED = time.time()
(wheel,) = Path(os.environ.get("EEDI_KAGGLE_INPUT", "/kaggle/input")).rglob("eedi-*.whl")
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
importlib.invalidate_caches()
"""

FIND = """\
# Find the bundle and the competition, and keep every library off the network.
import tempfile

from pipeline.kernel import inputs

os.environ |= {environment}
os.environ |= {name: f"{tempfile.gettempdir()}/{folder}" for name, folder in {caches}.items()}
EEDI, BUNDLE, COMPETITION = [sys.executable, "-m", "pipeline"], str(inputs.bundle()), str(inputs.competition())
"""

ENGINE = """\
# Install vLLM from the wheelhouse, into a folder that its own process alone will look into.
ENGINE = f"{tempfile.gettempdir()}/engine"
install = subprocess.run([*EEDI, "kernel", "install", ENGINE], check=False)
print("install ended with code", install.returncode)
if install.returncode == 0:
    os.environ["EEDI_ENGINE_PATH"] = ENGINE
"""

DOCTOR = """\
# Say what this machine has, and what each stage will therefore use.
doctor = subprocess.run([*EEDI, "doctor", "--bundle", BUNDLE, "--data", COMPETITION], check=False)
print("doctor ended with code", doctor.returncode)
"""

SUBMIT = """\
# Retrieve, rerank and blend, in a process of its own; from the first ranking on, submission.csv holds the best one so far.
SUBMIT = [*EEDI, "submit", "--bundle", BUNDLE, "--data", COMPETITION, "--out", "submission.csv"]
SUBMIT += ["--deadline", "{deadline}", "--since", str(STARTED), "--keep-going"]
submit = subprocess.run(SUBMIT, check=False)
print("submit ended with code", submit.returncode)
"""

VALIDATE = """\
# Read the file back and check it against the test, as Kaggle will. A notebook that fails here has nothing to submit.
subprocess.run([*EEDI, "kernel", "validate", "submission.csv", "--data", COMPETITION], check=True)
"""


WHEELS_HEAD = f"""\
# {{title}}

Downloads the wheels that the offline notebook installs for vLLM, on the image for which they are meant. Attach this notebook's
output to the other one: `wheelhouse: notebooks/owner/slug` in `kernel.yaml`.

Made by `eedi kernel wheels --notebook`, version {__version__}.
"""

IMAGE = """\
# Say which image this is.
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

print("Python", platform.python_version(), *platform.libc_ver())
os.system("nvidia-smi")
PIP = [sys.executable, "-m", "pip"]
"""

LOCK = """\
# Write the lock.
Path("wheels.txt").write_text(r\'\'\'{lock}\'\'\')
"""

DOWNLOAD = """\
# Download every wheel that it names, and nothing else.
EXACTLY = ["--quiet", "--no-deps", "--only-binary=:all:", "--requirement", "wheels.txt"]
subprocess.run([*PIP, "download", *EXACTLY, "--dest", "."], check=True)
"""

RESOLVE = """\
# Check that these wheels are all that they require, as this image's pip sees it.
OFFLINE = ["--quiet", "--no-index", "--find-links", ".", "--requirement", "wheels.txt"]
subprocess.run([*PIP, "install", *OFFLINE, "--dry-run", "--ignore-installed"], check=True)
"""

IMPORT = """\
# Install them as the offline notebook will, and import vLLM from there.
ENGINE = f"{tempfile.gettempdir()}/engine"
subprocess.run([*PIP, "install", *OFFLINE, "--no-deps", "--no-compile", "--target", ENGINE], check=True)
SMOKE = [sys.executable, "-c", "import vllm; print(vllm.__version__)"]
subprocess.run(SMOKE, env=os.environ | {"PYTHONPATH": ENGINE}, check=True)
"""


def notebook(settings: Settings) -> NotebookNode:
    """The notebook, the same bytes for the same settings and version."""
    environment = "{\n" + "".join(f'    "{name}": "{value}",\n' for name, value in ENVIRONMENT.items()) + "}"
    find = FIND.replace("{environment}", environment).replace("{caches}", json.dumps(CACHES))
    engine = [ENGINE] if settings.wheelhouse else []
    submit = SUBMIT.replace("{deadline}", settings.deadline)
    return _notebook(HEAD.format(title=settings.kernel.title), INSTALL, find, *engine, DOCTOR, submit, VALIDATE)


def wheels_notebook(title: str, lock: str) -> NotebookNode:
    """The notebook that leaves a wheelhouse as its output, on an image with internet."""
    return _notebook(WHEELS_HEAD.format(title=title), IMAGE, LOCK.replace("{lock}", lock), DOWNLOAD, RESOLVE, IMPORT)


def _notebook(head: str, *code: str) -> NotebookNode:
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = [new_markdown_cell(head.strip(), id="head")]
    cells += [new_code_cell(source.strip(), id=f"step-{number}") for number, source in enumerate(code, 1)]
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": python, "language_info": {"name": "python"}})
