"""Which addresses that an authorization server names are called."""

from __future__ import annotations

import pytest

from b24offline.config import Config, named_endpoint

PLAIN = Config.load({})
LOOPBACK = Config.load({"B24_LOOPBACK_HTTP": "true"})


@pytest.mark.parametrize("address", ["https://acme.bitrix24.com/rest/", "https://crm.acme.example:8443/rest"])
def test_portals_of_the_internet_are_called(address: str) -> None:
    assert named_endpoint(PLAIN, address) == address.rstrip("/") + "/"


def test_the_emulator_is_called_where_that_is_asked_for() -> None:
    assert named_endpoint(LOOPBACK, "http://127.0.0.1:8080/rest/") == "http://127.0.0.1:8080/rest/"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://acme.bitrix24.com/rest/",
        "http://127.0.0.1:8080/rest/",
        "https://127.0.0.1/rest/",
        "https://10.0.0.7/rest/",
        "https://[::1]/rest/",
        "https://169.254.169.254/rest/",
        "https://localhost/rest/",
        "https://intranet/rest/",
        "https://intranet./rest/",
        "https://user:word@acme.bitrix24.com/rest/",
        "https://acme.bitrix24.com/rest/1/code/",
        "https://acme.bitrix24.com/",
        "ftp://acme.bitrix24.com/rest/",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        named_endpoint(PLAIN, address)


@pytest.mark.parametrize("address", ["https://127.0.0.1/rest/", "http://10.0.0.7/rest/", "https://intranet/rest/"])
def test_asking_for_the_emulator_opens_nothing_else(address: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        named_endpoint(LOOPBACK, address)
