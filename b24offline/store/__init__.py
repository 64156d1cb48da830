"""What must not be lost: portals, tokens and dead letters in SQL, and the mirror beside them."""

from b24offline.store.cipher import Cipher, load_or_create_key
from b24offline.store.dead_letters import DeadLetter, DeadLetters, Selection
from b24offline.store.installations import Installation, Installations
from b24offline.store.mirror import Mirror, MirrorRow, Reading
from b24offline.store.portals import Portals
from b24offline.store.schema import PORTALS
from b24offline.store.store import Store
from b24offline.store.tokens import TokenPairs

__all__ = [
    "PORTALS",
    "Cipher",
    "DeadLetter",
    "DeadLetters",
    "Installation",
    "Installations",
    "Mirror",
    "MirrorRow",
    "Portals",
    "Reading",
    "Selection",
    "Store",
    "TokenPairs",
    "load_or_create_key",
]
