"""What the simulated gateway remembers: one SQLite file, or memory.

A real gateway loses nothing when a process dies, so every change is written before it is answered.
`synchronous = OFF` gives up only what a power cut would take; a killed process loses nothing.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

Row = sqlite3.Row

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS link (
  id TEXT PRIMARY KEY, tx_ref TEXT NOT NULL UNIQUE, amount TEXT NOT NULL, currency TEXT NOT NULL,
  redirect_url TEXT NOT NULL, customer TEXT NOT NULL, meta TEXT, payment_options TEXT,
  subaccounts TEXT, title TEXT, session_minutes INTEGER NOT NULL, max_failures INTEGER,
  failures INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'active',
  created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS tx (
  id INTEGER PRIMARY KEY AUTOINCREMENT, tx_ref TEXT NOT NULL, link_id TEXT, flw_ref TEXT NOT NULL,
  amount TEXT NOT NULL, currency TEXT NOT NULL, charged_amount TEXT NOT NULL,
  app_fee TEXT NOT NULL, status TEXT NOT NULL, payment_type TEXT NOT NULL,
  processor_response TEXT NOT NULL, customer TEXT NOT NULL, meta TEXT, redirect_url TEXT,
  settlement_id INTEGER, created_at REAL NOT NULL, completed_at REAL
);
CREATE INDEX IF NOT EXISTS tx_by_ref ON tx (tx_ref);
CREATE INDEX IF NOT EXISTS tx_by_flw_ref ON tx (flw_ref);
CREATE INDEX IF NOT EXISTS tx_by_time ON tx (created_at);
CREATE TABLE IF NOT EXISTS refund (
  id INTEGER PRIMARY KEY AUTOINCREMENT, tx_id INTEGER NOT NULL, flw_ref TEXT NOT NULL,
  amount TEXT NOT NULL, currency TEXT NOT NULL, status TEXT NOT NULL, disburse_status TEXT,
  comments TEXT, settlement_id INTEGER, created_at REAL NOT NULL, updated_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS refund_by_tx ON refund (tx_id);
CREATE TABLE IF NOT EXISTS transfer (
  id INTEGER PRIMARY KEY AUTOINCREMENT, reference TEXT NOT NULL UNIQUE, account_bank TEXT NOT NULL,
  account_number TEXT NOT NULL, amount TEXT NOT NULL, fee TEXT NOT NULL, currency TEXT NOT NULL,
  debit_currency TEXT NOT NULL, beneficiary_name TEXT, narration TEXT, meta TEXT,
  status TEXT NOT NULL, complete_message TEXT NOT NULL, created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS subaccount (
  id INTEGER PRIMARY KEY AUTOINCREMENT, subaccount_id TEXT NOT NULL UNIQUE,
  account_bank TEXT NOT NULL, account_number TEXT NOT NULL, business_name TEXT NOT NULL,
  country TEXT NOT NULL, split_type TEXT NOT NULL, split_value TEXT NOT NULL, meta TEXT,
  created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS chargeback (
  id INTEGER PRIMARY KEY AUTOINCREMENT, tx_id INTEGER NOT NULL, amount TEXT NOT NULL,
  status TEXT NOT NULL, comment TEXT, proof TEXT, history TEXT NOT NULL, settlement_id INTEGER,
  due_at REAL NOT NULL, created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS settlement (
  id INTEGER PRIMARY KEY AUTOINCREMENT, currency TEXT NOT NULL, gross TEXT NOT NULL,
  app_fee TEXT NOT NULL, refund TEXT NOT NULL, chargeback TEXT NOT NULL, net TEXT NOT NULL,
  created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS timer (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, subject INTEGER NOT NULL,
  data TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS timer_by_time ON timer (at);
CREATE TABLE IF NOT EXISTS delivery (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject INTEGER NOT NULL,
  tx_id INTEGER, body TEXT NOT NULL, verif_hash TEXT, state TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, last_status INTEGER, next_at REAL NOT NULL,
  created_at REAL NOT NULL, acknowledged_at REAL
);
CREATE INDEX IF NOT EXISTS delivery_waiting ON delivery (next_at)
  WHERE state IN ('waiting', 'held');
CREATE INDEX IF NOT EXISTS delivery_by_tx ON delivery (tx_id);
CREATE TABLE IF NOT EXISTS stripe_object (
  place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, parent TEXT NOT NULL,
  reference TEXT NOT NULL, created INTEGER NOT NULL, doc TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS stripe_by_kind ON stripe_object (kind, created);
CREATE INDEX IF NOT EXISTS stripe_by_parent ON stripe_object (parent);
CREATE INDEX IF NOT EXISTS stripe_by_reference ON stripe_object (reference);
CREATE TABLE IF NOT EXISTS stripe_answer (
  key TEXT PRIMARY KEY, digest TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS v4_customer (email TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, customer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS v4_answer (
  key TEXT PRIMARY KEY, status INTEGER NOT NULL, body TEXT NOT NULL, created_at REAL NOT NULL
);
"""

# Columns that files of earlier versions lack: which version of the API a row was made and is announced with.
LATER_COLUMNS: Final = {
    **dict.fromkeys(("link", "tx", "transfer", "settlement"), "version TEXT NOT NULL DEFAULT 'v3'"),
    "delivery": "gateway TEXT NOT NULL DEFAULT 'flutterwave'",
}

NUMBERED: Final = ("tx", "refund", "transfer", "subaccount", "chargeback", "settlement")
EPOCH_2024: Final = 1_704_067_200


class Store:
    """An open SQLite database. All calls are synchronous and take microseconds."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(SCHEMA)
        self._add_later_columns()
        self._start_ids_late()
        # A webhook that was on its way when the process died was perhaps not received: send it
        # again, as the real one would.
        self._db.execute("UPDATE delivery SET state = 'waiting' WHERE state = 'sending'")

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """All writes inside happen together. May be nested: only the outermost commits."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def run(self, sql: str, *values: object) -> int:
        """Execute a statement and return the id of the row it inserted."""
        return self._db.execute(sql, values).lastrowid or 0

    def change(self, sql: str, *values: object) -> int:
        """Execute a statement and return how many rows it changed."""
        return self._db.execute(sql, values).rowcount

    def one(self, sql: str, *values: object) -> Row | None:
        """Return the first row, or None."""
        row: Row | None = self._db.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: object) -> list[Row]:
        """Return every row; the statement carries its own LIMIT."""
        return self._db.execute(sql, values).fetchall()

    def value(self, sql: str, *values: object) -> Any:
        """Return the first column of the first row, or None."""
        row = self.one(sql, *values)
        return None if row is None else row[0]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _add_later_columns(self) -> None:
        """Give the file of an earlier version the columns that it lacks."""
        for table, column in LATER_COLUMNS.items():
            known = {row["name"] for row in self.all("SELECT name FROM pragma_table_info(?)", table)}
            if column.partition(" ")[0] not in known:
                self.run(f"ALTER TABLE {table} ADD COLUMN {column}")

    def _start_ids_late(self) -> None:
        """Begin ids above those of an earlier run in memory, so that no caller sees one twice."""
        first = int(time.time() - EPOCH_2024) * 16
        for table in NUMBERED:
            if self.one("SELECT 1 FROM sqlite_sequence WHERE name = ?", table) is None:
                self.run("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", table, first)
