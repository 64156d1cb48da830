"""This product with bulk pipelines: steps that do nothing, and the shipped mirror."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from benchmarks.contestant import contestant
from benchmarks.contestants.ours import PORTAL, Ours
from tests.support.store_bench import KEY, POSTGRES, postgres_database


@contestant
class BulkOf50(Ours):
    """Both steps for 50 events in one message."""

    name = "bulk-50"
    title = "b24offline: bulk of 50, two steps"
    pipeline = "bulk-50"


@contestant
class BulkOf200(Ours):
    """Both steps for 200 events in one message."""

    name = "bulk-200"
    title = "b24offline: bulk of 200, two steps"
    pipeline = "bulk-200"


class _Mirror(Ours):
    """The shipped pipeline of deals: every object is read, and an event is a row that is written."""

    pipeline = "mirror"
    _most_objects = 0

    def settings(self, started: ExitStack) -> Mapping[str, str]:
        del started
        return {"B24_PIPELINES": "b24offline.pipelines.crm"}

    def feed(self, count: int) -> None:
        # They are different objects, and the same ones the next time.
        self._most_objects = max(self._most_objects, count)
        super().feed(count)

    def finished(self, handled: int) -> bool:
        del handled
        return self.acknowledged() and self.runtime.mirror.count(PORTAL) >= self._most_objects


@contestant
class MirrorOnSqlite(_Mirror):
    """In a file, as without further settings."""

    name = "mirror-sqlite"
    title = "b24offline: shipped mirror, bulk of 50, SQLite; rows/s"


@contestant
class MirrorOnPostgres(_Mirror):
    """In a database of its own."""

    name = "mirror-postgresql"
    title = "b24offline: shipped mirror, bulk of 50, PostgreSQL; rows/s"

    @classmethod
    def missing(cls) -> str:
        try:
            with create_engine(POSTGRES, connect_args={"connect_timeout": 3}).connect():
                return ""
        except OperationalError:
            return "PostgreSQL is not reachable; set B24_TEST_DATABASE_URL"

    def settings(self, started: ExitStack) -> Mapping[str, str]:
        address = started.enter_context(postgres_database())
        return {**super().settings(started), "B24_DATABASE_URL": address, "B24_SECRET_KEY": KEY}
