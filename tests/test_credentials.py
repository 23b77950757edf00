import pytest

from headstart.credentials import is_sendable, require_sendable, without_password, without_passwords
from headstart.errors import InputError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://ann:canary@host:5000/path", "http://host:5000/path"),
        ("ftp://ann:canary@host/x", "ftp://host/x"),
        ("postgresql://ann:can/a@ry@host/base", "postgresql://host/base"),
        ("https://canary@host", "https://host"),
        ("http://host/a@b", "http://host/a@b"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
        ("models:/digits-target@champion", "models:/digits-target@champion"),
    ],
)
def test_an_address_is_shown_without_its_user_and_password_and_else_as_it_is(address, shown):
    assert without_password(address) == shown


def test_addresses_within_a_message_are_shown_without_users_and_passwords():
    message = "got 'ftp://ann:canary@host/x', not \"https://canary@host\", s3://bucket/a@b or models:/a@champion"
    assert without_passwords(message) == (
        "got 'ftp://host/x', not \"https://host\", s3://bucket/a@b or models:/a@champion"
    )


@pytest.mark.parametrize("secret", ["canary\nX-Other: 1", "canary\n", "can\rary", "can\0ary", "canaré", "can\x7fary"])
def test_a_secret_that_no_header_can_hold_is_refused_without_being_shown(monkeypatch, secret):
    assert not is_sendable(secret)
    if "\0" in secret:
        return
    monkeypatch.setenv("SOME_TOKEN", secret)
    with pytest.raises(InputError, match="SOME_TOKEN holds a line break or another character") as refusal:
        require_sendable("SOME_TOKEN", "OTHER_TOKEN")
    assert "can" not in str(refusal.value).replace("cannot", "")


def test_a_secret_that_can_be_sent_or_is_not_there_is_no_problem(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "abc.DEF-123_~+/=")
    require_sendable("SOME_TOKEN", "OTHER_TOKEN")
