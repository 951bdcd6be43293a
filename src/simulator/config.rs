//! What the simulated supplier is told at its start.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::Faults;

/// Everything that a [`Simulator`](super::Simulator) is started with.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// Where the supplier's API listens. Default: a free port of 127.0.0.1. Other addresses than
    /// loopback are refused: whoever reaches the port can change every fault.
    pub listen: SocketAddr,
    /// Where ledger, stats and faults are. Default: a free port of 127.0.0.1.
    pub admin_listen: SocketAddr,
    /// All chance comes from it. With the same seed, the same settings and the same order of
    /// arrival, every POST meets the same fault and gets the same order id. Default: 0.
    pub seed: u64,
    /// The only API key that is accepted. Default: none, so that any key is, but not its absence.
    pub required_key: Option<String>,
    /// What the supplier's documentation leaves open.
    pub contract: Contract,
    /// What goes wrong. Default: nothing.
    pub faults: Faults,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: any_port,
            admin_listen: any_port,
            seed: 0,
            required_key: None,
            contract: Contract::default(),
            faults: Faults::default(),
        }
    }
}

/// Without the key.
impl fmt::Debug for SimulatorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, admin_listen, seed, required_key, contract, faults } = self;
        f.debug_struct("SimulatorConfig")
            .field("listen", listen)
            .field("admin_listen", admin_listen)
            .field("seed", seed)
            .field("required_key", &required_key.as_ref().map(|_| "set"))
            .field("contract", contract)
            .field("faults", faults)
            .finish()
    }
}

/// The points in which suppliers of one class differ. They stay as they are while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Contract"))]
pub struct Contract {
    /// Which end of the list comes first [default: newest]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_enum, default_value = "newest", hide_default_value = true)
    )]
    pub list_order: ListOrder,
    /// The key of the rows: `orders`, or `items` beside limit, offset and total [default: orders]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_enum, default_value = "orders", hide_default_value = true)
    )]
    pub envelope: Envelope,
    /// Rows of a page when the request names no limit [default: 10]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "N", default_value_t = 10, hide_default_value = true)
    )]
    pub page_rows_default: usize,
    /// Rows of a page at most: a larger limit is silently clamped to it [default: 100]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "N", default_value_t = 100, hide_default_value = true)
    )]
    pub page_rows_max: usize,
    /// Whether an order shows the quantity of its items. Default: yes.
    #[cfg_attr(feature = "cli", arg(long = "no-echo-quantity", action = clap::ArgAction::SetFalse,
        help = "Do not show the quantity of an order's items"))]
    pub echo_quantity: bool,
    /// Whether an order shows the note of its items. Default: yes.
    #[cfg_attr(feature = "cli", arg(long = "no-echo-note", action = clap::ArgAction::SetFalse,
        help = "Do not show the note of an order's items"))]
    pub echo_note: bool,
    /// Only these keys of a note are kept; without any, every key is (repeatable)
    #[cfg_attr(feature = "cli", arg(long = "keep-note-key", value_name = "KEY"))]
    pub note_keys: Vec<String>,
    /// Show what a line costs, as `totalPrice`
    #[cfg_attr(feature = "cli", arg(long))]
    pub echo_price: bool,
    /// How moments are written [default: rfc3339]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_enum, default_value = "rfc3339", hide_default_value = true)
    )]
    pub timestamps: Moments,
    /// Pages are asked for by number, from 1, with this parameter; an offset is not looked at
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub page_parameter: Option<String>,
    /// Every answer says how many requests a minute are allowed, in `X-RateLimit-Limit`
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub rate_limit_header: Option<u32>,
    /// Test orders (isMock) are orders like any other, and are debited
    #[cfg_attr(feature = "cli", arg(long))]
    pub mock_debits: bool,
    /// What somebody else buys has no note
    #[cfg_attr(feature = "cli", arg(long))]
    pub foreign_without_note: bool,
    /// Whether the list shows test orders (`isMock`). Default: yes.
    #[cfg_attr(feature = "cli", arg(long = "hide-mock", action = clap::ArgAction::SetFalse,
        help = "Do not list test orders (isMock)"))]
    pub list_mock: bool,
    /// The list carries the codes of completed orders too, not only GET /api/orders/{id}
    #[cfg_attr(feature = "cli", arg(long))]
    pub list_codes: bool,
    /// When the balance is debited [default: create]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_enum, default_value = "create", hide_default_value = true)
    )]
    pub pays_on: PayTime,
    /// Paying an order a second time debits a second time, instead of being refused
    #[cfg_attr(feature = "cli", arg(long))]
    pub repeated_pay_debits: bool,
    /// Paying an order a second time is answered like the first time, without a debit
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "repeated_pay_debits"))]
    pub repeated_pay_accepted: bool,
    /// The account's balance at the start [default: 1000000000]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "AMOUNT", default_value = "1000000000", hide_default_value = true)
    )]
    pub balance: Decimal,
    /// The currency of the balance [default: USD]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "NAME", default_value = "USD", hide_default_value = true)
    )]
    pub currency: String,
    /// A balance in another currency (repeatable)
    #[cfg_attr(feature = "cli", arg(long = "other-balance", value_name = "NAME=AMOUNT",
        value_parser = parse_price))]
    pub other_balances: Vec<UnitPrice>,
    /// A product that is paid in one of the other currencies (repeatable)
    #[cfg_attr(feature = "cli", arg(long = "paid-in", value_name = "ITEM=NAME",
        value_parser = parse_paid_in))]
    pub paid_in: Vec<(String, String)>,
    /// Failed and cancelled orders that were paid are paid back, once they are seen as such
    #[cfg_attr(feature = "cli", arg(long))]
    pub refunds: bool,
    /// Orders show what they cost: `totalPrice` and `currency`
    #[cfg_attr(feature = "cli", arg(long))]
    pub show_total: bool,
    /// Refuse with 402 what the balance does not cover, instead of going below zero
    #[cfg_attr(feature = "cli", arg(long))]
    pub enforce_balance: bool,
    /// The price of one product; a totalPrice that differs from it is refused (repeatable)
    #[cfg_attr(feature = "cli", arg(long = "price", value_name = "ITEM=AMOUNT",
        value_parser = parse_price))]
    pub prices: Vec<UnitPrice>,
    /// The price of every other product, for the price guard and the balance; without it they
    /// cost 1 and their totalPrice is not looked at
    #[cfg_attr(feature = "cli", arg(long, value_name = "AMOUNT"))]
    pub default_price: Option<Decimal>,
    /// A product that is not sold: 422 PRODUCT_NOT_FOUND (repeatable)
    #[cfg_attr(feature = "cli", arg(long = "refuse-product", value_name = "ITEM"))]
    pub refused_products: Vec<String>,
    /// How old an order is when it turns `paid` (after creation, or after its payment where
    /// `pays_on` is `pay`) [default: 100ms]
    #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "100ms",
        value_parser = super::parse_duration, hide_default_value = true))]
    pub paid_after: Duration,
    /// How old it is when it turns `processing` [default: 200ms]
    #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "200ms",
        value_parser = super::parse_duration, hide_default_value = true))]
    pub processing_after: Duration,
    /// How old it is when it turns `completed`, or `failed` [default: 500ms]
    #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "500ms",
        value_parser = super::parse_duration, hide_default_value = true))]
    pub completed_after: Duration,
    /// How old an unpaid order is when it is cancelled [default: 15m]
    #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value = "15m",
        value_parser = super::parse_duration, hide_default_value = true))]
    pub payment_expires_after: Duration,
    /// How far the supplier's clock is ahead of this machine's, in milliseconds; negative is
    /// behind [default: 0]
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "MS",
            default_value_t = 0,
            allow_negative_numbers = true,
            hide_default_value = true
        )
    )]
    pub clock_ahead_ms: i64,
}

impl Default for Contract {
    fn default() -> Self {
        Self {
            list_order: ListOrder::Newest,
            envelope: Envelope::Orders,
            page_rows_default: 10,
            page_rows_max: 100,
            echo_quantity: true,
            echo_note: true,
            note_keys: Vec::new(),
            echo_price: false,
            timestamps: Moments::Rfc3339,
            page_parameter: None,
            rate_limit_header: None,
            mock_debits: false,
            foreign_without_note: false,
            list_mock: true,
            list_codes: false,
            pays_on: PayTime::Create,
            repeated_pay_debits: false,
            repeated_pay_accepted: false,
            balance: Decimal::from(1_000_000_000),
            currency: "USD".to_owned(),
            other_balances: Vec::new(),
            paid_in: Vec::new(),
            refunds: false,
            show_total: false,
            enforce_balance: false,
            prices: Vec::new(),
            default_price: None,
            refused_products: Vec::new(),
            paid_after: Duration::from_millis(100),
            processing_after: Duration::from_millis(200),
            completed_after: Duration::from_millis(500),
            payment_expires_after: Duration::from_secs(15 * 60),
            clock_ahead_ms: 0,
        }
    }
}

/// Which end of the list comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum ListOrder {
    /// The newest order is row 0: rows shift to later pages while others buy.
    Newest,
    /// The oldest order is row 0: new orders come at the end.
    Oldest,
}

/// The JSON object around the rows of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Envelope {
    /// `{"orders":[…]}`
    Orders,
    /// `{"items":[…],"limit":…,"offset":…,"total":…}`
    Items,
    /// `[…]`: none
    Bare,
}

/// How moments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Moments {
    /// `2026-01-31T12:00:00.123Z`
    Rfc3339,
    /// `2026-01-31T12:00:00.123`, in UTC
    UtcWithoutZone,
    /// Whole seconds since 1970
    UnixSeconds,
    /// Whole milliseconds since 1970
    UnixMillis,
}

/// When the balance is debited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum PayTime {
    /// With the POST that creates the order: a repeated POST debits twice.
    Create,
    /// With `POST /api/orders/{id}/pay`: until then the order is `active` and free.
    Pay,
}

/// What one unit of one product costs, or what there is in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPrice {
    /// The product's id, or the currency's name.
    pub item_id: String,
    /// The price of one, in the account's currency.
    pub amount: Decimal,
}

impl Contract {
    /// Which of the currencies an item is paid in, by its place: 0 is the account's own.
    pub(super) fn currency_of(&self, item_id: &str) -> usize {
        let name = self.paid_in.iter().find(|(id, _)| id == item_id).map(|(_, name)| name);
        let place = |name: &String| self.other_balances.iter().position(|b| b.item_id == *name);
        name.and_then(place).map_or(0, |place| place + 1)
    }

    /// The currency at this place.
    pub(super) fn currency_at(&self, place: usize) -> &str {
        match place.checked_sub(1) {
            None => &self.currency,
            Some(other) => &self.other_balances[other].item_id,
        }
    }
}

#[cfg(feature = "cli")]
fn parse_paid_in(text: &str) -> Result<(String, String), String> {
    let (item_id, name) =
        text.rsplit_once('=').ok_or_else(|| format!("`{text}` is not ITEM=NAME"))?;
    Ok((item_id.to_owned(), name.to_owned()))
}

#[cfg(feature = "cli")]
fn parse_price(text: &str) -> Result<UnitPrice, String> {
    let (item_id, amount) =
        text.rsplit_once('=').ok_or_else(|| format!("`{text}` is not ITEM=AMOUNT"))?;
    let amount = amount.parse().map_err(|_| format!("`{amount}` is not an amount such as 4.95"))?;
    Ok(UnitPrice { item_id: item_id.to_owned(), amount })
}
