"""Keys, and opening a database."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from cryptography.fernet import Fernet

from b24offline.errors import ConfigError, WrongKey
from b24offline.store import Cipher, Store, load_or_create_key, make_engine

KEY = Fernet.generate_key().decode()


@pytest.mark.parametrize("keys", [[], [""], ["short"], [KEY, "x" * 44], ["\u00e9" * 44]])
def test_a_malformed_key_is_told_without_showing_it(keys):
    with pytest.raises(WrongKey, match="make one with") as caught:
        Cipher(keys)
    assert "xxxx" not in str(caught.value)


def test_text_of_any_kind_survives_encryption():
    cipher = Cipher([KEY])
    for words in ("", "\0", "\U0001f600", "\ud83d", "x" * 1_000_000):
        assert cipher.decrypt(cipher.encrypt(words), "it") == words


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
    (tmp_path / "secret.key").write_text("nonsense")
    with pytest.raises(WrongKey, match="holds no key"):
        load_or_create_key(tmp_path)
