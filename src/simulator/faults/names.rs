//! Faults by their names, and what they do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ListFault, PayFault, PostFault};

impl PostFault {
    /// Whether the POST creates an order, at once or late.
    pub fn creates(self) -> bool {
        match self {
            Self::WithheldNeverCreated
            | Self::Status500Before
            | Self::Status502Before
            | Self::Status503Before
            | Self::ResetBefore
            | Self::RateLimited429
            | Self::GatewayPage403
            | Self::GatewayPage502
            | Self::Redirect => false,
            Self::WithheldAfterCreation
            | Self::CreatedLate
            | Self::Status500After
            | Self::Status502After
            | Self::Status408After
            | Self::Conflict409After
            | Self::ResetAfter
            | Self::Cut201
            | Self::WrongId201
            | Self::NoId201
            | Self::Empty201
            | Self::RateLimited429After => true,
        }
    }
}

impl PayFault {
    /// Whether the payment debits, at once or late.
    pub fn pays(self) -> bool {
        match self {
            Self::WithheldNever
            | Self::Status500Before
            | Self::ResetBefore
            | Self::RateLimited429
            | Self::NotFound404
            | Self::Refused422 => false,
            Self::WithheldAfter
            | Self::Late
            | Self::Status500After
            | Self::ResetAfter
            | Self::Conflict409After => true,
        }
    }
}

/// A name that no fault has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called `{0}`")]
pub struct UnknownFault(String);

macro_rules! by_name {
    ($kind:ty) => {
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $kind {
            type Err = UnknownFault;

            fn from_str(name: &str) -> Result<Self, UnknownFault> {
                let mut all = Self::ALL.iter().copied();
                all.find(|f| f.name() == name).ok_or_else(|| UnknownFault(name.to_owned()))
            }
        }

        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

by_name!(PostFault);
by_name!(ListFault);
by_name!(PayFault);
