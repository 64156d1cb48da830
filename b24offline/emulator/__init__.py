"""A Bitrix24 portal to develop and test against: pure state behind plain HTTP, steered through a control API.

Run it with `python -m b24offline.emulator`. It imports nothing else of this package, so that a misreading of
the portal's rules cannot be made twice in the same words.
"""
