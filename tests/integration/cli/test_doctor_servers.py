"""`b24offline doctor` on the servers of a larger deployment: Sentinels, TLS, RabbitMQ; and when they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from b24offline.supervisor import EmbeddedValkey
from tests.support.newcomer import Patient, patient
from tests.support.rabbit import RabbitNode
from tests.support.sentinels import Watched
from tests.support.tls import ADDRESS, Certificate, TlsServer, certificate

__all__ = ["patient"]

UNTRUSTED = "shows a certificate that is not trusted. | Set B24_SERVICE_CA_FILE to the CA of that server."
REFUSED = "refuses the name or the password. | Correct them in"
NO_PRIMARY = "has no primary server of that name. | Correct B24_REDIS_PRIMARY"


def states(found: dict[str, str], *names: str) -> list[str]:
    return [found[name].partition(" ")[0] for name in names]


def expect_failures(patient: Patient, sentence: str, *names: str, **variables: str) -> None:
    code, found = patient.checks(**variables)
    assert code == 1
    for name in names:
        assert found[name].startswith("failed"), found[name]
        assert sentence in found[name]


def test_sentinels_lead_to_ledger_and_broker(patient: Patient, tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "primary") as primary, Watched(tmp_path, primary) as watched:
        _, found = patient.checks(**watched.variables)
        assert states(found, "ledger", "broker") == ["ok"] * 2, found
        assert found["ledger role"] == "ok | It is the primary server, with 1 replica. | "
        wrong = {**watched.variables, "B24_REDIS_PRIMARY": "another"}
        expect_failures(patient, NO_PRIMARY, "ledger", "broker", **wrong)


def through(server: TlsServer, authority: Certificate) -> dict[str, str]:
    """Return the settings of a ledger and a broker behind TLS."""
    return {"B24_REDIS_URL": f"rediss://{ADDRESS}:{server.port}/0", "B24_SERVICE_CA_FILE": authority.pem}


def test_a_server_of_an_own_authority_is_used(patient: Patient, tmp_path: Path, valkey: EmbeddedValkey) -> None:
    right = certificate(tmp_path / "right")
    with TlsServer(right, valkey.port) as server:
        _, found = patient.checks(**through(server, right))
    assert states(found, "ledger", "broker", "links") == ["ok"] * 3, found


def test_a_stranger_in_the_place_of_a_server_is_named(patient: Patient, tmp_path: Path, valkey: EmbeddedValkey) -> None:
    right, stranger = certificate(tmp_path / "right"), certificate(tmp_path / "stranger")
    with TlsServer(stranger, valkey.port) as server:
        expect_failures(patient, UNTRUSTED, "ledger", "broker", **through(server, right))
        assert server.said == 0


def test_a_wrong_password_is_named(patient: Patient, valkey: EmbeddedValkey) -> None:
    nobody = f"redis://nobody:x@127.0.0.1:{valkey.port}/0"
    expect_failures(patient, f"{REFUSED} B24_REDIS_URL", "ledger", B24_REDIS_URL=nobody)
    expect_failures(patient, f"{REFUSED} CELERY_BROKER_URL", "broker", CELERY_BROKER_URL=nobody)


def test_rabbitmq_is_asked_for_queues_and_readers(patient: Patient, valkey: EmbeddedValkey, rabbit: RabbitNode) -> None:
    code, found = patient.checks(B24_REDIS_URL=valkey.url, CELERY_BROKER_URL=rabbit.url)
    assert (code, states(found, "ledger", "broker")) == (1, ["ok", "ok"])
    assert re.match(r"failed \| No worker reads it; \d+ messages? in it\.", found["queue b24offline.poll"])
    stranger = rabbit.url.replace("guest:guest", "guest:wrong")
    refused = {"B24_REDIS_URL": valkey.url, "CELERY_BROKER_URL": stranger}
    expect_failures(patient, f"{REFUSED} CELERY_BROKER_URL", "broker", **refused)


@pytest.mark.parametrize("broker", ["amqp://guest:pa55@127.0.0.1:1//", "redis://:pa55@127.0.0.1:1/0"])
def test_a_broker_that_is_away_is_named(patient: Patient, valkey: EmbeddedValkey, broker: str) -> None:
    code, found = patient.checks(B24_REDIS_URL=valkey.url, CELERY_BROKER_URL=broker)
    assert (code, states(found, "ledger", "broker")) == (1, ["ok", "failed"])
    assert "refused. | Start the broker, or correct CELERY_BROKER_URL." in found["broker"]
    assert "pa55" not in str(found)
