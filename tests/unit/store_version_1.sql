-- The tables of the store as its first version made them, with a portal and a dead letter. {double} and {serial} differ
-- between the databases.
CREATE TABLE dead_letters (
    id {serial} NOT NULL, portal VARCHAR(64) NOT NULL, record_id BIGINT NOT NULL, message_id TEXT NOT NULL,
    event_name TEXT NOT NULL, object TEXT NOT NULL, pipeline TEXT NOT NULL, reason TEXT NOT NULL, payload TEXT NOT NULL,
    created_at {double} NOT NULL, ended_at {double}, PRIMARY KEY (id)
);
CREATE UNIQUE INDEX dead_letters_open ON dead_letters (portal, record_id, pipeline) WHERE ended_at IS NULL;
CREATE TABLE portals (
    name VARCHAR(64) NOT NULL, member_id VARCHAR(64), client_endpoint TEXT NOT NULL, auth_url TEXT NOT NULL,
    client_id TEXT NOT NULL, client_secret TEXT NOT NULL, connector TEXT NOT NULL, access_token TEXT,
    refresh_token TEXT, seeded_token TEXT, token_version INTEGER NOT NULL, expires_at {double},
    refresh_claimed_until {double} NOT NULL, refresh_not_before {double} NOT NULL, state VARCHAR(32) NOT NULL,
    state_reason TEXT NOT NULL, state_since {double} NOT NULL, ledger_generation BIGINT, created_at {double} NOT NULL,
    PRIMARY KEY (name), CONSTRAINT portals_one_name_per_queue UNIQUE (member_id, client_id, connector)
);
CREATE TABLE schema_version ("only" INTEGER NOT NULL, version INTEGER NOT NULL, PRIMARY KEY ("only"));
INSERT INTO schema_version VALUES (1, 1);
INSERT INTO portals VALUES (
    'acme', 'm1', 'https://acme.example/rest/', 'https://auth.example/oauth/token/', 'app.1', '{secret}', 'b24offline',
    NULL, '{secret}', '{secret}', 7, NULL, 0, 0, 'paused', 'a pause', 1000.5, 1099511627776, 900.5
);
INSERT INTO dead_letters VALUES (
    5, 'acme', 12, 'm', 'ONCRMDEALUPDATE', 'crm_deal 7', 'deal_changed', 'why', '{letter}', 1000.5, NULL
)
