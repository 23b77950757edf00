"""A record that MLflow keeps in one SQLite file: its address, its birth, its health and its move to another folder."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from headstart.errors import InputError
from headstart.tracking.mlflow_settings import configure_mlflow

_SCHEMES = ("sqlite:///", "sqlite+pysqlite:///")
# MLflow holds its locks for milliseconds; whoever holds one longer does not mean to let go.
_BUSY_SECONDS = 5.0
# Where MLflow keeps addresses of artifacts.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_DAMAGED = "is damaged; restore it from a backup, or begin a new record in another folder with --workspace"
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "is locked by another process; wait until that is done or end it, then run again",
    sqlite3.SQLITE_LOCKED: "is locked by another process; wait until that is done or end it, then run again",
    sqlite3.SQLITE_READONLY: "cannot be written; see who owns the file and its folder and whether their disk is "
    "mounted for writing, or name another folder with --workspace",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; see who may read and write the file and its folder",
    sqlite3.SQLITE_FULL: "cannot grow, as its disk is full; make room there, then run again",
    sqlite3.SQLITE_IOERR: "cannot be read or written; see whether its disk is full or failing",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}


def address(database: Path) -> str:
    """The URI by which MLflow finds the store in the file `database`."""
    path = str(database.absolute())
    quoted = path.replace("%", "%25").replace("?", "%3F")
    # Of a plain sqlite:/// address MLflow would take the quoted path for a folder's, and make that folder.
    return f"{_SCHEMES[quoted != path]}{quoted}"


def file_of(uri: str) -> Path | None:
    """The file that keeps the store at `uri`; None where a server does."""
    for scheme in _SCHEMES:
        if uri.startswith(scheme):
            return Path(unquote(uri.removeprefix(scheme).partition("?")[0]))
    return None


def exists(database: Path) -> bool:
    """Whether there is a store; an empty file is none."""
    return database.exists() and database.stat().st_size > 0


def create(database: Path, artifacts: Path) -> None:
    """Makes an empty store, whole or not at all; whoever makes the same one meanwhile is waited for.

    Args:
        artifacts: the folder for the artifacts of experiments that name none.
    """
    with _alone(database):
        if exists(database):
            return
        configure_mlflow()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        draft = database.with_name(f".{database.name}.draft")
        for left in database.parent.glob(f"{draft.name}*"):
            left.unlink()
        SqlAlchemyStore(address(draft), artifacts.as_uri()).engine.dispose()
        os.replace(draft, database)


def examine(database: Path, *, writing: bool = False) -> None:
    """Sees whether the store can be used, which MLflow would find out only after minutes.

    Args:
        writing: whether it must be whole and take something in.

    Raises:
        InputError: it cannot; the message says why and what helps.
    """
    with _opened(database) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            raise InputError(
                f"{database} is not a record of MLflow's: it has none of its tables; name another folder with "
                "--workspace, or move that file away."
            )
        if writing:
            if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise InputError(f"The record {database} {_DAMAGED}.")
            connection.execute("BEGIN IMMEDIATE")
            # The beginning alone says nothing where the file is read-only.
            connection.execute("UPDATE alembic_version SET version_num = version_num")
            connection.execute("ROLLBACK")


def settle(database: Path, artifacts: Path) -> None:
    """Has a store that was moved or copied with its folder `artifacts` find them there, and no longer where they were.

    Does nothing where the artifacts did not come along, as those of a database that was copied alone.
    """
    if not artifacts.is_dir():
        return
    with _opened(database) as connection:
        found = [place for (place,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments")]
        left = [place for place in found if _is_elsewhere(place, artifacts)]
        if not left:
            return
        with _alone(database):
            connection.execute("BEGIN IMMEDIATE")
            for before in left:
                for table, column in _ADDRESSES:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 (names from above)
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (artifacts.as_uri(), len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )
            connection.execute("COMMIT")


def sentence(error: BaseException) -> str | None:
    """What SQLite's `error`, or the one that SQLAlchemy and MLflow wrap, says of a store; None for any other error."""
    seen: BaseException | None = error
    while seen is not None:
        inner = getattr(seen, "orig", None)
        if isinstance(inner, sqlite3.Error):
            seen = inner
        if isinstance(seen, sqlite3.Error):
            code = getattr(seen, "sqlite_errorcode", None)
            # The lower byte says what is wrong, the upper ones how it was found out.
            return _REMEDIES.get(code & 0xFF) if isinstance(code, int) else None
        seen = seen.__cause__ or seen.__context__
    return None


def _is_elsewhere(place: str, artifacts: Path) -> bool:
    """Whether an experiment's artifacts were in a workspace's folder of that name, and that is another folder now."""
    if not place.startswith("file:///") or place == artifacts.as_uri():
        return False
    folder = Path(unquote(place.removeprefix("file://")))
    if folder.name != artifacts.name:
        return False
    return not (folder.exists() and folder.samefile(artifacts))


@contextlib.contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    # Not made where it is not there.
    uri = f"{database.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(
            sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        ) as connection:
            yield connection
    except sqlite3.Error as error:
        said = sentence(error) or f"cannot be used ({error}); restore it from a backup"
        raise InputError(f"The record {database} {said}.") from error


@contextlib.contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Holds the lock on the making and moving of a store."""
    from filelock import FileLock

    with FileLock(database.with_name(f"{database.name}.lock")):
        yield
