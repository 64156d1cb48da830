"""Courses: processes that a test lets go on from one stop to the next, or lets die there.

Each is a thread, but only one of them or the test itself runs at a time, so everything happens in one order. A course
stops before each script of the ledger and wherever it waits for an answer of the portal. Time is the test's.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER_TIME = "redis.call('TIME')"
TIME_KEY = "virtual-time"
"""A hash whose fields stand for the two values of the server's TIME."""
_TTL = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left > 0 and left <= tonumber(ARGV[1]) then redis.call('DEL', key) end
  if left > tonumber(ARGV[1]) then redis.call('PEXPIRE', key, left - tonumber(ARGV[1])) end
end
"""


class Killed(BaseException):
    """The process is dead: whatever it still tries to do has no effect."""


class Course(threading.Thread):
    """One process that does one thing. ``waits_for`` is the call whose answer it waits for, if it does."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        super().__init__(name=name, daemon=True)
        self.waits_for: Any = None
        self.over = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._killed = False
        self._told: Any = None
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self.start()

    @staticmethod
    def current() -> Course | None:
        """Return the course that runs now; None for the test itself."""
        runtime = threading.current_thread()
        return runtime if isinstance(runtime, Course) else None

    def run(self) -> None:
        self._go.acquire()
        try:
            if not self._killed:
                self.result = self._work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - judged by the test, in its own thread
            self.error = error
        self.over = True
        self._back.release()

    def stop(self, waits_for: Any = None) -> Any:
        """Called by the course itself: stops, and answers what it is told when it goes on."""
        if self._killed:
            raise Killed
        self.waits_for = waits_for
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Killed
        self.waits_for = None
        return self._told

    def go_on(self, reply: Any = None) -> None:
        """Called by the test: lets it run to its next stop, or to its end."""
        self._told = reply
        self._go.release()
        self._back.acquire()

    def kill(self) -> None:
        """Called by the test: it dies where it stands."""
        if not self.over:
            self._killed = True
            self.go_on()
            self.join()


class TimedRedis(Redis):
    """A client whose server has the time that the test says; a course stops before each script."""

    now: float

    def begin(self, now: float) -> None:
        """Set the time, in epoch seconds."""
        self.now = now
        self._tell()

    def advance(self, seconds: float) -> None:
        """Time passes: what has a time to live lives so much shorter."""
        self.now = round(self.now + seconds, 3)
        self.eval(_TTL, 0, round(seconds * 1000))
        self._tell()

    def _tell(self) -> None:
        seconds, micros = self.time()
        self.hset(TIME_KEY, mapping={"seconds": seconds, "micros": micros})

    def time(self, **_: Any) -> tuple[int, int]:
        """Return the server's time as the test says it is."""
        milliseconds = round(self.now * 1000)
        return milliseconds // 1000, milliseconds % 1000 * 1000

    def register_script(self, script: Any) -> Any:
        """As always, with the test's time in the place of the server's, and known to the server from now on."""
        assert (SERVER_TIME in script) == ("'TIME'" in script), "the time is asked for in another way"
        text = script.replace(SERVER_TIME, f"redis.call('HMGET', '{TIME_KEY}', 'seconds', 'micros')")
        self.script_load(text)  # else the first call of all would be two, and no history would come twice
        return super().register_script(text)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        course = Course.current()
        if course is not None and args[0] == "EVALSHA":
            course.stop()
        return super().execute_command(*args, **options)
