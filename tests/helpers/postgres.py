"""A PostgreSQL server of one's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from helpers import small_project


def find() -> Path | None:
    """The folder of PostgreSQL's programs; None where there are none."""
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    return next((f for f in folders if (f / "initdb").is_file() and (f / "postgres").is_file()), None)


@contextlib.contextmanager
def serve(binaries: Path) -> Iterator[str]:
    """A server with an empty database; its address."""
    home = Path("/tmp") / f"partsynth-postgres-{os.getpid()}-{time.time_ns()}"  # its socket's path must be short
    home.mkdir(mode=0o755)
    prefix: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(home, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = home / "data"
    small_project.command(Path("/"), *prefix, str(binaries / "initdb"), "-D", str(data), "-U", "study", "-A", "trust")
    server = subprocess.Popen(
        [*prefix, str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", str(home), "-h", "127.0.0.1"],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    import psycopg2

    address = f"postgresql://study@127.0.0.1:{port}/postgres"
    try:
        for _ in range(200):
            try:
                psycopg2.connect(address).close()
                break
            except psycopg2.OperationalError:
                time.sleep(0.1)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(timeout=30)
        shutil.rmtree(home)
