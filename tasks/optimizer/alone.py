"""Run one job as the process server would, without it: ``python -P -m tasks.optimizer.alone REQUEST``.

REQUEST is a file with a ``ProcessRequest`` as JSON. The process has the same limits as in a search.
"""

import json
import os
import socket
import sys
from pathlib import Path

from tasks.optimizer.confined_job import Inherited, run_job
from tasks.optimizer.process_request import Ended, ProcessRequest, receive
from tasks.optimizer.settings import environment_names
from tasks.optimizer.warden import watch


def run_alone(request: ProcessRequest) -> str:
    """Run a job in a fork of this process, to its end; return how that came, in words after "the child process"."""
    asker, warden = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    job = os.fork()
    if not job:
        run_job(request, parent, Inherited(environment_names(), str(Path.home())))
    with asker, warden:
        watch(request, job, warden)
        receive(asker)
        ended: Ended = receive(asker)
    return ended.ending


def main() -> None:
    """Run the request on the command line; exit with 0 if it came to a value, else with the reason."""
    request = ProcessRequest.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ending = run_alone(request)
    try:
        result = json.loads(Path(request.arguments[-1]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SystemExit(f"the child process {ending}") from None
    raise SystemExit(result.get("error", 0))


if __name__ == "__main__":
    main()
