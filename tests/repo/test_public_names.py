"""What the package offers: sorted names, no Celery where none is needed, one version."""

from __future__ import annotations

from importlib import metadata

import pytest

import b24offline
from b24offline import pipeline
from b24offline.rest.transport import USER_AGENT


@pytest.mark.parametrize("module", [b24offline, pipeline])
def test_public_names_are_sorted_and_there(module: object) -> None:
    names = module.__all__
    assert names == sorted(names)
    assert all(getattr(module, name) for name in names)


def test_the_version_is_the_installed_one() -> None:
    assert b24offline.__version__ == metadata.version("b24offline")
    assert f"b24offline/{b24offline.__version__}" == USER_AGENT


def test_a_handoff_names_task_queue_and_arguments() -> None:
    made = pipeline.handoff("shop.announce", 7, queue="shop", urgent=True)
    assert (made.task, made.args, made.kwargs) == ("shop.announce", (7,), {"urgent": True})
    assert made.options == {"queue": "shop"}
