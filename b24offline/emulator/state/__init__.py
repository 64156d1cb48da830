"""What a portal is: queue, objects, subscriptions, tokens, limits and clock, without HTTP."""

from b24offline.emulator.state.clock import Clock, iso, parse_moment
from b24offline.emulator.state.event_names import OFFLINE_EVENTS, ONLINE_EVENTS, item_type_of
from b24offline.emulator.state.journal import Journal, Sequence
from b24offline.emulator.state.objects import StoredObject
from b24offline.emulator.state.portal import ACTIONS, ADD, DELETE, UPDATE, Account, Address, Licence, Portal
from b24offline.emulator.state.queue import OfflineQueue
from b24offline.emulator.state.record import FREE, Record
from b24offline.emulator.state.selection import FIELD_VALUES, Condition, Selection
from b24offline.emulator.state.spelling import camel
from b24offline.emulator.state.subscriptions import Binding
from b24offline.emulator.state.templates import CLASSIC, ENTITIES, ITEM_TYPES, TEMPLATES
from b24offline.emulator.state.tokens import TokenPair
from b24offline.emulator.state.traffic import TrafficPlan, change_one, parse_traffic

__all__ = [
    "ACTIONS",
    "ADD",
    "CLASSIC",
    "DELETE",
    "ENTITIES",
    "FIELD_VALUES",
    "FREE",
    "ITEM_TYPES",
    "OFFLINE_EVENTS",
    "ONLINE_EVENTS",
    "TEMPLATES",
    "UPDATE",
    "Account",
    "Address",
    "Binding",
    "Clock",
    "Condition",
    "Journal",
    "Licence",
    "OfflineQueue",
    "Portal",
    "Record",
    "Selection",
    "Sequence",
    "StoredObject",
    "TokenPair",
    "TrafficPlan",
    "camel",
    "change_one",
    "iso",
    "item_type_of",
    "parse_moment",
    "parse_traffic",
]
