"""Keys, and opening a database."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from b24offline.errors import ConfigError, WrongKey
from b24offline.store import Cipher, Store, database, load_or_create_key
from b24offline.store.database import make_engine

KEY = Fernet.generate_key().decode()
PLACE = ["portals", "refresh_token", "acme"]


@pytest.mark.parametrize("keys", [[], [""], ["short"], [KEY, "x" * 44], ["\u00e9" * 44]])
def test_a_malformed_key_is_told_without_showing_it(keys):
    with pytest.raises(WrongKey, match="make one with") as caught:
        Cipher(keys)
    assert "xxxx" not in str(caught.value)


def test_text_of_any_kind_survives_encryption():
    cipher = Cipher([KEY])
    for words in ("", "\0", "\U0001f600", "\ud83d", "x" * 1_000_000):
        assert cipher.decrypt(cipher.encrypt(words, PLACE), PLACE, "it") == words


@pytest.mark.parametrize("place", [[], ["portals", "refresh_token"], [*PLACE[:-1], "globex"], ["a,b"]])
def test_a_secret_opens_in_its_place_only(place):
    cipher = Cipher([KEY])
    with pytest.raises(WrongKey, match="does not open it"):
        cipher.decrypt(cipher.encrypt("token", PLACE), place, "it")
    with pytest.raises(WrongKey, match="does not open it"):
        cipher.decrypt(cipher.encrypt("token", ["a", "b"]), place, "it")


@pytest.mark.parametrize(
    "change", [lambda s: s[:-4] + "AAAA", lambda s: "2" + s[1:], lambda s: "", lambda s: "1.\u00e9"]
)
def test_a_changed_secret_does_not_open(change):
    cipher = Cipher([KEY])
    with pytest.raises(WrongKey, match="does not open it"):
        cipher.decrypt(change(cipher.encrypt("token", PLACE)), PLACE, "it")


def test_the_earlier_form_opens_for_a_rotation_only():
    cipher, earlier = Cipher([KEY]), Fernet(KEY).encrypt(b"token").decode()
    with pytest.raises(WrongKey, match="db reencrypt"):
        cipher.decrypt(earlier, PLACE, "it")
    assert cipher.decrypt(cipher.rotate(earlier, PLACE, "it"), PLACE, "it") == "token"


@pytest.mark.parametrize("url", ["mysql://user:hidden@host/db", "nonsense", ""])
def test_another_database_is_refused_without_showing_its_password(url):
    with pytest.raises(ConfigError, match=r"sqlite:///.*postgresql://") as caught:
        make_engine(url)
    assert "hidden" not in str(caught.value)


def test_opening_waits_for_a_writer_of_a_file_without_a_write_ahead_log(tmp_path):
    path = tmp_path / "old.db"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("CREATE TABLE other (x)")
    writer.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, writer.execute, ["COMMIT"])
    release.start()
    Store(f"sqlite:///{path}", Cipher([KEY])).create_schema()
    release.join()
    writer.close()
    reader = sqlite3.connect(path)
    assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    reader.close()


def test_a_key_file_without_a_key_is_told(tmp_path):
    (tmp_path / "secret.key").touch(mode=0o600)
    (tmp_path / "secret.key").write_text("nonsense")
    with pytest.raises(WrongKey, match="holds no key"):
        load_or_create_key(tmp_path)


def test_a_key_file_that_other_users_can_read_is_refused(tmp_path):
    key = load_or_create_key(tmp_path)
    (tmp_path / "secret.key").chmod(0o604)
    with pytest.raises(WrongKey, match="other users can read it") as refused:
        load_or_create_key(tmp_path)
    assert key not in str(refused.value)
    (tmp_path / "secret.key").chmod(0o640)
    assert load_or_create_key(tmp_path) == key, "a group of one's own may"


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WrongKey, match=r"file/deep/secret.key cannot be used \(Not a directory\). Set B24_DATA_DIR"):
        load_or_create_key(tmp_path / "file" / "deep")
    with pytest.raises(ConfigError, match=r"file/deep/b24.db cannot be made \(Not a directory\). Let B24_DATABASE_URL"):
        make_engine(f"sqlite:///{tmp_path}/file/deep/b24.db")


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://db.example/b24", "verify-full"),
        ("postgresql://10.0.0.7/b24?sslmode=verify-full", "verify-full"),
        ("postgresql:///b24?host=127.0.0.1:5432&host=db.example", "verify-full"),
        ("postgresql://127.0.0.1/b24?sslmode=verify-full", "verify-full"),
        ("postgresql://db.example/b24?sslmode=disable", None),
        ("postgresql://localhost/b24", None),
        ("postgresql:///b24?host=/run/postgresql", None),
    ],
)
def test_a_postgresql_of_another_machine_is_verified(url, mode):
    assert database.verification(make_url(url), "/ca.pem").get("sslmode") == mode
    assert database.verification(make_url(url), "/ca.pem").get("sslrootcert") == (mode and "/ca.pem")
    assert database.verification(make_url(url), None).get("sslmode") == mode


def test_a_postgresql_that_says_nothing_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(database, "_POSTGRES_WAITS", {"connect_timeout": 2})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = make_engine(f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/db")
        began = time.monotonic()
        with pytest.raises(OperationalError):
            engine.connect()
        assert time.monotonic() - began < 20


def test_the_address_may_ask_for_other_waits():
    class Stop(Exception):
        pass

    def caught(_dialect, _record, _arguments, given):
        raise Stop(given)

    engine = make_engine("postgresql://user@127.0.0.1:1/db?connect_timeout=3")
    event.listen(engine, "do_connect", caught)
    with pytest.raises(Stop) as stopped:
        engine.connect()
    (given,) = stopped.value.args
    assert (given["connect_timeout"], given["tcp_user_timeout"], given["keepalives_idle"]) == ("3", 60_000, 30)
