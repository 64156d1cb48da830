"""The settings of the portal's push signals: `Config` has them too, behind its own."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from b24offline.config import validators as values


class PushSettings(BaseModel):
    """Where portals send their signals, and what is polled while they do."""

    push_url: Annotated[str, AfterValidator(values.push_url)] | None = Field(
        default=None,
        description=(
            "Address, https, under which portals reach `b24offline push`. Unset: portals are polled only. "
            "See docs/push.md."
        ),
    )
    push_listen: Annotated[str, AfterValidator(values.listen_address)] = Field(
        default="127.0.0.1:8625",
        description="Address and port at which `b24offline push` listens, behind a proxy that has the certificate.",
    )
    push_min_timeout_seconds: Annotated[int, Field(ge=0, le=3_600)] = Field(
        default=1, description="Seconds (minTimeout) that a portal waits at least between two signals."
    )
    push_idle_seconds: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=300.0,
        description=(
            "Seconds between polls of a portal whose queue stays empty and whose signals are heard. Where one was "
            "missed, B24_POLL_INTERVAL_MAX_SECONDS holds until the next is heard."
        ),
    )
