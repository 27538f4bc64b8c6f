"""What has to be known of every clip of a corpus, but need not be in memory."""

from __future__ import annotations

import sqlite3


def private_database(*statements: str) -> sqlite3.Connection:
    """A database of SQLite that nobody else sees and that ends with its connection. Two megabytes of it are in memory,
    the rest in a temporary file (https://sqlite.org/inmemorydb.html#temp_db); `statements` make its tables.

    It is not there to outlive a crash, so it keeps no journal, and one transaction lasts as long as it does.
    """
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", *statements, "BEGIN"):
        database.execute(statement)
    return database
