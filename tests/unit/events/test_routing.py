"""Routes: which pipelines an event has, and what is refused."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from b24offline.errors import ConfigError
from b24offline.events import RetryRules, Routes, routing

if TYPE_CHECKING:
    from b24offline.events import Event


def pipeline(event: Event) -> object:
    return event


def routes_of(**named: tuple[str, ...]) -> Routes:
    routes = Routes()
    for name, events in named.items():
        routes.add(pipeline, events, name)
    return routes


def test_pipelines_of_an_event_are_in_order_of_registration() -> None:
    routes = routes_of(one=("ONA", "ONB"), two=("ONB",))
    assert routes.pipelines_for("ONB") == ("one", "two")
    assert routes.pipelines_for("ONA") == ("one",)
    assert routes.pipelines_for("ONC") == ()
    assert routes.event_names == ("ONA", "ONB")
    assert routes.pipeline("one") is pipeline
    assert routes.pipeline("three") is None


def test_names_of_events_are_read_in_any_case() -> None:
    assert routes_of(one=(" onCrmDealAdd ",)).pipelines_for("ONCRMDEALADD") == ("one",)


def test_the_route_of_one_smart_process_replaces_that_of_all() -> None:
    routes = routes_of(all=("ONCRMDYNAMICITEMADD",), own=("ONCRMDYNAMICITEMADD_147",))
    assert routes.pipelines_for("ONCRMDYNAMICITEMADD_147") == ("own",)
    assert routes.pipelines_for("ONCRMDYNAMICITEMADD_1047") == ("all",)
    assert routes.pipelines_for("ONCRMDYNAMICITEMADD") == ("all",)
    assert routes.pipelines_for("ONCRMDYNAMICITEMADD_0") == ()
    assert routes.pipelines_for("ONCRMDYNAMICITEMADD_X") == ()


@pytest.mark.parametrize(
    ("events", "name", "why"),
    [
        (("ONA",), "taken", r"two pipelines are called 'taken', in \S+test_routing and \S+test_routing: "),
        ((), "new", "no event"),
        (("ONA", " "), "new", "no event"),
        (("ONA", "ona"), "new", "twice"),
        (("ONA",), "", "must be 1 to 64"),
        (("ONA",), "a,b", "must be 1 to 64"),
        (("ONA",), "a|b", "must be 1 to 64"),
        (("ONA",), "a/b", "must be 1 to 64"),
        (("ONA",), "1a", "must be 1 to 64"),
        (("ONA",), "a\n", "must be 1 to 64"),
        (("ONA",), "a" * 65, "must be 1 to 64"),
    ],
)
def test_a_wrong_registration_is_refused_and_changes_nothing(events: tuple[str, ...], name: str, why: str) -> None:
    routes = routes_of(taken=("ONB",))
    with pytest.raises(ConfigError, match=why):
        routes.add(pipeline, events, name)
    assert routes.event_names == ("ONB",)


def test_the_decorator_registers_under_the_name_of_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Routes()
    monkeypatch.setattr(routing, "routes", fresh)

    @routing.route("ONCRMDEALADD", "ONCRMDEALUPDATE")
    def deal_changed(event: Event) -> str:
        return f"chain of {event}"

    @routing.route("ONCRMDEALADD", name="other")
    def second(event: Event) -> Event:
        return event

    assert fresh.pipelines_for("ONCRMDEALADD") == ("deal_changed", "other")
    assert fresh.pipeline("deal_changed") is deal_changed
    assert fresh.pipeline("second") is None


def test_a_callable_without_a_name_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "routes", Routes())
    with pytest.raises(ConfigError):
        routing.route("ONA")(functools.partial(pipeline))
    routing.route("ONA", name="named")(functools.partial(pipeline))


def test_a_pipeline_may_have_rules_for_its_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Routes()
    monkeypatch.setattr(routing, "routes", fresh)
    routing.route("ONA", name="own", attempts=3, backoff=(1, 90), final=KeyError)(pipeline)
    routing.route("ONA", name="usual")(pipeline)
    assert fresh.retry_rules("own") == RetryRules(3, (1.0, 90.0), (KeyError,))
    assert fresh.retry_rules("usual") == fresh.retry_rules("never loaded") == RetryRules()


def test_wrong_rules_are_refused_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Routes()
    monkeypatch.setattr(routing, "routes", fresh)
    with pytest.raises(ConfigError, match="pipeline 'own': attempts"):
        routing.route("ONA", name="own", attempts=0)(pipeline)
    assert fresh.event_names == ()


def test_what_a_pipeline_mirrors_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "routes", routes := Routes())
    routing.route("ONCRMDEALADD", "ONCRMDEALUPDATE", name="deals", mirrors="crm_deal")(pipeline)
    routing.route("ONCRMLEADUPDATE", "ONTASKUPDATE", name="both", mirrors=("crm_lead", "task"))(pipeline)
    routing.route("ONCRMDEALUPDATE", name="none")(pipeline)
    assert routes.mirrored_entities == {"crm_deal", "crm_lead", "task"}
    assert routes.mirrors("ONCRMDEALUPDATE", "crm_deal")
    assert not routes.mirrors("ONCRMDEALUPDATE", "crm_lead")
    assert not routes.mirrors("ONCRMDEALDELETE", "crm_deal")


@pytest.mark.parametrize(
    ("mirrors", "why"),
    [
        ("crm_deel", "'crm_deel', which cannot be compared"),
        ("crm_quote", "'crm_quote', which cannot be compared"),
        (("crm_deal", "crm_lead"), "mirrors crm_lead, and none of its events"),
    ],
)
def test_an_entity_that_cannot_be_compared_is_refused(
    monkeypatch: pytest.MonkeyPatch, mirrors: str | tuple[str, ...], why: str
) -> None:
    monkeypatch.setattr(routing, "routes", routes := Routes())
    with pytest.raises(ConfigError, match=why):
        routing.route("ONCRMDEALUPDATE", "ONCRMQUOTEUPDATE", name="deals", mirrors=mirrors)(pipeline)
    assert routes.event_names == ()
