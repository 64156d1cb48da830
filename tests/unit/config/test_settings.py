"""The configuration: what it reads, what it refuses, and what it never shows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from b24offline.config import Config, Timers, variables
from b24offline.config.validators import masked_url
from b24offline.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "canary-7f3b19"
RABBIT = "amqp://user:password@rabbitmq:5672//"
PORTAL = {
    "B24_PORTAL_URL": "https://acme.bitrix24.com/rest/",
    "B24_CLIENT_ID": "local.5f3a.81",
    "B24_CLIENT_SECRET": CANARY,
}


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.load(environ)
    return str(caught.value)


def test_everything_has_a_default() -> None:
    config = Config.load({})
    assert config.broker_url == config.redis_url == "redis://127.0.0.1:6379/0"
    assert config.database_url == "sqlite:///.data/b24offline.db"
    assert config.portal_url is None
    assert config.portal_name is None
    assert config.order == {"ID": "ASC"}
    assert (config.events, config.pipelines, config.filter) == ((), ("b24offline.pipelines",), {})
    assert config.secret_keys == ()


def test_derived_defaults_follow_what_is_given() -> None:
    config = Config.load({**PORTAL, "B24_REDIS_URL": "redis://cache:6380/2", "B24_DATA_DIR": "/srv/b24"})
    assert config.broker_url == "redis://cache:6380/2"
    assert config.database_url == "sqlite:////srv/b24/b24offline.db"
    assert config.portal_name == "acme.bitrix24.com"


def test_a_broker_behind_the_ledgers_sentinels_has_its_primary() -> None:
    sentinels = "sentinel://:password@one:26379/2;sentinel://two"
    config = Config.load({"B24_REDIS_URL": sentinels, "B24_REDIS_PRIMARY": "ledger"})
    assert (config.broker_url, config.broker_primary) == (sentinels, "ledger")
    config = Config.load({"B24_REDIS_URL": sentinels, "B24_BROKER_PRIMARY": "broker"})
    assert (config.redis_primary, config.broker_primary) == ("mymaster", "broker")


def test_a_given_redis_can_be_told_from_the_default() -> None:
    assert "redis_url" not in Config.load({}).model_fields_set
    assert "redis_url" in Config.load({"B24_REDIS_URL": "redis://127.0.0.1:6379/0"}).model_fields_set


def test_values_are_parsed_once() -> None:
    config = Config.load(
        {
            **PORTAL,
            "B24_PORTAL_URL": " https://acme.bitrix24.com/rest ",
            "B24_EVENTS": "oncrmdealadd, ONTASKADD,,ONTASKADD",
            "B24_FILTER": '{"=EVENT_NAME": "ONTASKADD", ">=ID": 7}',
            "B24_ORDER": "timestamp_x desc, id asc",
            "B24_PIPELINES": "b24offline.pipelines, mine.chains",
            "B24_LOG_LEVEL": "debug",
            "B24_CLAIM_ORPHANS": "no",
            "B24_DATABASE_URL": "postgres://user:pw@db/b24",
            "B24_SECRET_KEY": f"{Fernet.generate_key().decode()}, {Fernet.generate_key().decode()}",
            "B24_UNROUTED": "",
        }
    )
    assert config.portal_url == "https://acme.bitrix24.com/rest/"
    assert config.events == ("ONCRMDEALADD", "ONTASKADD")
    assert config.filter == {"=EVENT_NAME": "ONTASKADD", ">=ID": 7}
    assert list(config.order.items()) == [("TIMESTAMP_X", "DESC"), ("ID", "ASC")]
    assert config.pipelines == ("b24offline.pipelines", "mine.chains")
    assert (config.log_level, config.claim_orphans, config.unrouted) == ("DEBUG", False, "nack")
    assert config.database_url == "postgresql+psycopg://user:pw@db/b24"
    assert len(config.secret_keys) == 2


def test_it_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config.load({}).batch_size = 10  # type: ignore[misc]


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B24_BATCH_SIZE", "7")
    assert Config.load().batch_size == 7
    assert Config.load({}).batch_size == 50
    assert Config().batch_size == 50


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("B24_BATCH_SIZE", "0", "greater than or equal to 1"),
        ("B24_BATCH_SIZE", "501", "less than or equal to 500"),
        ("B24_BATCH_SIZE", "many", "valid integer"),
        ("B24_REDIS_URL", "amqp://host", "must begin with redis://"),
        ("B24_REDIS_URL", "cache", "must begin with redis://"),
        ("B24_REDIS_URL", "sentinel://one:26379;redis://two", "must begin with redis://"),
        ("B24_REDIS_URL", "sentinel://one:port/0", "must begin with redis://"),
        ("CELERY_BROKER_URL", "rabbitmq", "must be an address with a scheme"),
        ("B24_DATABASE_URL", "mysql://db/b24", "must be SQLite or PostgreSQL"),
        ("B24_DATABASE_URL", "sqlite://", "must name a file"),
        ("B24_DATABASE_URL", "nonsense", "is not a database address"),
        ("B24_PORTAL_URL", "http://acme.bitrix24.com/rest/", "plain http is for loopback hosts only"),
        ("B24_PORTAL_URL", "https://acme.bitrix24.com/", "must end in /rest/"),
        ("B24_PORTAL_URL", "https://acme.bitrix24.com/rest/1/abc123/", "incoming webhook"),
        ("B24_PORTAL_URL", "https://a:b@acme.bitrix24.com/rest/", "neither credentials nor a query"),
        ("B24_PORTAL_URL", "acme.bitrix24.com", "begins with https://"),
        ("B24_PORTAL_URL", "https://[acme/rest/", "is not a web address"),
        ("B24_PORTAL_NAME", "Acme GmbH", "match pattern"),
        ("B24_AUTH_URL", "http://oauth.bitrix.info/oauth/token/", "plain http"),
        ("B24_AUTH_HOSTS", "https://oauth.example", "without scheme"),
        ("B24_SECRET_KEY", "short", "malformed key at position 1"),
        ("B24_CLIENT_SECRET", "two words", "must be one word"),
        ("B24_CONNECTOR", "my connector", "match pattern"),
        ("B24_EVENTS", "ONCRMDEALADD;ONTASKADD", "not an event name"),
        ("B24_FILTER", "ID>7", "is not JSON"),
        ("B24_FILTER", "[]", "must be a JSON object"),
        ("B24_FILTER", '{"ID": 7}', "must have keys made of"),
        ("B24_FILTER", '{"!ID": 7}', "must have keys made of"),
        ("B24_FILTER", '{"=PROCESS_ID": ""}', "must have keys made of"),
        ("B24_FILTER", '{"=ID": [7]}', "must compare with single"),
        ("B24_FILTER", '{"=ID": true}', "must compare with single"),
        ("B24_ORDER", "ID", "followed by ASC or DESC"),
        ("B24_ORDER", "PROCESS_ID ASC", "followed by ASC or DESC"),
        ("B24_PIPELINES", "my-chains", "Python module names"),
        ("B24_CA_FILE", "/nowhere/ca.pem", "does not exist"),
        ("B24_SERVICE_CA_FILE", "/nowhere/ca.pem", "does not exist"),
        ("B24_REDIS_URL", "rediss://redis/0?ssl_cert_reqs=none", "must not switch server verification"),
        ("B24_REDIS_URL", "rediss://redis/0?db=1&ssl_check_hostname=False", "must not switch server verification"),
        ("CELERY_BROKER_URL", "rediss://redis/0?ssl_cert_reqs=CERT_NONE", "must not switch server verification"),
        ("CELERY_BROKER_URL", "amqps://rabbit//?ssl_cert_reqs=CERT_OPTIONAL", "must not switch server verification"),
        ("B24_DATABASE_URL", "postgresql://db/b24?sslmode=require", "the sslmode verify-full"),
        ("B24_DATABASE_URL", "postgresql://db/b24?sslmode=prefer", "the sslmode verify-full"),
        ("B24_ACK_RATE_SHARE", "1", "less than 1"),
        ("B24OFFLINE_TEST_TIME_SCALE", "0", "greater than 0"),
        ("B24OFFLINE_TEST_TIME_SCALE", "1.5", "less than or equal to 1"),
        ("B24_REDIS_KEY_PREFIX", "a:b", "match pattern"),
        ("B24_UNROUTED", "drop", "'ack' or 'nack'"),
        ("B24_RABBITMQ_QUEUES", "stream", "'quorum' or 'classic'"),
        ("B24_TICK_SECONDS", "nan", "finite number"),
    ],
)
def test_a_wrong_value_is_explained_with_an_example(name: str, value: str, words: str) -> None:
    text = refused({name: value})
    assert text.startswith(name)
    assert words in text
    assert ", e.g. " in text
    assert "\n" not in text


def test_all_wrong_values_are_reported_at_once() -> None:
    text = refused({"B24_BATCH_SIZE": "0", "B24_BURST": "0", "B24_ORDER": "x"})
    assert sorted(line.split()[0] for line in text.splitlines()) == ["B24_BATCH_SIZE", "B24_BURST", "B24_ORDER"]


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (
            {"B24_PORTAL_URL": PORTAL["B24_PORTAL_URL"]},
            ["B24_CLIENT_ID is required", "B24_CLIENT_SECRET (or"],
        ),
        ({**PORTAL, "B24_PORTAL_URL": "http://[::1]:80/rest/"}, ["B24_PORTAL_NAME is required"]),
        ({"B24_DATABASE_URL": "postgresql://db/b24"}, ["B24_SECRET_KEY (or"]),
        ({"B24_POLL_INTERVAL_MIN_SECONDS": "40"}, ["must not exceed B24_POLL_INTERVAL_MAX_SECONDS"]),
        ({"B24_CONNECT_TIMEOUT_SECONDS": "6"}, ["must not exceed 70 s together"]),
        ({**PORTAL, "B24_PORTAL_URL": "http://127.0.0.1/rest/"}, ["B24_PORTAL_URL is plain http", "B24_LOOPBACK_HTTP"]),
        ({"B24_AUTH_URL": "http://localhost/oauth/token/"}, ["B24_AUTH_URL is plain http", "B24_LOOPBACK_HTTP"]),
        ({"B24_AUTH_URL": "https://elsewhere.example/oauth/"}, ["B24_AUTH_URL is on a host", "B24_AUTH_HOSTS"]),
    ],
)
def test_settings_that_do_not_fit_together(environ: dict[str, str], words: list[str]) -> None:
    text = refused(environ)
    assert all(word in text for word in words)


def test_plain_http_is_for_this_machine_when_it_is_asked_for() -> None:
    for host in ("127.0.0.1:8080", "localhost", "[::1]:9000"):
        environ = {**PORTAL, "B24_PORTAL_URL": f"http://{host}/portals/a/rest/", "B24_PORTAL_NAME": "acme"}
        environ |= {"B24_LOOPBACK_HTTP": "true", "B24_AUTH_URL": f"http://{host}/oauth/token/"}
        assert Config.load(environ).portal_url == f"http://{host}/portals/a/rest/"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("B24_BATCHSIZE", "B24_BATCH_SIZE"),
        ("B24_POLL_INTERVAL_SECONDS", "B24_POLL_INTERVAL_M"),
        ("B24_BROKER_URL", "_URL"),
        ("B24_CLIENT_ID_FILE", "B24_CLIENT_"),
    ],
)
def test_an_unknown_variable_stops_the_start(name: str, nearest: str) -> None:
    text = refused({name: CANARY})
    assert text.startswith(f"{name} is not a setting; the nearest is ")
    assert nearest in text
    assert CANARY not in text


def test_foreign_variables_are_ignored() -> None:
    Config.load({"PATH": "/bin", "CELERY_RESULT_BACKEND": "x", "DATABASE_URL": "y"})


def test_secrets_come_from_files(tmp_path: Path) -> None:
    key = Fernet.generate_key().decode()
    contents = {
        "B24_SECRET_KEY": key,
        "B24_CLIENT_SECRET": CANARY,
        "B24_REFRESH_TOKEN": "refresh-1",
        "B24_DATABASE_URL": "postgresql://user:pw@db/b24",
        "B24_REDIS_URL": "redis://:pw@cache/1",
        "CELERY_BROKER_URL": "amqp://user:pw@rabbit//",
    }
    environ = {name: value for name, value in PORTAL.items() if name not in contents}
    for name, value in contents.items():
        (tmp_path / name).write_text(f"{value}\n")
        environ[f"{name}_FILE"] = str(tmp_path / name)
    config = Config.load(environ)
    assert config.secret_keys == (key,)
    assert config.client_secret is not None
    assert config.client_secret.get_secret_value() == CANARY
    assert config.redis_url == "redis://:pw@cache/1"
    assert config.broker_url == "amqp://user:pw@rabbit//"

    (tmp_path / "empty").write_text("\n")
    assert "cannot be read" in refused({"B24_REFRESH_TOKEN_FILE": str(tmp_path / "missing")})
    assert "is empty" in refused({"B24_REFRESH_TOKEN_FILE": str(tmp_path / "empty")})
    both = {"B24_REFRESH_TOKEN": "a", "B24_REFRESH_TOKEN_FILE": str(tmp_path / "B24_REFRESH_TOKEN")}
    assert "both set" in refused(both)


def test_no_secret_is_shown() -> None:
    key = Fernet.generate_key().decode()
    environ = {
        **PORTAL,
        "B24_REFRESH_TOKEN": f"r-{CANARY}",
        "B24_SECRET_KEY": key,
        "B24_REDIS_URL": f"redis://:{CANARY}@cache/1",
        "CELERY_BROKER_URL": f"amqp://u:{CANARY}@rabbit//",
        "B24_DATABASE_URL": f"postgresql://u:{CANARY}@db/b24?password={CANARY}",
    }
    config = Config.load(environ)
    shown = f"{config!r} {config}"
    assert CANARY not in shown
    assert key not in shown
    assert "redis://***@cache/1" in shown
    for name in environ.keys() - {"B24_PORTAL_URL", "B24_CLIENT_ID"}:
        text = refused({**environ, name: f"{CANARY} wrong"})
        assert text.startswith(name)
        assert CANARY not in text


@given(st.text(alphabet="abc:/@?#%", max_size=12), st.text(alphabet="abc:/?#%", max_size=8))
def test_a_password_never_survives_masking(password: str, rest: str) -> None:
    assert "SECRET" not in masked_url(f"redis://user:{password}SECRET@host/{rest}")
    assert "SECRET" not in masked_url(f"postgresql://host/{rest}?password=SECRET")


NEEDS_MORE = {"portal_url", "database_url", "ca_file", "service_ca_file", "issue_webhook_url"}
"""Fields whose examples need another setting, or a file."""


def test_every_variable_is_documented_and_its_example_is_right(tmp_path: Path) -> None:
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    for variable in variables(Config):
        assert variable.description.endswith(".")
        words = variable.example.startswith("the ")
        if (
            variable.example
            and not words
            and variable.field not in {"portal_url", "database_url", "ca_file", "service_ca_file", "issue_webhook_url"}
        ):
            Config.load({variable.name: variable.example})


@given(st.floats(min_value=1e-4, max_value=1.0))
def test_timers_keep_their_order_at_every_scale(scale: float) -> None:
    timers = Config(time_scale=scale).timers
    assert timers.read_timeout_seconds < timers.poll_lease_seconds
    assert timers.poll_lease_seconds <= timers.nack_age_seconds < timers.in_doubt_seconds
    assert timers.in_doubt_seconds < timers.redrive_backoff_seconds[0], (
        "what was nacked is not redriven while it is in doubt"
    )
    replaced = timers.recovery_seconds - timers.poll_lease_seconds
    assert replaced > 11 * scale, "a server that was replaced writes for 11 s, with min-replicas-max-lag 10"
    assert timers.all_in_doubt_seconds - timers.in_doubt_seconds == pytest.approx(replaced)
    assert timers.lease_seconds < timers.run_queue_seconds
    whole = Timers()
    for item in dataclasses.fields(Timers):
        value, full = getattr(timers, item.name), getattr(whole, item.name)
        if isinstance(full, tuple):
            assert value == pytest.approx(tuple(part * scale for part in full))
        else:
            assert value == pytest.approx(full * scale)


def test_the_in_doubt_window_outlives_connect_and_execution() -> None:
    longest = Config.load({"B24_CONNECT_TIMEOUT_SECONDS": "15", "B24_READ_TIMEOUT_SECONDS": "55"})
    assert longest.timers.in_doubt_seconds > longest.connect_timeout_seconds + 180
    assert longest.timers.poll_lease_seconds > longest.connect_timeout_seconds + longest.read_timeout_seconds
    refused({"B24_CONNECT_TIMEOUT_SECONDS": "15.1", "B24_READ_TIMEOUT_SECONDS": "50"})


def test_timers_of_an_ordinary_deployment() -> None:
    timers = Config(lease_seconds=90, sweep_seconds=20).timers
    assert (timers.lease_seconds, timers.sweep_seconds, timers.read_timeout_seconds) == (90, 20, 65)
    assert (timers.in_doubt_seconds, timers.nack_age_seconds) == (200, 75)
    assert timers.step_backoff_seconds == (2, 8, 30, 60)
    assert timers.redrive_backoff_seconds == (300, 900, 2700, 7200, 21_600, 86_400)
    with pytest.raises(ValueError, match="time scale"):
        Timers().scaled(0)


@pytest.mark.parametrize(
    ("broker", "asked", "quorum"),
    [
        (RABBIT, None, True),
        (RABBIT.replace("amqp:", "amqps:"), "quorum", True),
        (RABBIT.replace("amqp:", "pyamqp:"), "quorum", True),
        (RABBIT, "classic", False),
        ("redis://127.0.0.1:6379/0", None, False),
        ("rediss://cache:6379/0", "quorum", False),
    ],
)
def test_queues_are_quorum_queues_where_the_broker_has_them(broker: str, asked: str | None, quorum: bool) -> None:
    environ = {"CELERY_BROKER_URL": broker, **({"B24_RABBITMQ_QUEUES": asked} if asked else {})}
    assert Config.load(environ).quorum_queues is quorum


def test_the_timers_are_made_once_for_the_same_values() -> None:
    one = Config.load({"B24_LEASE_SECONDS": "100"})
    assert one.timers is Config.load({"B24_LEASE_SECONDS": "100"}).timers
    assert one.timers.lease_seconds == 100
    assert Config.load({"B24_LEASE_SECONDS": "120"}).timers.lease_seconds == 120
