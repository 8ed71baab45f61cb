"""The script beside a candidate that builds and runs it again, alone."""

import json
from pathlib import Path

from tasks.optimizer.isolation import CANDIDATE_CHILD, JOB_FILE, child_command
from tasks.optimizer.job import CandidateJob
from tasks.optimizer.settings import child_environment

SCRIPT_FILE = "reproduce.py"
WORKSPACE = "reproduced"

_TEMPLATE = '''"""Build and run this candidate alone, from the source model, as the search did:

{label}

Its output comes to the terminal; result.json, predictions.npz and the passes' products to the folder {workspace}/.
"""

import json
import shutil
import subprocess
from pathlib import Path

WORKSPACE = Path({folder!r})
JOB = {job}
COMMAND = {command}
ENVIRONMENT = {environment}

shutil.rmtree(WORKSPACE, ignore_errors=True)
WORKSPACE.mkdir()
(WORKSPACE / {job_file!r}).write_text(json.dumps(JOB))
try:
    raise SystemExit(subprocess.run(COMMAND, env=ENVIRONMENT, cwd=WORKSPACE, timeout=JOB["timeout_s"]).returncode)
except subprocess.TimeoutExpired:
    raise SystemExit("it took longer than {{}} s and was killed".format(JOB["timeout_s"])) from None
'''


def write_script(candidate_folder: Path, job: CandidateJob, label: str) -> None:
    """Write ``reproduce.py`` into a candidate's folder; it does not depend on the cache.

    Args:
        candidate_folder: where the script goes.
        job: the candidate's job with all its steps.
        label: the candidate in words.
    """
    folder = (candidate_folder / WORKSPACE).absolute()
    text = _TEMPLATE.format(
        label=label,
        workspace=WORKSPACE,
        folder=str(folder),
        job=_literal(job.model_dump(mode="json")),
        command=_literal(child_command(CANDIDATE_CHILD, folder)),
        environment=_literal(child_environment(folder, job.threads)),
        job_file=JOB_FILE,
    )
    (candidate_folder / SCRIPT_FILE).write_text(text, encoding="utf-8")


def _literal(value: object) -> str:
    return f"json.loads({json.dumps(value)!r})"
