//! Money: exact decimals with a sign, currencies, and what an account has of each.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::order::Price;

/// Longest name of a currency, in bytes.
const CURRENCY_BYTES_MAX: usize = 16;

/// An exact decimal amount of at most 28 digits; a balance can be below zero. `1.0` and `1.00` are
/// equal.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Amount(Decimal);

/// Not an amount of money. Nothing of the text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of money of at most 28 digits, such as 99.90")]
pub struct InvalidAmount;

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// The sum; what is too large to be added up exactly is the largest amount there is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let limit = if other.0.is_sign_negative() { Decimal::MIN } else { Decimal::MAX };
        Self(self.0.checked_add(other.0).unwrap_or(limit))
    }

    /// The difference; it saturates as a sum does.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self(-other.0))
    }

    /// Whether it is more than nothing.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.0 > Decimal::ZERO
    }

    /// So many times the amount; it saturates.
    pub(crate) fn times(self, factor: u64) -> Self {
        let limit = if self.0.is_sign_negative() { Decimal::MIN } else { Decimal::MAX };
        Self(self.0.checked_mul(Decimal::from(factor)).unwrap_or(limit))
    }

    /// How many times the other goes into it, rounded down; `None` where that is no number of this kind.
    pub(crate) fn divided_by(self, other: Self) -> Option<u64> {
        use rust_decimal::prelude::ToPrimitive;
        self.0.checked_div(other.0)?.floor().to_u64()
    }

    /// An amount as JSON writes a number: `12`, `-0.5`, `1.2e3`. Exact, or not read at all.
    pub(crate) fn of_number(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            None => (text, 0),
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        };
        let mut amount = mantissa.parse::<Self>().ok()?.0;
        if exponent >= 0 {
            for _ in 0..exponent.min(30) {
                amount = amount.checked_mul(Decimal::TEN)?;
            }
            return (exponent <= 30).then_some(Self(amount));
        }
        let scale = amount.scale().checked_add(exponent.unsigned_abs())?;
        amount.set_scale(scale).ok().map(|()| Self(amount))
    }

    /// For figures alone.
    #[cfg(feature = "metrics")]
    pub(crate) fn rounded(self) -> f64 {
        use rust_decimal::prelude::ToPrimitive;
        self.0.to_f64().unwrap_or(f64::MAX)
    }
}

impl From<Price> for Amount {
    fn from(price: Price) -> Self {
        Self(price.decimal())
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let decimal = Decimal::from_str_exact(text).ok().filter(|_| plain);
        decimal.map(Self).ok_or(InvalidAmount)
    }
}

impl TryFrom<String> for Amount {
    type Error = InvalidAmount;
    fn try_from(text: String) -> Result<Self, InvalidAmount> {
        text.parse()
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.to_string()
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a currency, `USD` for instance: 1 to 16 letters and digits, kept in capitals.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(Arc<str>);

impl Currency {
    /// Takes a name; `None` if it is empty, too long or anything but ASCII letters and digits.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Option<Self> {
        let text = text.as_ref();
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_name = plain && !text.is_empty() && text.len() <= CURRENCY_BYTES_MAX;
        is_name.then(|| Self(text.to_ascii_uppercase().into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Currency {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::new(text).ok_or("a currency is 1 to 16 letters and digits")
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an account has in one currency.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Balance {
    /// The currency.
    pub currency: Currency,
    /// How much.
    pub amount: Amount,
}

/// What one order cost, where the supplier says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cost {
    /// How much.
    pub amount: Amount,
    /// In which currency, where that is shown.
    pub currency: Option<Currency>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().expect("an amount")
    }

    #[test]
    fn amounts_are_exact_and_have_a_sign() {
        assert_eq!(amount("0.1").plus(amount("0.2")), amount("0.30"));
        assert_eq!(amount("1").minus(amount("1.01")).to_string(), "-0.01");
        assert_eq!(amount("1.0"), amount("1.00"));
        assert!(amount("-5") < amount("0.0") && !amount("-0").is_positive());
        assert_eq!(amount("0.05").times(40), amount("2"));
        for wrong in ["", "-", "+1", "1,5", "1_000", "--1", "NaN", "1 ", ".", "0x1", "1e3"] {
            assert!(wrong.parse::<Amount>().is_err(), "{wrong}");
        }
        assert!("9".repeat(29).parse::<Amount>().is_err());
    }

    #[test]
    fn numbers_of_json_are_read_exactly_or_not_at_all() {
        for (text, expected) in
            [("12", "12"), ("-0.50", "-0.5"), ("1.25e3", "1250"), ("5E-3", "0.005"), ("0e9", "0")]
        {
            assert_eq!(Amount::of_number(text), Some(amount(expected)), "{text}");
        }
        for wrong in ["1e99", "1e-40", "1e", "e3", "0.1e-2147483648", "1e2147483647", "true"] {
            assert_eq!(Amount::of_number(wrong), None, "{wrong}");
        }
        // A float would make 0.1 of it.
        let text = "0.1000000000000000055511151231";
        assert_eq!(Amount::of_number(text).expect("28 digits").to_string(), text);
    }

    #[test]
    fn currencies_are_compared_in_capitals() {
        assert_eq!(Currency::new("usd"), Currency::new("USD"));
        for wrong in ["", "U S", "US\n", "€", &"U".repeat(17)] {
            assert_eq!(Currency::new(wrong), None, "{wrong}");
        }
    }
}
