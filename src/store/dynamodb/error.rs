//! Why the store was not opened, by what to do about it; and what an error in the middle means.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::RequestId;

use super::DynamoDbConfig;
use crate::store::ledger::Fault;

/// The store was not opened, and nothing in it was decided or sent.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum DynamoDbError {
    /// The URL is not understood. Nothing of it is shown.
    #[error(
        "the URL of the store is not understood: {0}; it is dynamodb://TABLE?region=REGION, with &namespace=NAME and &endpoint=http://HOST:PORT where they are needed"
    )]
    Url(&'static str),
    /// The lease's terms leave no time to send.
    #[error("the terms of the lease are wrong: {0}")]
    Terms(&'static str),
    /// There are no keys.
    #[error("there are no keys for DynamoDB: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")]
    NoCredentials,
    /// Nobody answers. See that region or endpoint are right and that this machine may reach them.
    #[error("{place} is not reached: {why}")]
    Unreachable {
        /// Where.
        place: String,
        /// What the system says.
        why: String,
    },
    /// The keys are not known, have expired, or are not allowed to do this.
    #[error(
        "{place} refuses us: {why}; check the keys, their rights on the table and this machine's clock"
    )]
    Refused {
        /// Where.
        place: String,
        /// The service's code.
        why: String,
    },
    /// The table does not exist. It is not made unasked.
    #[error(
        "{place}: there is no such table, or it is still being made; make it with `order-router store create --store \"{url}\"`"
    )]
    MissingTable {
        /// Where.
        place: String,
        /// The store's URL.
        url: String,
    },
    /// Another router has the store. Stop it, or use another namespace and another account.
    #[error("another router has the store at {place}: {holder}")]
    InUse {
        /// Where.
        place: String,
        /// What it calls itself.
        holder: String,
    },
    /// What is kept is from a newer version of the program. It is whole: run that version.
    #[error(
        "what is kept is of version {found}, this program knows up to {known}: run a newer one"
    )]
    NewerVersion {
        /// The version that is kept.
        found: u64,
        /// The newest that this program knows.
        known: u64,
    },
    /// It is not what is needed.
    #[error("{place} cannot be used: {why}")]
    Unusable {
        /// Where.
        place: String,
        /// What is wrong.
        why: String,
    },
}

/// What a failed request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No answer, or half of one: it may have been carried out.
    NoAnswer,
    /// An answer that is none of DynamoDB's.
    Garbled,
    /// Throttled, in conflict with another request, or the service failed.
    Passes,
    /// The keys have expired, the clock is off, or a provider brings no keys just now.
    Expired,
    /// The keys are wrong or have no right.
    Refused,
    /// There is no such table.
    NoTable,
    /// A condition of the request was not met.
    Condition,
    /// The same token came with another request.
    TokenReused,
    /// It will not succeed.
    Wrong,
}

/// A request that failed.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) why: String,
}

impl Trouble {
    pub(super) fn wrong(why: impl std::fmt::Display) -> Self {
        Self { kind: Kind::Wrong, why: why.to_string() }
    }

    /// In the middle of the work.
    pub(super) fn fault(self) -> Fault {
        match self.kind {
            Kind::NoAnswer | Kind::Garbled | Kind::Passes | Kind::Expired => {
                Fault::Passes(self.why)
            }
            Kind::Refused | Kind::NoTable | Kind::Condition | Kind::TokenReused | Kind::Wrong => {
                Fault::Fatal(self.why)
            }
        }
    }

    /// At the opening.
    pub(super) fn opening(self, config: &DynamoDbConfig) -> DynamoDbError {
        let (place, why) = (config.place(), self.why);
        match self.kind {
            Kind::NoAnswer | Kind::Passes => DynamoDbError::Unreachable { place, why },
            Kind::Expired | Kind::Refused => DynamoDbError::Refused { place, why },
            Kind::NoTable => DynamoDbError::MissingTable { place, url: config.url() },
            Kind::Garbled | Kind::Condition | Kind::TokenReused | Kind::Wrong => {
                DynamoDbError::Unusable { place, why }
            }
        }
    }
}

const REFUSED: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
];

const EXPIRED: &[&str] = &["ExpiredToken", "ExpiredTokenException", "RequestExpired"];

const PASSES: &[&str] = &[
    "InternalFailure",
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "ResourceInUseException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "Throttling",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
];

/// What a code of the service means.
pub(super) fn kind_of(code: &str, message: &str, status: u16) -> Kind {
    let skewed = message.contains("Signature expired") || message.contains("not yet current");
    match code {
        _ if EXPIRED.contains(&code) => Kind::Expired,
        _ if REFUSED.contains(&code) && skewed => Kind::Expired,
        _ if REFUSED.contains(&code) => Kind::Refused,
        _ if PASSES.contains(&code) => Kind::Passes,
        "ConditionalCheckFailed" | "ConditionalCheckFailedException" => Kind::Condition,
        "IdempotentParameterMismatchException" => Kind::TokenReused,
        "ResourceNotFoundException" => Kind::NoTable,
        _ if status >= 500 => Kind::Passes,
        "" => Kind::Garbled,
        _ => Kind::Wrong,
    }
}

impl<E> From<SdkError<E>> for Trouble
where
    E: ProvideErrorMetadata + std::error::Error + RequestId + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        let kind = match &error {
            SdkError::ServiceError(answer) => {
                let code = answer.err().code().unwrap_or_default();
                let message = answer.err().message().unwrap_or_default();
                let status = answer.raw().status().as_u16();
                let kind = kind_of(code, message, status);
                return Self { kind, why: told(kind, code, message, status) };
            }
            SdkError::ConstructionFailure(_) => Kind::Expired,
            SdkError::ResponseError(_) => Kind::Garbled,
            _ => Kind::NoAnswer,
        };
        Self { kind, why: chain(&error) }
    }
}

/// What the service says, in one line. A refusal's message repeats the request's headers, and a
/// session token is one of them: only its code is told.
fn told(kind: Kind, code: &str, message: &str, status: u16) -> String {
    if matches!(kind, Kind::Refused | Kind::Expired) {
        return code.to_owned();
    }
    let mut line: String = message.chars().filter(|c| !c.is_control()).take(300).collect();
    if line.is_empty() {
        line = format!("an answer with status {status}");
    }
    match code {
        "" => format!("{line}, which DynamoDB does not give"),
        code => format!("{line} ({code})"),
    }
}

/// The error and its causes in one line; without the chapters that say the same.
fn chain(error: &dyn std::error::Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if parts.last() != Some(&said) {
            parts.push(said);
        }
        cause = error.source();
    }
    parts.join(": ").chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_to_do_next() {
        let kind = |code| kind_of(code, "", 400);
        assert_eq!(kind("ThrottlingException"), Kind::Passes);
        assert_eq!(kind("UnrecognizedClientException"), Kind::Refused);
        assert_eq!(kind("ExpiredTokenException"), Kind::Expired);
        assert_eq!(kind("ResourceNotFoundException"), Kind::NoTable);
        assert_eq!(kind("ValidationException"), Kind::Wrong);
        assert_eq!(kind(""), Kind::Garbled);
        assert_eq!(kind_of("Whatever", "", 503), Kind::Passes);
        let skewed = "Signature expired: 20200101T000000Z is now earlier than 20200101T001000Z";
        assert_eq!(kind_of("InvalidSignatureException", skewed, 400), Kind::Expired);
        assert_eq!(kind("InvalidSignatureException"), Kind::Refused);
    }

    #[test]
    fn refusal_shows_its_code_alone() {
        let message = "The Canonical String should have been 'x-amz-security-token:canary'";
        let line = told(Kind::Refused, "InvalidSignatureException", message, 400);
        assert_eq!(line, "InvalidSignatureException");
        let line = told(Kind::Wrong, "ValidationException", "odd\nkey", 400);
        assert_eq!(line, "oddkey (ValidationException)");
    }
}
