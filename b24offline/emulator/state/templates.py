"""What new objects look like: the fields of the six entities, and made-up contents."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.state.clock import iso

if TYPE_CHECKING:
    from random import Random

ENTITIES: Final = ("crm_lead", "crm_deal", "crm_contact", "crm_company", "crm_item", "task")
CLASSIC: Final = ENTITIES[:4]
ITEM_TYPES: Final[dict[int, tuple[str, int, str]]] = {
    1046: ("Delivery", 18, "ufCrm5"),
    1050: ("Service visit", 22, "ufCrm6"),
}
"""Smart processes: entity type id -> title, category id, prefix of user fields."""

_GIVEN: Final = ("Ingrid", "Jonas", "Elif", "Marta", "Paulo", "Aiko", "Zoë", "Омар", "Lena", "Tariq")
_FAMILY: Final = ("Halvorsen", "Berg", "Kaya", "Lind", "Sousa", "Mori", "Brandt", "Novak", "Iqbal", "O'Neil")
_FIRMS: Final = (
    "Fjordline Interiors",
    "Harbour & Sons",
    "Kaya Textil",
    "Lind GmbH",
    "Sousa Lda",
    "Северный порт",
)
_GOODS: Final = ("office chairs", "standing desks", "shelves", "desk lamps 💡", "acoustic panels", "lockers")
_SOURCES: Final = ("WEB", "CALL", "EMAIL", "PARTNER")

TEMPLATES: Final[dict[str, dict[str, Any]]] = json.loads(
    files("b24offline.emulator.state").joinpath("templates.json").read_text(encoding="utf-8")
)
"""Entity -> fields with their empty values, as its get method shows them; id and dates come on top."""


def made_up(entity: str, number: int, rng: Random, item_type: int) -> dict[str, Any]:
    """Return contents for a new object in the spelling of its entity: some of the template's fields."""
    goods, firm = rng.choice(_GOODS), rng.choice(_FIRMS)
    given, family = rng.choice(_GIVEN), rng.choice(_FAMILY)
    amount = rng.randrange(100, 90_000)
    if entity == "task":
        return {"title": f"Prepare {goods} for {firm}", "description": f"Call [B]{given} {family}[/B]"}
    if entity == "crm_item":
        title, category, prefix = ITEM_TYPES[item_type]
        return {
            "title": f"{title} {number}: {goods}",
            "categoryId": category,
            "opportunity": amount,
            "stageId": f"DT{item_type}_{category}:NEW",
            "opportunityAccount": amount,
            f"{prefix}_1720019876534": f"Dock {rng.choice('ABCDE')}",
            f"{prefix}_1720019900001": [],
        }
    if entity == "crm_deal":
        return {"TITLE": f"{amount % 90 + 1} {goods}", "OPPORTUNITY": f"{amount}.00", "CATEGORY_ID": "3"}
    contact = {
        "PHONE": [{"VALUE_TYPE": "WORK", "VALUE": f"+47210{number:05d}"}],
        "EMAIL": [{"VALUE_TYPE": "WORK", "VALUE": f"person{number}@customer.example"}],
    }
    person = {"NAME": given, "LAST_NAME": family, "SOURCE_ID": rng.choice(_SOURCES), **contact}
    if entity == "crm_contact":
        return person
    if entity == "crm_company":
        return {"TITLE": f"{firm} {number}", "PHONE": contact["PHONE"]}
    return {**person, "TITLE": f"Website form: {goods}", "COMPANY_TITLE": firm, "OPPORTUNITY": f"{amount}.00"}


def another_version(entity: str, revision: int, rng: Random) -> dict[str, Any]:
    """Return contents for a change of an object: two or three fields, one of which is new every time."""
    note = f"Revision {revision}: {rng.choice(_GOODS)}"
    if entity == "task":
        return {"description": note, "priority": rng.choice("012")}
    if entity == "crm_item":
        return {"sourceDescription": note, "opportunity": rng.randrange(100, 90_000)}
    if entity in ("crm_lead", "crm_deal"):
        return {"COMMENTS": note, "OPPORTUNITY": f"{rng.randrange(100, 90_000)}.00"}
    return {"COMMENTS": note, "ASSIGNED_BY_ID": rng.choice(("12", "15", "31"))}


def stamps(entity: str, now: float, *, new: bool) -> dict[str, Any]:
    """Return the dates that the portal sets itself when an object is added or changed."""
    moment = iso(now)
    if entity == "task":
        first = {"createdDate": moment, "statusChangedDate": moment} if new else {}
        return {**first, "changedDate": moment, "activityDate": moment}
    if entity == "crm_item":
        begin = moment[:10] + "T02:00:00" + moment[19:]
        first = {"createdTime": moment, "movedTime": moment, "begindate": begin, "closedate": begin} if new else {}
        return {**first, "updatedTime": moment, "lastActivityTime": moment}
    first = {"DATE_CREATE": moment} if new else {}
    if new and entity in ("crm_lead", "crm_deal"):
        first["MOVED_TIME"] = moment
    if new and entity == "crm_deal":
        first |= dict.fromkeys(("BEGINDATE", "CLOSEDATE"), moment[:10] + "T02:00:00" + moment[19:])
    return {**first, "DATE_MODIFY": moment, "LAST_ACTIVITY_TIME": moment}
