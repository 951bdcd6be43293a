//! The flags that several commands share: supplier, router, store.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use order_router::protocol::evidence::Means;
use order_router::simulator::parse_duration;
use order_router::supplier::foxreload::{Paging, Settings};
use order_router::supplier::{ApiKey, ListEnvelope};
use order_router::{Config, EchoProfile, StartAnswer};
use secrecy::SecretString;

use super::failure::{Failure, chain};

/// Environment variable of the supplier's key.
const KEY_VARIABLE: &str = "ORDER_ROUTER_API_KEY";

/// Where the journal and its index are.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// The directory of the journal; one process, one account
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./order-router-data",
        env = "ORDER_ROUTER_DATA"
    )]
    pub data: PathBuf,
}

/// Everything that a router is started with.
#[derive(Args, Clone, Debug)]
pub struct RouterArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Where orders are remembered, instead of --data: `embedded:DIR`, or `postgres://USER:PASSWORD@
    /// HOST:PORT/DATABASE?schema=NAME`, one schema for one account; better by the variable, since
    /// everybody can see a flag
    #[cfg(feature = "postgres")]
    #[arg(long, value_name = "URL", env = "ORDER_ROUTER_STORE", hide_env_values = true)]
    pub store: Option<String>,
    #[command(flatten)]
    pub supplier: SupplierArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub start: StartArgs,
}

/// The supplier, in every point where suppliers differ.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Supplier")]
pub struct SupplierArgs {
    /// The supplier's base URL; https, unless it is on this machine
    #[arg(long, value_name = "URL", env = "ORDER_ROUTER_SUPPLIER")]
    pub supplier: String,
    /// Read the key from this file instead of ORDER_ROUTER_API_KEY; only its owner may read it
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A name for the account; change it when the same URL and key come to mean another one
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    account: String,
    /// Path of the POST and of the list [default: /api/orders]
    #[arg(long, value_name = "PATH")]
    orders_path: Option<String>,
    /// Path of one order [default: /api/orders/{id}]
    #[arg(long, value_name = "PATH")]
    order_path: Option<String>,
    /// Key of the rows in a list, or `-` when the list is a bare array [default: orders]
    #[arg(long, value_name = "KEY")]
    list_envelope: Option<String>,
    /// Key of the number of all rows in a list [default: total]
    #[arg(long, value_name = "KEY")]
    list_total: Option<String>,
    /// A further parameter of the list; never a status filter, which hides orders (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    list_query: Vec<(String, String)>,
    /// Ask for pages by number with this parameter, instead of by offset
    #[arg(long, value_name = "NAME")]
    page_parameter: Option<String>,
    /// The list begins with the oldest order
    #[arg(long)]
    oldest_first: bool,
    /// Rows asked for at once [default: 100]
    #[arg(long, value_name = "N")]
    page_limit: Option<u32>,
    /// The list does not show quantities
    #[arg(long)]
    no_echo_quantity: bool,
    /// The list shows notes; without it, orders that differ in the note alone are bought one
    /// after the other
    #[arg(long)]
    echo_note: bool,
    /// A 200 or 202 with an id proves an order, as a 201 does
    #[arg(long)]
    ok_creates: bool,
    /// A 429 leaves an order in doubt, for suppliers that create some all the same
    #[arg(long)]
    rate_limited_unknown: bool,
    /// A refusal for want of balance (402) proves that nothing was bought; wrong, it buys twice
    #[arg(long)]
    balance_not_sent: bool,
    /// Send test orders (isMock), which cost nothing
    #[arg(long)]
    mock: bool,
    /// How long connecting may take [default: 5s, at most half the request timeout]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    connect_timeout: Option<Duration>,
    /// How long reading the list may take, for each page [default: 30s]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    read_timeout: Option<Duration>,
    /// How long unacknowledged bytes of an order may stay on the wire
    /// [default: 10s, at most the request timeout]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    wire_bound: Option<Duration>,
    /// Trust only the certificate authorities of this PEM file
    #[arg(long, value_name = "FILE")]
    root_certificates: Option<PathBuf>,
    /// Go through this proxy; those of other environment variables are never used, and one that
    /// repeats requests buys twice
    #[arg(long, value_name = "URL", env = "ORDER_ROUTER_PROXY", hide_env_values = true,
        value_parser = secret)]
    proxy: Option<SecretString>,
    /// Send the key over http to another machine: whoever listens has it
    #[arg(long)]
    allow_http: bool,
}

/// What the router takes upon itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits (durations such as 300ms, 1.5s, 15m)")]
pub struct LimitArgs {
    /// After how long without an answer an order counts as in doubt
    #[arg(long, value_name = "D", default_value = "30s", value_parser = parse_duration)]
    pub request_timeout: Duration,
    /// Within how long after it was sent an order takes effect and shows in the list, or `never`:
    /// then a person decides. Too short is the one setting that buys twice
    #[arg(long, value_name = "D", default_value = "15m", value_parser = bound)]
    landing_bound: Bound,
    /// Most orders sent a minute, such as 60 or 60/min [default: none; a 429 is obeyed]
    #[arg(long, value_name = "N/min", value_parser = rate)]
    rate: Option<u32>,
    /// Most orders in doubt; at it, nothing more is sent until some are decided
    #[arg(long, value_name = "N", default_value_t = 100)]
    doubts_max: usize,
    /// Most POSTs at once [default: 512, or the concurrency if that is more]
    #[arg(long, value_name = "N")]
    posts_max: Option<usize>,
    /// Most POSTs of identical orders at once [default: as --posts-max]
    #[arg(long, value_name = "N")]
    lane_posts_max: Option<usize>,
    /// How often an order that proved absent is sent before it ends not placed
    #[arg(long, value_name = "N", default_value_t = 3)]
    tries: u8,
    /// For how long an order is worth sending; unsent by then, it ends not placed
    #[arg(long, value_name = "D", default_value = "1h", value_parser = parse_duration)]
    good_for: Duration,
    /// How long after it was recorded an order may begin to leave
    #[arg(long, value_name = "D", default_value = "2s", value_parser = parse_duration)]
    send_window: Duration,
    /// Least time between two listings
    #[arg(long, value_name = "D", default_value = "500ms", value_parser = parse_duration)]
    list_interval: Duration,
    /// How much further back than the oldest order in doubt a listing reads, for rows that are
    /// slightly out of order
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse_duration)]
    list_margin: Duration,
    /// First pause between two looks for an order in doubt; each is twice as long as the last
    #[arg(long, value_name = "D", default_value = "2s", value_parser = parse_duration)]
    look_again: Duration,
    /// Longest pause between two looks for an order in doubt
    /// [default: 60s, or the first if that is longer]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    look_again_max: Option<Duration>,
    /// By how much the supplier's clock may be off
    #[arg(long, value_name = "D", default_value = "1h", value_parser = parse_duration)]
    clock_margin: Duration,
    /// How long the start tries to read one list that is understood
    #[arg(long, value_name = "D", default_value = "60s", value_parser = parse_duration)]
    probe_limit: Duration,
    /// Orders that differ in the price guard alone are not interchangeable
    #[arg(long)]
    guard_distinguishes: bool,
    /// Trust the list to show items as they were sent before that was seen
    #[arg(long)]
    trust_echo: bool,
    /// Threads that the orders are spread over
    #[arg(long, value_name = "N", default_value_t = 1)]
    shards: usize,
}

/// Answers to what the account shows at start.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Answers to what the account shows at start")]
pub struct StartArgs {
    /// The account is new to this data directory: what is on it is history. Only while the
    /// directory is empty; a supplier on this machine counts as new by itself
    #[arg(long, conflicts_with = "adopt_unknown_orders")]
    accept_new_account: bool,
    /// Orders that the data directory does not know are somebody else's. Wrong after a backup
    /// was restored: what was bought since would be bought again
    #[arg(long)]
    adopt_unknown_orders: bool,
}

/// A landing bound; `None`: never. (Of a bare `Option` clap would make an optional flag.)
#[derive(Clone, Copy, Debug)]
struct Bound(Option<Duration>);

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "never" => Ok(Bound(None)),
        _ => parse_duration(text).map(|span| Bound(Some(span))),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A proxy's URL can hold a password.
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/min").unwrap_or(text);
    let rate = number.parse().ok().filter(|n| *n > 0);
    rate.ok_or_else(|| format!("`{text}` is not a rate such as 60 or 60/min"))
}

impl DataArgs {
    /// For commands about orders that there are already: a mistyped directory is not made, and no
    /// account is read for it.
    pub fn existing(&self) -> Result<(), Failure> {
        if self.data.is_dir() {
            return Ok(());
        }
        let what = format!("there is no data directory {}", self.data.display());
        Err(Failure::unread(what, "name the one that `submit` uses with --data"))
    }
}

impl SupplierArgs {
    /// The key, from the file or the environment; never from a flag, which everybody can see.
    pub fn key(&self) -> Result<ApiKey, Failure> {
        let (key, next) = match &self.api_key_file {
            Some(path) => {
                let next = "write the supplier's key, and nothing else, to a file that only you \
                    can read";
                (ApiKey::from_file(path), next.to_owned())
            }
            None => {
                let next = format!(
                    "set {KEY_VARIABLE} to the supplier's key (any text will do for a simulated \
                     supplier), or use --api-key-file"
                );
                (ApiKey::from_env(KEY_VARIABLE), next)
            }
        };
        key.map_err(|error| {
            Failure::nothing_sent(format!("there is no API key: {}", chain(&error)), next)
        })
    }

    /// Whether the supplier is on this machine: a simulated one.
    pub fn is_loopback(&self) -> bool {
        let rest = self.supplier.split_once("://").map_or(&*self.supplier, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host = match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or(v6),
            None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
        };
        host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The client's settings.
    pub fn settings(&self, limits: &LimitArgs) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        let owned = |text: &String| Cow::Owned(text.clone());
        let paths = [
            (&mut settings.orders_path, &self.orders_path),
            (&mut settings.order_path, &self.order_path),
            (&mut settings.list_total, &self.list_total),
        ];
        for (setting, flag) in paths {
            if let Some(text) = flag {
                *setting = owned(text);
            }
        }
        match self.list_envelope.as_deref() {
            None => {}
            Some("-") => settings.list_envelope = ListEnvelope::Bare,
            Some(key) => settings.list_envelope = ListEnvelope::Key(key.to_owned().into()),
        }
        settings.list_query =
            self.list_query.iter().map(|(name, value)| (owned(name), owned(value))).collect();
        if let Some(page) = &self.page_parameter {
            settings.paging = Paging::Page { page: owned(page), limit: "limit".into(), first: 1 };
        }
        settings.newest_first = !self.oldest_first;
        settings.page_limit = self.page_limit.unwrap_or(settings.page_limit);
        settings.echo = EchoProfile { quantity: !self.no_echo_quantity, note: self.echo_note };
        settings.evidence.ok_and_accepted_create = self.ok_creates;
        if self.rate_limited_unknown {
            settings.evidence.rate_limited = Means::Unknown;
        }
        if self.balance_not_sent {
            settings.evidence.balance = Means::NotSent;
        }
        settings.mock = self.mock;
        let half = limits.request_timeout / 2;
        settings.connect_timeout =
            self.connect_timeout.unwrap_or(settings.connect_timeout.min(half));
        settings.wire_bound = self.wire_bound(limits);
        settings.read_timeout = self.read_timeout.unwrap_or(settings.read_timeout);
        settings.root_certificates = self.root_certificates.as_ref().map(read_pem).transpose()?;
        settings.proxy.clone_from(&self.proxy);
        settings.allow_http = self.allow_http;
        settings.account.clone_from(&self.account);
        Ok(settings)
    }

    fn wire_bound(&self, limits: &LimitArgs) -> Duration {
        let span = self.wire_bound.unwrap_or(Settings::default().wire_bound);
        span.min(limits.request_timeout)
    }
}

fn read_pem(path: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let what = format!("--root-certificates {}: {error}", path.display());
        Failure::nothing_sent(what, "name a PEM file that can be read")
    })
}

impl LimitArgs {
    fn look_again_longest(&self) -> Duration {
        const DEFAULT: Duration = Duration::from_secs(60);
        self.look_again_max.unwrap_or(DEFAULT.max(self.look_again))
    }
}

impl RouterArgs {
    /// The router's configuration; `posts` can be under way at once at least.
    pub fn config(&self, posts: usize) -> Config {
        let Self { supplier, limits, start, .. } = self;
        let posts_max = limits.posts_max.unwrap_or(posts.max(512));
        let answer = match start {
            StartArgs { accept_new_account: true, .. } => StartAnswer::NewAccount,
            StartArgs { adopt_unknown_orders: true, .. } => StartAnswer::Adopt,
            // Taken only when the store is empty.
            _ if supplier.is_loopback() => StartAnswer::NewAccount,
            _ => StartAnswer::Ask,
        };
        Config::default()
            .request_timeout(limits.request_timeout)
            .landing_bound(limits.landing_bound.0)
            .rate_per_minute(limits.rate)
            .doubts_max(limits.doubts_max)
            .posts_max(posts_max)
            .lane_posts_max(limits.lane_posts_max.unwrap_or(posts_max))
            .tries_max(limits.tries)
            .good_for(limits.good_for)
            .send_window(limits.send_window)
            .list_interval(limits.list_interval)
            .list_margin(limits.list_margin)
            .look_again(limits.look_again, limits.look_again_longest())
            .clock_margin(limits.clock_margin)
            .probe_limit(limits.probe_limit)
            .guard_distinguishes(limits.guard_distinguishes)
            .trust_echo(limits.trust_echo)
            .shards(limits.shards)
            .start(answer)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        router: RouterArgs,
    }

    fn parse(flags: &str) -> RouterArgs {
        let words = std::iter::once("x").chain(flags.split_whitespace());
        Alone::try_parse_from(words).map(|alone| alone.router).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for url in ["http://127.0.0.1:80", "http://[::1]:8080/x", "http://localhost", "localhost:1"]
        {
            assert!(parse(&format!("--supplier {url}")).supplier.is_loopback(), "{url}");
        }
        for url in
            ["https://public-api.foxreload.com", "http://10.0.0.1:80", "https://localhost.org"]
        {
            assert!(!parse(&format!("--supplier {url}")).supplier.is_loopback(), "{url}");
        }
    }

    #[test]
    fn without_flags_the_router_is_the_librarys() {
        let args = parse("--supplier https://example.org");
        assert_eq!(args.config(64), Config::default());
    }

    #[test]
    fn pauses_between_looks_are_two_flags_that_agree() {
        let longest = |flags: &str| {
            let args = parse(&format!("--supplier https://example.org {flags}"));
            args.config(64).check().map(|()| args.limits.look_again_longest().as_secs())
        };
        assert_eq!(longest("--look-again 300ms --list-margin 1s"), Ok(60));
        assert_eq!(longest("--look-again 90s"), Ok(90));
        assert_eq!(longest("--look-again-max 5s"), Ok(5));
        assert!(longest("--look-again-max 1s").is_err());
    }

    #[test]
    fn sockets_keep_within_a_short_request_timeout() {
        let args = parse("--supplier http://127.0.0.1:1 --request-timeout 1s --landing-bound 4s");
        let settings = args.supplier.settings(&args.limits).unwrap();
        assert_eq!(settings.connect_timeout, Duration::from_millis(500));
        assert_eq!(settings.wire_bound, Duration::from_secs(1));
        args.config(64).check().unwrap();
    }

    #[test]
    fn rates_are_numbers_above_zero() {
        assert_eq!((rate("60"), rate("1000/min")), (Ok(60), Ok(1000)));
        assert!(rate("0").is_err() && rate("60/s").is_err());
    }
}
