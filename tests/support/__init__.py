"""What tests share: deployments, brokers, portals and builders. Fixtures of them are in `tests/conftest.py`."""
