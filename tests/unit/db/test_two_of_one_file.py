"""Two `Database` objects of one SQLite file in one process, as when a controller tells how nodes join it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pileus.db.engine import Database

_VISIT = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM t').fetchone())"


def test_the_second_does_not_drop_the_locks_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "cloud.db"
    first = Database(f"sqlite:///{file}")
    first.run_sync(lambda tx: tx.conn.exec_driver_sql("CREATE TABLE t (i INTEGER)"))
    second = Database(f"sqlite:///{file}")
    second.run_sync(lambda tx: tx.conn.exec_driver_sql("SELECT 1"), write=False)
    second.close()
    for seen in ("0", "1"):
        # Another process that believes to be the last one removes the write-ahead log when it ends.
        visit = subprocess.run([sys.executable, "-c", _VISIT, str(file)], capture_output=True, text=True, check=True)
        assert visit.stdout.strip() == seen
        assert file.with_name("cloud.db-wal").exists()
        first.run_sync(lambda tx: tx.conn.exec_driver_sql("INSERT INTO t VALUES (1)"))
    first.close()
