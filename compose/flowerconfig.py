"""Flower's logins, from a file of ``name:password`` lines. Everything else is set by FLOWER_* variables."""

import os
from pathlib import Path

from flower.views.monitor import Metrics
from tornado.web import authenticated

# Flower's own asks for no login, whatever else does.
Metrics.get = authenticated(Metrics.get)

_logins = Path(os.environ.get("FLOWER_LOGINS_FILE", "/run/secrets/flower_logins"))

basic_auth = [line.strip() for line in _logins.read_text("utf-8").splitlines() if line.strip()]

if not basic_auth or not all(":" in login.strip(":") for login in basic_auth):
    # Without a login Flower would serve everybody.
    raise SystemExit(f"Flower cannot start: {_logins} must hold at least one line name:password.")
