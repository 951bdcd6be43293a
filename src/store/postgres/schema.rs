//! The tables, and how they came to be: migrations, each applied once.

/// The version of the tables that this build writes, and the newest that it knows.
pub const SCHEMA_VERSION: i32 = 6;

/// What brings the tables from each version to the next; the first makes them.
///
/// Never changed once released: a change of the tables is a further entry.
pub(super) const MIGRATIONS: [&str; SCHEMA_VERSION as usize] = [
    r#"
    CREATE TABLE order_intents (
        client_ref    text COLLATE "C" PRIMARY KEY,
        order_id      text COLLATE "C",
        items_hash    bytea NOT NULL,
        as_sent       bytea NOT NULL,
        state         text NOT NULL,
        why           text,
        tries         smallint NOT NULL DEFAULT 0,
        attempt       bigint,
        fingerprint   bigint,
        floor         text,
        learnt        smallint,
        order_created text,
        unsettled     boolean NOT NULL DEFAULT false,
        active        boolean NOT NULL DEFAULT true,
        id            bigint NOT NULL,
        ended_at      bigint NOT NULL DEFAULT 0,
        changed       bigint NOT NULL,
        intent        bytea NOT NULL,
        created_at    timestamptz NOT NULL DEFAULT now(),
        resolved_at   timestamptz
    );
    CREATE UNIQUE INDEX order_intents_order_id ON order_intents (order_id)
        WHERE order_id IS NOT NULL;
    CREATE UNIQUE INDEX order_intents_active ON order_intents (id) WHERE active;
    CREATE TABLE order_router (
        one            boolean PRIMARY KEY DEFAULT true CHECK (one),
        owner          text NOT NULL DEFAULT '',
        batch          bigint NOT NULL DEFAULT 0,
        outcomes       bytea NOT NULL DEFAULT '',
        serial_next    bigint NOT NULL DEFAULT 1,
        changes        bigint NOT NULL DEFAULT 0,
        ended          bigint NOT NULL DEFAULT 0,
        newest_known   text,
        history_drawn  boolean NOT NULL DEFAULT false,
        history_newest text COLLATE "C",
        paused         text
    );
    INSERT INTO order_router DEFAULT VALUES;
    CREATE TABLE order_router_lanes_held (
        items_hash bytea PRIMARY KEY,
        why        text NOT NULL,
        noted_at   timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE order_router_orphans (
        order_id text COLLATE "C" PRIMARY KEY,
        why      text NOT NULL,
        noted_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE order_router_history (
        order_id text COLLATE "C" PRIMARY KEY
    );
    CREATE TABLE order_router_echo (
        shape   smallint PRIMARY KEY,
        changed bigint NOT NULL
    );
    "#,
    // The witnesses of a list are read by when they were claimed.
    r"
    CREATE INDEX order_intents_claimed ON order_intents (ended_at, changed)
        WHERE order_id IS NOT NULL;
    ",
    // Several routers on one schema.
    r#"
    ALTER TABLE order_router ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
    ALTER TABLE order_router ADD COLUMN lease_until timestamptz;
    ALTER TABLE order_router ADD COLUMN lease_pause interval;
    CREATE TABLE order_router_requests (
        key      text COLLATE "C" PRIMARY KEY,
        asked    bytea NOT NULL,
        reply    bytea,
        asked_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX order_router_requests_open ON order_router_requests (asked_at)
        WHERE reply IS NULL;
    "#,
    // What a migration of its orders to or from another store has made of it.
    r"
    ALTER TABLE order_router ADD COLUMN mark smallint;
    ALTER TABLE order_router ADD COLUMN mark_place text;
    ",
    // Orders that are paid later.
    r"
    ALTER TABLE order_intents ADD COLUMN pay_step smallint;
    ALTER TABLE order_intents ADD COLUMN pays bigint NOT NULL DEFAULT 0;
    ALTER TABLE order_intents ADD COLUMN pay_tries smallint NOT NULL DEFAULT 0;
    ",
    // What is counted against limits of orders and money.
    r"
    CREATE TABLE order_router_spent (
        at     bigint PRIMARY KEY,
        orders bigint NOT NULL,
        amount numeric NOT NULL
    );
    ALTER TABLE order_router ADD COLUMN spent_now bigint NOT NULL DEFAULT 0;
    ALTER TABLE order_router ADD COLUMN spent_wall text;
    ALTER TABLE order_router ADD COLUMN spent_supplier text;
    ",
];

/// The table of the version; there before any other.
pub(super) const VERSION_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS order_router_schema (
        version    integer PRIMARY KEY,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";
