"""A Postgres server of its own, for as long as it is needed."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

BIN = next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))), None)
"""Where the Debian package keeps the server; None: it is not installed."""

_START_S = 60.0


@contextmanager
def running(port: int, *options: str) -> Iterator[str]:
    """Start a server on a loopback port; yield the SQLAlchemy URL of its own database.

    Args:
        port: a free one.
        options: settings of the server, such as ``fsync=off``.

    Raises:
        RuntimeError: it is not installed or did not start.
    """
    if BIN is None:
        raise RuntimeError("Postgres is not installed; install the Debian package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="burnish-postgres-"))
    prefix: list[str] = []
    if os.geteuid() == 0:  # Postgres refuses to run as root
        shutil.chown(folder, "postgres")
        prefix = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    data = str(folder / "data")
    initdb = [*prefix, str(BIN / "initdb"), "-D", data, "-U", "burnish", "--auth=trust", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=60)
    more = [part for option in ("unix_socket_directories=", *options) for part in ("-c", option)]
    server = [*prefix, str(BIN / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), *more]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(server, stdout=log, stderr=log, cwd=folder)
    try:
        _await(process, port, folder / "log")
        yield f"postgresql+psycopg://burnish@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown: SIGTERM would wait for open connections
        process.wait(30)
        shutil.rmtree(folder)


def _await(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="burnish", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"Postgres did not start: {log.read_text(encoding='utf-8')[-2000:]}")
