"""The script beside a candidate that builds and runs it again, alone."""

import json
import sys
from pathlib import Path

from tasks.optimizer.isolation import CANDIDATE_CHILD, JOB_FILE, Limits, process_request
from tasks.optimizer.job import CandidateJob

SCRIPT_FILE = "reproduce.py"
REQUEST_FILE = "request.json"
WORKSPACE = "reproduced"
_TERMINAL = "/dev/stdout"

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
REQUEST = {request}
COMMAND = {command}

shutil.rmtree(WORKSPACE, ignore_errors=True)
Path(REQUEST["environment"]["HOME"]).mkdir(parents=True)
(WORKSPACE / {job_file!r}).write_text(json.dumps(JOB))
(WORKSPACE / {request_file!r}).write_text(json.dumps(REQUEST))
raise SystemExit(subprocess.run(COMMAND, env=REQUEST["environment"], cwd=WORKSPACE, check=False).returncode)
'''


def write_script(candidate_folder: Path, job: CandidateJob, label: str, memory_mib: int) -> None:
    """Write ``reproduce.py`` into a candidate's folder; it does not depend on the cache.

    Args:
        candidate_folder: where the script goes.
        job: the candidate's job with all its steps.
        label: the candidate in words.
        memory_mib: what the candidate may use.
    """
    folder = (candidate_folder / WORKSPACE).absolute()
    values = job.model_dump(mode="json")
    limits = Limits(job.timeout_s, memory_mib, threads=job.threads)
    request = process_request(CANDIDATE_CHILD, values, workspace=folder, limits=limits)
    text = _TEMPLATE.format(
        label=label,
        workspace=WORKSPACE,
        folder=str(folder),
        job=_literal(values),
        request=_literal(request.model_copy(update={"log": _TERMINAL}).model_dump(mode="json")),
        command=_literal([sys.executable, "-P", "-m", "tasks.optimizer.alone", str(folder / REQUEST_FILE)]),
        job_file=JOB_FILE,
        request_file=REQUEST_FILE,
    )
    (candidate_folder / SCRIPT_FILE).write_text(text, encoding="utf-8")


def _literal(value: object) -> str:
    return f"json.loads({json.dumps(value)!r})"
