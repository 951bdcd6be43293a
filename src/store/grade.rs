//! What a store keeps, and what it loses when it crashes: one table for people, in words.

/// What a store is worth. README has them as a table, which a test compares with this one.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grade {
    /// Which store, with what setting.
    pub store: &'static str,
    /// What an accepted order survives.
    pub durability: &'static str,
    /// Whether the same reference, given to two nodes, is bought once.
    pub duplicates: &'static str,
    /// What is left to see of what was done.
    pub audit: &'static str,
    /// How long what is kept.
    pub retention: &'static str,
    /// What is lost when the store, or what keeps it, crashes.
    pub lost: &'static str,
}

const FOR_EVER: &str = "references, ends, claims and items for ever";
const ITEMS_A_DAY: &str = "references, ends and claims for ever; items of ended orders a day";
const STATE_ONLY: &str = "how each order stands and ended, not the way there";

impl Grade {
    /// The embedded store.
    pub const EMBEDDED: Self = Self {
        store: "embedded",
        durability: "kill, power cut",
        duplicates: "one process has the directory",
        audit: "every change, in the journal",
        retention: FOR_EVER,
        lost: "nothing that was answered",
    };
    /// redb.
    pub const REDB: Self = Self {
        store: "redb",
        durability: "kill; power cut as far as redb keeps its word",
        duplicates: "one process has the file",
        audit: STATE_ONLY,
        retention: FOR_EVER,
        lost: "nothing that was answered",
    };
    /// Postgres that syncs.
    pub const POSTGRES: Self = Self {
        store: "Postgres",
        durability: "kill, power cut; failover to a synchronous standby",
        duplicates: "yes: guards in SQL, a lock and a lease",
        audit: "how each order stands and ended, with dates, in SQL",
        retention: FOR_EVER,
        lost: "nothing that was answered; in a failover, what an asynchronous standby lacks",
    };
    /// Postgres that does not.
    pub const POSTGRES_UNSYNCED: Self = Self {
        store: "Postgres, `fsync` or `full_page_writes` off",
        durability: "kill of the server",
        lost: "in a power cut, any amount, and perhaps the database",
        ..Self::POSTGRES
    };
    /// Redis that syncs each write.
    pub const REDIS: Self = Self {
        store: "Redis, `appendfsync always`",
        durability: "kill, power cut",
        duplicates: "yes: a lease and fenced writes; not over a failover",
        audit: STATE_ONLY,
        retention: ITEMS_A_DAY,
        lost: "nothing that was answered; in a failover, what the replica lacks",
    };
    /// Redis that syncs once a second.
    pub const REDIS_EVERYSEC: Self = Self {
        store: "Redis, `appendfsync everysec`",
        durability: "kill of the server, unless a sync was slow just then",
        lost: "in a power cut, up to two seconds; in a failover, what the replica lacks",
        ..Self::REDIS
    };
    /// Redis without a log, or one that is not synced.
    pub const REDIS_WEAK: Self = Self {
        store: "Redis, no log, one that is not synced, or settings that it does not tell",
        durability: "a kill of the router; of the server: nobody can tell",
        lost: "any amount, up to everything since the last snapshot",
        ..Self::REDIS
    };
    /// `DynamoDB`.
    pub const DYNAMODB: Self = Self {
        store: "DynamoDB",
        durability: "what the service survives: three places before it answers",
        duplicates: "yes: a lease and conditional transactions",
        audit: STATE_ONLY,
        retention: ITEMS_A_DAY,
        lost: "nothing that was answered",
    };
    /// A server that speaks as `DynamoDB` does.
    pub const DYNAMODB_ENDPOINT: Self = Self {
        store: "DynamoDB behind `endpoint`",
        durability: "what that server survives: it does not tell",
        lost: "nobody can tell; one for tests forgets everything",
        ..Self::DYNAMODB
    };
    /// The store in memory.
    pub const MEMORY: Self = Self {
        store: "`MemoryStore`",
        durability: "nothing",
        duplicates: "no",
        audit: "none",
        retention: "until the process ends",
        lost: "everything",
    };

    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::EMBEDDED,
        Self::REDB,
        Self::POSTGRES,
        Self::POSTGRES_UNSYNCED,
        Self::REDIS,
        Self::REDIS_EVERYSEC,
        Self::REDIS_WEAK,
        Self::DYNAMODB,
        Self::DYNAMODB_ENDPOINT,
        Self::MEMORY,
    ];

    /// Names and words, in the order of the table.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, &'static str); 6] {
        let Self { store, durability, duplicates, audit, retention, lost } = *self;
        [
            ("store", store),
            ("durability", durability),
            ("duplicates", duplicates),
            ("audit", audit),
            ("retention", retention),
            ("lost", lost),
        ]
    }

    /// All of them as a table in Markdown.
    #[must_use]
    pub fn table() -> String {
        let mut text = String::from(
            "| store | an accepted order survives | duplicates prevented across nodes | audit trail \
             | kept | lost when it crashes |\n|---|---|---|---|---|---|\n",
        );
        for grade in Self::ALL {
            let words = grade.rows().map(|(_, word)| word);
            text.push_str(&format!("| {} |\n", words.join(" | ")));
        }
        text
    }
}
