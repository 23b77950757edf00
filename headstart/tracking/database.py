"""MLflow's SQLite store in one file: its address, creation, checks and relocation."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

from headstart.errors import InputError
from headstart.tracking.mlflow_settings import configure_mlflow

DECODES = tuple(map(int, version("sqlalchemy").split(".")[:2])) >= (2, 1)
"""Whether this release of SQLAlchemy decodes %XX in a file's path."""

_SCHEMES = ("sqlite:///", "sqlite+pysqlite:///")
# MLflow holds its locks for milliseconds; a lock held for longer will not be released soon.
_BUSY_SECONDS = 5.0
# Columns in which MLflow stores addresses of artifacts.
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
    """Return the URI of the store in the file `database`.

    Raises:
        InputError: there is a ? in its path, and SQLAlchemy is older than 2.1.
    """
    path = str(database.absolute())
    if not DECODES:
        if "?" in path:
            raise InputError(
                f"SQLAlchemy {version('sqlalchemy')} opens no file with a ? in its path, and {path} has one; name "
                "another folder with --workspace, or install SQLAlchemy 2.1."
            )
        return f"{_SCHEMES[0]}{path}"
    quoted = path.replace("%", "%25").replace("?", "%3F")
    # MLflow would use the quoted path of a plain sqlite:/// address as a folder name, and create that folder.
    return f"{_SCHEMES[quoted != path]}{quoted}"


def file_of(uri: str) -> Path | None:
    """Return the file of the store at `uri`; None for a server."""
    for scheme in _SCHEMES:
        if uri.startswith(scheme):
            path = uri.removeprefix(scheme).partition("?")[0]
            return Path(unquote(path) if DECODES else path)
    return None


def artifacts_beside(database: Path) -> Path:
    """Return the folder beside a store in which artifacts are kept, unless an experiment names another place."""
    return database.absolute().parent / "mlartifacts"


def exists(database: Path) -> bool:
    """Return whether there is a store; an empty file is none."""
    return database.exists() and database.stat().st_size > 0


def create(database: Path, artifacts: Path) -> None:
    """Create an empty store atomically. A lock makes concurrent callers wait for each other.

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
    """Check that the store can be used; MLflow would discover a fault only after minutes.

    Args:
        writing: also check that it is undamaged and writable.

    Raises:
        InputError: the store cannot be used; the message names cause and remedy.
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
            # BEGIN alone succeeds on a read-only file.
            connection.execute("UPDATE alembic_version SET version_num = version_num")
            connection.execute("ROLLBACK")


def settle(database: Path, artifacts: Path) -> None:
    """Update the artifact addresses of a store that was moved or copied together with its folder `artifacts`.

    Does nothing if the artifacts did not move with the database.
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
    """Return cause and remedy for an error of SQLite's, also one wrapped by SQLAlchemy or MLflow; None for any other
    error."""
    seen: BaseException | None = error
    while seen is not None:
        inner = getattr(seen, "orig", None)
        if isinstance(inner, sqlite3.Error):
            seen = inner
        if isinstance(seen, sqlite3.Error):
            code = getattr(seen, "sqlite_errorcode", None)
            # The lower byte is the primary result code, the upper ones its extension.
            return _REMEDIES.get(code & 0xFF) if isinstance(code, int) else None
        seen = seen.__cause__ or seen.__context__
    return None


def _is_elsewhere(place: str, artifacts: Path) -> bool:
    """Return whether an experiment's artifacts are recorded in a folder of the same name in another workspace."""
    if not place.startswith("file:///") or place == artifacts.as_uri():
        return False
    folder = Path(unquote(place.removeprefix("file://")))
    if folder.name != artifacts.name:
        return False
    return not (folder.exists() and folder.samefile(artifacts))


@contextlib.contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    # mode=rw: a missing file is an error, not created.
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
    """Hold the lock on creating and relocating a store."""
    from filelock import FileLock

    with FileLock(database.with_name(f"{database.name}.lock")):
        yield
