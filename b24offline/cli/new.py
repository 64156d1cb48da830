"""`b24offline new`: a folder to begin with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from b24offline.cli.output import Refusal

PIPELINES: Final = '''\
"""What happens when a deal changes."""

from b24offline.pipeline import current, fetch, load, route, step


@step
def work(reference):
    """Your code. It runs at least once for each change: give the idempotency key to whatever you write to."""
    deal = load(reference).data
    if deal is None:
        print(current().event.object, "is gone")
    else:
        print(current().event.object, "is in stage", deal["STAGE_ID"], "key", current().idempotency_key)
    return reference


@route("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE")
def deal_changed(event):
    """Read the deal as it is now, then work on it."""
    return fetch.s() | work.s()
'''
TEST: Final = """\
import pipelines  # noqa: F401 - its routes
from b24offline.testing import run_pipeline


def test_a_changed_deal_is_worked_on(capsys):
    ran = run_pipeline("ONCRMDEALUPDATE 5", objects={"crm_deal 5": {"STAGE_ID": "WON"}})
    assert ran.outcome == "succeeded", ran.error
    assert "crm_deal 5 is in stage WON" in capsys.readouterr().out


def test_a_deleted_deal_is_gone(capsys):
    assert run_pipeline("ONCRMDEALDELETE 5").outcome == "succeeded"
    assert "crm_deal 5 is gone" in capsys.readouterr().out
"""
INI: Final = "[pytest]\nb24_pipelines = pipelines\n"
ENV: Final = """\
# For commands and workers on this machine: . ./.env
# All settings: docs/settings.md of b24offline. The portal and its tokens are stored by b24offline auth.
export B24_PIPELINES=pipelines
export B24_DATA_DIR=./data
"""
COMPOSE: Final = """\
# docker compose run --rm worker b24offline auth acme.bitrix24.com && docker compose up -d
x-app: &app
  image: ${B24OFFLINE_IMAGE:-b24offline:local}
  init: true
  restart: unless-stopped
  stop_grace_period: 30s
  env_file: [.env]
  environment:
    B24_REDIS_URL: redis://valkey:6379/0
    B24_DATA_DIR: /var/lib/b24offline
    PYTHONPATH: /pipelines
  volumes: [".:/pipelines:ro", "data:/var/lib/b24offline"]
  depends_on:
    valkey: {condition: service_healthy}

services:
  worker:
    <<: *app
    command: [celery, -A, b24offline, worker]

  beat:
    <<: *app
    command: [celery, -A, b24offline, beat, --pidfile=]

  valkey:
    image: valkey/valkey:9
    # No port is published: only these containers reach it.
    command: [valkey-server, --protected-mode, "no", --appendonly, "yes", --maxmemory-policy, noeviction]
    restart: unless-stopped
    volumes: ["valkey:/data"]
    healthcheck:
      test: [CMD, valkey-cli, ping]
      interval: 5s

volumes:
  data:
  valkey:
"""
README: Final = """\
# {name}

- Your code is in `pipelines.py`; `python -m pytest` tests it, without a portal.
- On this machine: `. ./.env`, `b24offline auth acme.bitrix24.com`, then `b24offline up`.
- In containers, with the image of b24offline: run the command in the first line of `compose.yaml`.
- The state of the portal: `b24offline status`. Failed events: `b24offline nacked`.
"""
FILES: Final = {
    "pipelines.py": PIPELINES,
    "test_pipelines.py": TEST,
    "pytest.ini": INI,
    ".env": ENV,
    ".gitignore": ".env\ndata/\n__pycache__/\n",
    "compose.yaml": COMPOSE,
    "README.md": README,
}


@click.command()
@click.argument("name")
def new(name: str) -> None:
    """Create the folder NAME with a pipeline, its test and all that is needed to run it.

    Its README lists the next steps.
    """
    folder = Path(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", folder.name):
        raise Refusal(
            f"{name!r} is not a name for a folder: use letters, digits, '-', '_' and '.'. Nothing was created."
        )
    try:
        folder.mkdir()
        for file, text in FILES.items():
            (folder / file).touch(mode=0o600 if file == ".env" else 0o644)
            (folder / file).write_text(text.replace("{name}", folder.name), "utf-8")
    except FileExistsError:
        raise Refusal(f"{name} already exists. Choose another name. Nothing was created.") from None
    except OSError as error:
        raise click.ClickException(f"{name} cannot be created: {error.strerror}.") from None
    click.echo(f"Created {name}. Your code goes into pipelines.py. Next:\n  cd {name} && . ./.env")
    click.echo("  b24offline auth acme.bitrix24.com\n  b24offline up")
    click.echo("Its test: python -m pytest, after pip install 'b24offline[testing]'.")
