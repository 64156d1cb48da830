"""The one configuration of a deployment: frozen, typed, read from the environment once.

`Config.load()` reads `B24_*` and `CELERY_BROKER_URL`; nothing else in the package reads the environment, and no `.env`
file is read. The descriptions of the fields are the source of `docs/settings.md` and `.env.example`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from b24offline.config import rules
from b24offline.config import validators as values
from b24offline.config.batch_settings import BatchSettings
from b24offline.config.env import config_error, read_environment
from b24offline.config.fields import AMQP, SECRET, Names, PrimaryName, Seconds
from b24offline.config.lanes import DEFAULT_LANE, Lane, lanes_from_json
from b24offline.config.push_settings import PushSettings
from b24offline.config.timers import Timers, scaled_timers


class Config(PushSettings, BatchSettings):
    """All settings of one deployment; the repr shows no secret. Descriptions document the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)

    redis_url: Annotated[str, AfterValidator(values.redis_url)] = Field(
        default=rules.DEFAULT_REDIS_URL,
        description="Redis or Valkey that holds the ledger: open batches, leases, due times, rate limits.",
        json_schema_extra=SECRET,
    )
    broker_url: Annotated[str, AfterValidator(values.service_url)] = Field(
        default="",
        description="Celery's broker, Redis or RabbitMQ.",
        json_schema_extra={**SECRET, "variable": "CELERY_BROKER_URL", "derived": "that of B24_REDIS_URL"},
    )
    redis_primary: PrimaryName = Field(
        default="mymaster", description="Name of the ledger's primary at its Sentinels; for a sentinel:// address."
    )
    broker_primary: PrimaryName = Field(
        default="",
        description="Name of the broker's primary at its Sentinels.",
        json_schema_extra={"derived": "that of B24_REDIS_PRIMARY"},
    )
    sentinel_password: Annotated[SecretStr, AfterValidator(values.one_word)] | None = Field(
        default=None, description="Password of the Sentinels themselves, where they have one.", json_schema_extra=SECRET
    )
    data_dir: Path = Field(
        default=Path("./.data"),
        description="Directory for the embedded database and the secret key that is made when none is given.",
    )
    database_url: Annotated[str, AfterValidator(values.database_url)] = Field(
        default="",
        description="SQL database for portals, tokens, dead letters and the mirror: SQLite or PostgreSQL.",
        json_schema_extra={**SECRET, "derived": "b24offline.db (SQLite) in B24_DATA_DIR"},
    )
    secret_key: Annotated[SecretStr, AfterValidator(values.fernet_keys)] | None = Field(
        default=None,
        description=(
            "Fernet keys that encrypt tokens at rest, separated by commas; the first encrypts, all decrypt. "
            "Unset: one is made and kept in B24_DATA_DIR, allowed only while the database is SQLite."
        ),
        json_schema_extra=SECRET,
    )

    portal_url: Annotated[str, AfterValidator(values.portal_url)] | None = Field(
        default=None,
        description=(
            "REST address of the portal, https://name.bitrix24.com/rest/. "
            "Unset: only portals that the database knows already."
        ),
    )
    portal_name: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,64}$")] | None = Field(
        default=None,
        description="Our name for the portal, up to 64 of a-z 0-9 . _ - in commands, logs and metrics.",
        json_schema_extra={"derived": "the host of B24_PORTAL_URL"},
    )
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")] | None = Field(
        default=None,
        description="Client id of the application in the portal; required with B24_PORTAL_URL.",
    )
    client_secret: Annotated[SecretStr, AfterValidator(values.one_word)] | None = Field(
        default=None,
        description="Client secret of the application; required with B24_PORTAL_URL.",
        json_schema_extra=SECRET,
    )
    refresh_token: Annotated[SecretStr, AfterValidator(values.one_word)] | None = Field(
        default=None,
        description="First refresh token of the portal; needed only while the database holds none for it.",
        json_schema_extra=SECRET,
    )
    auth_url: Annotated[str, AfterValidator(values.auth_url)] = Field(
        default="https://oauth.bitrix.info/oauth/token/",
        description="Where tokens are refreshed. Fixed here: addresses in replies are never used.",
    )
    auth_hosts: Annotated[Names, AfterValidator(values.host_names)] = Field(
        default=("oauth.bitrix.info", "oauth.bitrix24.info", "oauth.bitrix24.tech"),
        description="Hosts that may get a refresh token, separated by commas.",
    )
    loopback_http: bool = Field(
        default=False,
        description="Allow plain http to hosts of this machine, for portals and tokens: the emulator.",
    )
    connector: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")] = Field(
        default="b24offline",
        description="Name (auth_connector) that separates our queue in the portal. One deployment owns it.",
    )
    events: Annotated[Names, AfterValidator(values.event_names)] = Field(
        default=(),
        description="Event names to subscribe to, separated by commas. Empty: those that have a route.",
    )

    filter: Annotated[Mapping[str, str | int], BeforeValidator(values.record_filter)] = Field(
        default={},
        description=(
            'JSON object that narrows which records are reserved, e.g. {"=EVENT_NAME": "ONCRMDEALADD"}. '
            "Fields ID, TIMESTAMP_X, EVENT_NAME, MESSAGE_ID after one of = > < >= <=; single values."
        ),
    )
    order: Annotated[Mapping[str, Literal["ASC", "DESC"]], BeforeValidator(values.record_order)] = Field(
        default={"ID": "ASC"},
        description=(
            "Order in which records are reserved, FIELD ASC or FIELD DESC of the same fields. By timestamp, "
            "an object that keeps changing starves."
        ),
        json_schema_extra={"default": "ID ASC"},
    )
    poll_interval_min_seconds: Seconds = Field(
        default=1.0, description="Seconds between polls of a portal while records keep coming."
    )
    poll_interval_max_seconds: Seconds = Field(
        default=30.0, description="Seconds between polls of a portal whose queue stays empty."
    )
    tick_seconds: Seconds = Field(default=1.0, description="Seconds between beat's checks for due portals.")

    lanes: Annotated[tuple[Lane, ...], BeforeValidator(lanes_from_json)] = Field(
        default=(),
        description=(
            "JSON array of further lanes, each with a name and any of filter, order, batch_size, batch_size_max, "
            "interval_min_seconds, interval_max_seconds, priority, queue: see docs/lanes.md."
        ),
    )

    ca_file: Annotated[Path, AfterValidator(values.existing_file)] | None = Field(
        default=None,
        description="File of certificates (PEM) to trust instead of the public ones.",
    )
    service_ca_file: Annotated[Path, AfterValidator(values.existing_file)] | None = Field(
        default=None,
        description=(
            "File of certificates (PEM) to verify Redis, RabbitMQ, PostgreSQL and the issue webhook with, where their "
            "certificates are not signed by a public authority."
        ),
    )
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=15)] = Field(
        default=5.0,
        description=(
            "Seconds to wait for a connection to a portal: its name, all its addresses and TLS together. At most "
            "15, because the in-doubt window covers no longer timeout."
        ),
    )
    read_timeout_seconds: Annotated[float, Field(gt=0, le=70)] = Field(
        default=65.0,
        description=(
            "Seconds to wait for a reply; a portal ends a request after 60. Together with the connect "
            "timeout at most 70, because a lease of 75 s must outlive every reserving call."
        ),
    )
    max_response_bytes: Annotated[int, Field(ge=65_536, le=1_073_741_824)] = Field(
        default=8_388_608, description="Bytes of one reply of a portal after which reading stops."
    )
    max_record_bytes: Annotated[int, Field(ge=1_024, le=1_048_576)] = Field(
        default=65_536, description="Bytes of one record above which it is nacked without running: records hold ids."
    )
    portal_ledger_bytes: Annotated[int, Field(ge=1_048_576, le=1_073_741_824)] = Field(
        default=16_777_216,
        description="Bytes of one portal's open events in the ledger; polling pauses there.",
    )
    portal_cache_bytes: Annotated[int, Field(ge=0, le=1_073_741_824)] = Field(
        default=33_554_432, description="Bytes of one portal's cached objects; each step reads what exceeds them."
    )
    requests_per_second: Annotated[float, Field(gt=0, le=100)] = Field(
        default=2.0, description="Requests per second that a portal drains (Enterprise plans: 5)."
    )
    burst: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=50, description="Requests a portal lets through at once (Enterprise plans: 250)."
    )
    ack_rate_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="Part of the burst that is kept for acknowledging, above 0, below 1."
    )
    calls_in_flight_per_portal: Annotated[int, Field(ge=3, le=100)] = Field(
        default=4,
        description=(
            "Calls to one portal under way at once, over all workers, at least 3. Steps and reads of objects use two "
            "less, so that a portal that hangs holds few workers and can still be polled and acknowledged."
        ),
    )

    unrouted: Literal["ack", "nack"] = Field(
        default="nack",
        description="What happens to an event without a route: nack (it waits on the portal for one) or ack.",
    )
    pipelines: Annotated[Names, AfterValidator(values.module_names)] = Field(
        default=("b24offline.pipelines",),
        description="Python modules with pipelines, separated by commas; the worker imports them at start.",
    )
    external_queues: Names = Field(
        default=(),
        description=(
            "Queues of other Celery stacks on the same broker that pipelines send steps to, separated by "
            "commas. Written to, never read."
        ),
    )
    remote_control: bool = Field(
        default=True,
        description=(
            "Whether workers obey Celery's remote control, by which whoever can write to the broker can end them. "
            "false: Flower shows tasks all the same, but no pools and queues."
        ),
    )
    rabbitmq_queues: Literal["quorum", "classic"] = Field(
        default="quorum",
        description=(
            "Type of our queues on RabbitMQ: quorum survives the loss of a node of a cluster, classic is what other "
            "stacks declare by default. Queues have to be deleted before it changes: see docs/deploy.md."
        ),
    )
    redis_key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")] = Field(
        default="b24offline",
        description="First part of every key in Redis, up to 32 of A-Z a-z 0-9 . _ -.",
    )
    max_queued_messages: Annotated[int, Field(ge=100)] = Field(
        default=50_000, description="Messages in our queues of the broker above which nothing is polled."
    )
    lease_seconds: Annotated[float, Field(ge=5, le=3_600)] = Field(
        default=60.0, description="Seconds a pipeline may be silent before it counts as crashed and runs again."
    )
    sweep_seconds: Annotated[float, Field(ge=1, le=600)] = Field(
        default=15.0, description="Seconds between sweeps for overdue work."
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=5,
        description=(
            "Failed attempts of one step after which its run has failed and its record is nacked; pipelines and "
            "steps may set another number."
        ),
    )
    claim_orphans: bool = Field(
        default=True,
        description="Adopt reserved records that belong to no batch of ours, as a crash leaves them.",
    )
    auto_subscribe: bool = Field(default=True, description="Subscribe events at start, and again when they vanish.")
    subscription_check_seconds: Annotated[float, Field(ge=10, le=86_400)] = Field(
        default=3_600.0,
        description="Seconds between checks of the subscriptions; changes after one vanished are unseen until then.",
    )
    reconcile_hours: Annotated[float, Field(ge=0, le=720)] = Field(
        default=24.0,
        description=(
            "Hours between comparisons of the portal with the mirror, which also follow a check that finds "
            "vanished subscriptions; 0: by hand only."
        ),
    )
    object_cache_ttl_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=900, description="Seconds that an object read in bulk is cached in Redis for its steps."
    )
    retention_days: Annotated[float, Field(gt=0, le=3_650)] = Field(
        default=30.0,
        description=(
            "Days that ended dead letters, the names and mirrored objects of removed portals, and deleted objects of "
            "the mirror are kept."
        ),
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        default=4, description="Processes that poll and run steps, of the worker that `b24offline up` starts."
    )
    flower_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=5555, description="Port on 127.0.0.1 of the Flower that `b24offline up` starts; 0 starts none."
    )
    heartbeat_file: Path | None = Field(
        default=None,
        description=(
            "File that worker and beat touch, at least every 2 s and every B24_TICK_SECONDS, for health checks by "
            "its age. Unset: none, but `b24offline up` uses files of its own to detect hung processes."
        ),
    )
    issue_webhook_url: Annotated[SecretStr, AfterValidator(values.secret_web_address)] | None = Field(
        default=None,
        description="Address that is sent each issue that begins or is over, as JSON: see docs/issue-webhook.md.",
        json_schema_extra=SECRET,
    )
    issue_webhook_secret: Annotated[SecretStr, AfterValidator(values.one_word)] | None = Field(
        default=None,
        description="Signs what is sent there (HMAC-SHA256); required with B24_ISSUE_WEBHOOK_URL.",
        json_schema_extra=SECRET,
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(values.upper)] = (
        Field(default="INFO", description="Least severity that is logged.")
    )
    log_format: Literal["line", "json"] = Field(
        default="line", description="Lines to read, or json: one object a line, for a program that collects logs."
    )
    show_errors: Literal["class", "text"] = Field(
        default="class",
        description=(
            "What is shown of an error of a step: its class, or text: also its words and traceback, in the log and in "
            "the dead letter. They may quote customers' data: for development."
        ),
    )
    time_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Shortens every timer of the protocol alike. For tests and the demo only; 1 otherwise.",
        json_schema_extra={"variable": "B24OFFLINE_TEST_TIME_SCALE", "public": False},
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return the configuration in these variables (default: the process environment); empty ones count as unset.

        Raises:
            ConfigError: a sentence for each wrong variable: what is wrong, and a valid value.
        """
        given = read_environment(cls, environ)
        try:
            return cls(**given)
        except ValidationError as error:
            raise config_error(cls, error, given) from None

    @model_validator(mode="before")
    @classmethod
    def _derive_defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        return rules.with_derived_defaults(given)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if contradictions := list(rules.contradictions(self)):
            raise ValueError("\n".join(contradictions))
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, values.masked_url(value) if isinstance(value, str) and "://" in value else value

    def refused_address(self, *, portal_url: str = "", auth_url: str = "") -> str:
        """Return why a well-formed address is not used, as the end of a sentence about it; "" when it is."""
        return rules.refused_address(portal_url, auth_url, loopback_http=self.loopback_http, auth_hosts=self.auth_hosts)

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The Fernet keys in order, the encrypting one first; empty when none is configured."""
        return () if self.secret_key is None else tuple(self.secret_key.get_secret_value().split(","))

    @property
    def service_authorities(self) -> str | None:
        """The file with which certificates of Redis, RabbitMQ and PostgreSQL are verified; None: the system's."""
        return str(self.service_ca_file) if self.service_ca_file else None

    @property
    def quorum_queues(self) -> bool:
        """Whether our queues are quorum queues: on RabbitMQ, unless classic ones are asked for."""
        return self.rabbitmq_queues == "quorum" and self.broker_url.startswith(AMQP)

    @property
    def all_lanes(self) -> dict[str, Lane]:
        """Lane name -> lane; the default one, made of the settings above, is the first."""
        default = Lane(
            name=DEFAULT_LANE,
            filter=self.filter,
            order=self.order,
            batch_size=self.batch_size,
            batch_size_max=self.largest_batch,
            interval_min_seconds=self.poll_interval_min_seconds,
            interval_max_seconds=self.poll_interval_max_seconds,
        )
        return {lane.name: lane for lane in (default, *self.lanes)}

    @property
    def timers(self) -> Timers:
        """The waiting times of the protocol, scaled."""
        return scaled_timers(self.lease_seconds, self.sweep_seconds, self.read_timeout_seconds, self.time_scale)
