"""Brings the offline events of Bitrix24 portals into Celery, without losing one.

The package holds everything that needs no Celery: the portal's client, the guarded queue client, the ledger, the
settlement, the store and the emulator. Public are the modules' documented names; there is nothing to import from here.
"""
