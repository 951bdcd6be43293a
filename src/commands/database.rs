//! A store in a database, by the scheme of its URL.

use std::sync::Arc;

use order_router::store::look::Look;
use order_router::store::{IntentStore, LeaseTerms, SharedStore};
use secrecy::{ExposeSecret, SecretString};

use super::failure::Failure;

const IN_USE: &str = "wait for the other router to end, or stop it, or let all of them share the store with \
    --share; another schema, namespace or file for the same account is no way out: it would buy again";

/// Opens the store that a URL names. The settings let no scheme pass that is not in this build.
/// `unsynced`: a server that answers before it is on disk is taken.
pub async fn open(
    url: &SecretString,
    terms: LeaseTerms,
    unsynced: bool,
) -> Result<Arc<dyn IntentStore>, Failure> {
    let _ = (terms, unsynced);
    let url = url.expose_secret();
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "redb")]
        "redb" => {
            use order_router::store::redb::{self, RedbError};
            let file = std::path::Path::new(url.split_once(':').map_or("", |(_, file)| file));
            redb::open(file).await.map_err(|error| {
                let in_use = matches!(error, RedbError::InUse { .. });
                not_opened(&error, if in_use { IN_USE } else { "see the message" })
            })
        }
        #[cfg(feature = "redis")]
        "redis" => {
            use order_router::store::redis::RedisStore;
            let mut config = redis_config(url)?;
            (config.lease, config.accept_unsynced) = (terms, unsynced);
            RedisStore::open(config).await.map_err(|error| redis_failed(&error))
        }
        #[cfg(feature = "dynamodb")]
        "dynamodb" => {
            let mut config = dynamodb_config(url)?;
            config.lease = terms;
            let store = order_router::store::dynamodb::open(config).await;
            store.map_err(|error| dynamodb_failed(&error))
        }
        #[cfg(feature = "postgres")]
        _ => {
            use order_router::store::postgres::PostgresStore;
            let mut config = postgres_config(url)?;
            (config.lease, config.accept_unsynced) = (Some(terms), unsynced);
            let store = PostgresStore::open(config).await;
            Ok(Arc::new(store.map_err(|error| postgres_failed(&error))?))
        }
        #[cfg(not(feature = "postgres"))]
        _ => Err(Failure::nothing_sent("the store is not in this build", "name another")),
    }
}

/// The URL without user and password.
pub fn url(url: &SecretString) -> Result<String, Failure> {
    let url = url.expose_secret();
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "redb")]
        "redb" => Ok(order_router::store::redb::url(file(url))),
        #[cfg(feature = "redis")]
        "redis" => Ok(redis_config(url)?.url()),
        #[cfg(feature = "dynamodb")]
        "dynamodb" => Ok(dynamodb_config(url)?.url()),
        #[cfg(feature = "postgres")]
        _ => Ok(postgres_config(url)?.url()),
        #[cfg(not(feature = "postgres"))]
        _ => Err(Failure::nothing_sent("the store is not in this build", "name another")),
    }
}

#[cfg(feature = "redb")]
fn file(url: &str) -> &std::path::Path {
    std::path::Path::new(url.split_once(':').map_or("", |(_, file)| file))
}

/// Looks at the store that a URL names, beside a router if that is possible.
pub async fn look(url: &SecretString) -> Result<Box<dyn Look>, Failure> {
    let url = url.expose_secret();
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "redb")]
        "redb" => {
            let look = order_router::store::redb::look(file(url)).await;
            look.map_err(|error| not_opened(&error, "stop the router: a file is one process's"))
        }
        #[cfg(feature = "redis")]
        "redis" => {
            let look = order_router::store::redis::look(redis_config(url)?).await;
            look.map_err(|error| redis_failed(&error))
        }
        #[cfg(feature = "dynamodb")]
        "dynamodb" => {
            let look = order_router::store::dynamodb::look(&dynamodb_config(url)?).await;
            look.map_err(|error| dynamodb_failed(&error))
        }
        #[cfg(feature = "postgres")]
        _ => {
            let look = order_router::store::postgres::look(postgres_config(url)?).await;
            look.map_err(|error| postgres_failed(&error))
        }
        #[cfg(not(feature = "postgres"))]
        _ => Err(Failure::nothing_sent("the store is not in this build", "name another")),
    }
}

/// The store that a URL names, to be shared with other routers.
pub fn shared(
    url: &SecretString,
    terms: LeaseTerms,
    unsynced: bool,
) -> Result<Arc<dyn SharedStore>, Failure> {
    let _ = unsynced;
    let url = url.expose_secret();
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "redis")]
        "redis" => {
            let mut config = redis_config(url)?;
            (config.lease, config.accept_unsynced) = (terms, unsynced);
            Ok(order_router::store::redis::shared(config))
        }
        #[cfg(feature = "dynamodb")]
        "dynamodb" => {
            let mut config = dynamodb_config(url)?;
            config.lease = terms;
            Ok(order_router::store::dynamodb::shared(config))
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let mut config = postgres_config(url)?;
            (config.lease, config.accept_unsynced) = (Some(terms), unsynced);
            Ok(Arc::new(order_router::store::postgres::SharedPostgres::new(config)))
        }
        scheme => {
            let what = format!("--share: a store of the kind {scheme} cannot be shared");
            let _ = terms;
            Err(Failure::nothing_sent(what, "name one on a server, or leave --share out"))
        }
    }
}

/// Why the store was not opened, and what to do. Nothing of the URL is shown.
fn not_opened(error: &dyn std::error::Error, next: &str) -> Failure {
    Failure::nothing_sent(format!("the store was not opened: {error}"), next)
}

#[cfg(feature = "redis")]
fn redis_config(url: &str) -> Result<order_router::store::redis::RedisConfig, Failure> {
    order_router::store::redis::RedisConfig::new(url).map_err(|error| redis_failed(&error))
}

#[cfg(feature = "redis")]
fn redis_failed(error: &order_router::store::redis::RedisError) -> Failure {
    use order_router::store::redis::RedisError;
    let next = match error {
        RedisError::Url(_) => "name it as the message says, with --store or ORDER_ROUTER_STORE",
        RedisError::Tls(_) => "name a PEM file that can be read",
        RedisError::Unreachable { .. } => "start the server, see that it is reached from here",
        RedisError::Refused { .. } => "correct user and password of the URL",
        RedisError::ReadOnly { .. } => "name the primary",
        RedisError::InUse { .. } => IN_USE,
        _ => "see the message",
    };
    not_opened(error, next)
}

#[cfg(feature = "dynamodb")]
fn dynamodb_config(url: &str) -> Result<order_router::store::dynamodb::DynamoDbConfig, Failure> {
    order_router::store::dynamodb::DynamoDbConfig::new(url).map_err(|error| dynamodb_failed(&error))
}

/// Makes the table that a URL names; where it is.
#[cfg(feature = "dynamodb")]
pub async fn create(url: &str) -> Result<String, Failure> {
    let config = dynamodb_config(url)?;
    let made = order_router::store::dynamodb::create_table(&config).await;
    made.map_err(|error| dynamodb_failed(&error))?;
    Ok(config.place())
}

#[cfg(feature = "dynamodb")]
fn dynamodb_failed(error: &order_router::store::dynamodb::DynamoDbError) -> Failure {
    use order_router::store::dynamodb::DynamoDbError;
    let next = match error {
        DynamoDbError::Url(_) => "name it as the message says, with --store or ORDER_ROUTER_STORE",
        DynamoDbError::NoCredentials => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        DynamoDbError::Unreachable { .. } => "see that the service is reached from here",
        DynamoDbError::Refused { .. } => "correct the keys, or what they may do",
        DynamoDbError::MissingTable { .. } => "make it with `order-router store create`",
        DynamoDbError::InUse { .. } => IN_USE,
        _ => "see the message",
    };
    not_opened(error, next)
}

#[cfg(feature = "postgres")]
fn postgres_config(url: &str) -> Result<order_router::store::postgres::PostgresConfig, Failure> {
    order_router::store::postgres::PostgresConfig::new(url).map_err(|error| postgres_failed(&error))
}

#[cfg(feature = "postgres")]
fn postgres_failed(error: &order_router::store::postgres::PostgresError) -> Failure {
    use order_router::store::postgres::PostgresError;
    let next = match error {
        PostgresError::Url(_) => "name embedded:DIR or a postgres:// URL with --store",
        PostgresError::Tls(_) => "name a PEM file that can be read",
        PostgresError::Unreachable { .. } => "start the server, see that it is reached from here",
        PostgresError::Refused { .. } => "correct user, password and database of the URL",
        PostgresError::ReadOnly { .. } => "name the primary, or make the database writable",
        PostgresError::InUse { .. } => IN_USE,
        PostgresError::NewerVersion { .. } => {
            "run the version of order-router that made the tables, or a newer"
        }
        PostgresError::Unsynced { .. } => "change the setting in the server's configuration",
        PostgresError::Unusable { .. } | PostgresError::Failed { .. } => {
            "look at the database; see the message"
        }
        _ => "see the message",
    };
    not_opened(error, next)
}
