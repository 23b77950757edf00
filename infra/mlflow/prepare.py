"""Makes the record's databases ready for the server of this image, and the logins that the secrets name.

Both databases get the newest schema. Pods that start together take turns, and one that finds everything done changes
nothing. The administrator, the user of the steps and the one of the champion's server, which only reads, get the
passwords that the environment has now, so that a secret which is exchanged counts from the next start on. libpq finds
the server by PGHOST, PGUSER and PGPASSWORD.
"""

import os
import sys
import time

import sqlalchemy

RECORD = os.environ.get("MLFLOW_BACKEND_STORE_URI", "postgresql+psycopg2:///record")
USERS = "postgresql+psycopg2:///users"
PATIENCE_SECONDS = 300.0
# Any number that nothing else in this server locks with.
LOCK = 7_246_582


def connected(engine: sqlalchemy.Engine) -> sqlalchemy.Connection:
    """A connection, once the server answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return engine.connect()
        except sqlalchemy.exc.OperationalError as error:
            if "authentication failed" in str(error) or time.monotonic() > deadline:
                raise
            print("waiting for PostgreSQL", flush=True)
            time.sleep(2)


def prepare_users(connection: sqlalchemy.Connection) -> None:
    """The database of the logins, and the logins."""
    from mlflow.server.auth.config import read_auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    found = connection.execute(sqlalchemy.text("SELECT 1 FROM pg_database WHERE datname = 'users'")).scalar()
    if not found:
        connection.execute(sqlalchemy.text("CREATE DATABASE users"))
    store = SqlAlchemyStore()
    store.init_db(USERS)
    login(store, read_auth_config().admin_username, os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"], administrator=True)
    for which in ("MLFLOW_TRACKING", "READER"):
        login(store, os.environ[f"{which}_USERNAME"], os.environ[f"{which}_PASSWORD"], administrator=False)


def login(store, name: str, password: str, *, administrator: bool) -> None:
    if not store.has_user(name):
        store.create_user(name, password, is_admin=administrator)
        print(f"made the user {name}", flush=True)
    elif not store.authenticate_user(name, password):
        store.update_user(name, password=password)
        print(f"changed the password of {name}", flush=True)


def main() -> None:
    from mlflow.db import commands

    # A database is not made within a transaction; the lock is the session's and goes with it.
    engine = sqlalchemy.create_engine(RECORD, isolation_level="AUTOCOMMIT")
    with connected(engine) as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:number)"), {"number": LOCK})
        commands.main(["upgrade", RECORD], standalone_mode=False)
        prepare_users(connection)
    print("the record is ready", flush=True)


if __name__ == "__main__":
    try:
        main()
    except sqlalchemy.exc.OperationalError as error:
        sys.exit(f"PostgreSQL at {os.environ.get('PGHOST')}: {error.orig}")
