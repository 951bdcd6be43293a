//! `order-router audit`: the supplier's account against the store.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use order_router::audit::{
    self, AuditError, Books, Finding, Kind, MoneyTerms, Report, Span, Spend,
};
use order_router::settings::StorePlace;
use order_router::simulator::parse_duration;
use order_router::supplier::{Row, Supplier};
use order_router::{Amount, Balance, Config, Currency, InvalidAmount};

use super::failure::{Failure, chain};
use super::looking::{self, Wanted};
use super::open;
use super::output::{errln, outln};
use super::settings::RouterArgs;

/// How often the list is read between two readings of a balance that moves.
const BALANCE_TRIES: usize = 3;

/// Compare the supplier's account with the store: what was bought too often, by others, or is missing
///
/// Reads the supplier's list back to the span's beginning, then the store, without its lock or lease; also
/// while a router is at work. Nothing is sent, and nothing is changed.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
What is told:
  double       nobody has it, and an order of ours is for the same items: bought too often
  orphan       nobody has it, which the router knows, and no order of ours is for its items
  foreign      nobody has it, and the router does not know it: somebody else buys here
  unmatched    an order of ours has it, and the list does not show it
  other_items  an order of ours has it, and the list shows other items
  unpaid       an order of ours has it, and it is still not paid
  paid_after_all
               an order of ours has it that ended unpaid, and the list shows it as paid
What may be one of the orders in doubt just now is none of these. Orders from before the first start are left
out. Exit code: 0 all is well, 1 something is off, 2 nothing could be said.

Money: what the orders in the span cost, by what the list says (--order-total-field), else by the price guards
of orders of ours for the same items. With --opening-balance it is held against what the balance lost:
opening + topped up - debited + paid back = closing, to the last digit. Failed and cancelled orders may have been
paid back or not; anything else that no order explains is off, and so is an order whose cost nobody knows.

Examples:
  order-router audit --supplier URL
  order-router audit --supplier URL --back 7d --format csv > audit.csv
  order-router audit --supplier URL --back 24h --opening-balance 1250.00 --topped-up 500
  order-router audit --supplier URL --back all --opening-balance USD=100 --closing-balance USD=12.40")]
pub struct AuditArgs {
    /// How far back; `all` is to the end of the list
    #[arg(long, value_name = "D", default_value = "24h", value_parser = back)]
    back: Back,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The balance when the span began, by your own books: `AMOUNT`, or `CURRENCY=AMOUNT` (repeatable)
    #[arg(long, value_name = "AMOUNT", value_parser = named, allow_negative_numbers = true)]
    opening_balance: Vec<Named>,
    /// The balance now, in the same form; without it the supplier is asked (repeatable)
    #[arg(long, value_name = "AMOUNT", value_parser = named, allow_negative_numbers = true,
        requires = "opening_balance")]
    closing_balance: Vec<Named>,
    /// What was paid in since, in the same form (repeatable)
    #[arg(long, value_name = "AMOUNT", value_parser = named, requires = "opening_balance")]
    topped_up: Vec<Named>,
    #[command(flatten)]
    router: RouterArgs,
}

/// An amount, of a currency or of the only one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    currency: Option<Currency>,
    amount: Amount,
}

fn named(text: &str) -> Result<Named, String> {
    let (currency, amount) = match text.split_once('=') {
        None => (None, text),
        Some((name, amount)) => {
            let currency = Currency::new(name).ok_or("the currency must be a name such as USD")?;
            (Some(currency), amount)
        }
    };
    let amount = amount.parse().map_err(|error: InvalidAmount| error.to_string())?;
    Ok(Named { currency, amount })
}

/// How far back an audit looks.
#[derive(Clone, Copy, Debug)]
enum Back {
    All,
    By(Duration),
}

fn back(text: &str) -> Result<Back, String> {
    if text == "all" {
        return Ok(Back::All);
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days.and_then(|days| days.checked_mul(24 * 60 * 60)) {
        Some(seconds) => Ok(Back::By(Duration::from_secs(seconds))),
        None => parse_duration(text).map(Back::By),
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON object
    Json,
    /// One line for each finding, with a header
    Csv,
}

/// Compares, tells, and says by its exit code whether something is off.
pub fn run(args: &AuditArgs) -> ExitCode {
    match report(args) {
        Ok(report) => {
            tell(args.format, &report);
            match report.is_off() {
                false => ExitCode::SUCCESS,
                true => ExitCode::from(1),
            }
        }
        Err(failure) => failure.report(),
    }
}

fn report(args: &AuditArgs) -> Result<Report, Failure> {
    let loaded = args.router.load()?;
    let (config, supplier, runtime) = open::parts(&loaded, 1)?;
    let now = runtime.clock.wall();
    let since = match args.back {
        Back::All => None,
        Back::By(span) => now.checked_sub(span).ok(),
    };
    let span = Span { since, ..config.audit_span() };
    let echo = supplier.capabilities().echo;
    let asks = args.asks_for_balance()?;
    let (rows, balances) = looking::runtime()?.block_on(read(&*supplier, span, asks))?;
    let rows = rows.map_err(|error| {
        let what = format!("nothing can be said of {}: {}", loaded.base_url(), chain(&error));
        Failure::unread(
            what,
            "see that the supplier is reached and its list understood, then run again",
        )
    })?;
    let place = match (loaded.data(), loaded.database()) {
        (_, Some(url)) => StorePlace::Database(url.clone()),
        (Some(dir), None) => StorePlace::Directory(dir.to_owned()),
        (None, None) => return Err(Failure::unread("no store is named", "name it with --data")),
    };
    let (_, snapshot) = looking::orders(&place, Wanted::All)?;
    let intents = snapshot.intents.values();
    let found = &snapshot.rehydration;
    let mut report = audit::audit(&rows, intents.clone().cloned(), found, echo, span, now);
    let terms = args.terms(&config, &balances)?;
    report.add_money(&rows, intents, echo, span, &terms);
    Ok(report)
}

/// Reads the list, and the balances where they are asked for: the same before and after it, or nothing can be
/// said of what they lost for the orders on it.
async fn read(
    supplier: &dyn Supplier,
    span: Span,
    asks: bool,
) -> Result<(Result<Vec<Row>, AuditError>, Vec<Balance>), Failure> {
    if !asks {
        return Ok((audit::read_list(supplier, span).await, Vec::new()));
    }
    let balances = || async {
        supplier.balances().await.map_err(|error| {
            let what = format!("the balance was not read: {error}");
            Failure::unread(what, "name it with --closing-balance, or run again")
        })
    };
    for _ in 0..BALANCE_TRIES {
        let before = balances().await?;
        let rows = audit::read_list(supplier, span).await;
        if rows.is_err() || balances().await? == before {
            return Ok((rows, before));
        }
    }
    let what = "the balance changed each time while the list was read: orders are bought just now";
    let next = "run again when it is quiet, or name the balance with --closing-balance";
    Err(Failure::unread(what, next))
}

impl AuditArgs {
    /// Whether a closing balance is to be asked for.
    fn asks_for_balance(&self) -> Result<bool, Failure> {
        let lists = [
            ("--opening-balance", &self.opening_balance),
            ("--closing-balance", &self.closing_balance),
            ("--topped-up", &self.topped_up),
        ];
        for (flag, list) in lists {
            for (n, one) in list.iter().enumerate() {
                let is_same = |other: &Named| other.currency == one.currency;
                let opens = self.opening_balance.iter().any(is_same);
                if list[..n].iter().any(is_same) || !opens {
                    let what = format!("{flag}: each currency once, and with an opening balance");
                    return Err(Failure::unread(what, "name each currency in the same way"));
                }
            }
        }
        Ok(self.closing_balance.len() < self.opening_balance.len())
    }

    fn terms(&self, config: &Config, balances: &[Balance]) -> Result<MoneyTerms, Failure> {
        let mut currency = config.balance_currency_set().cloned();
        if let (None, [only]) = (&currency, balances) {
            currency = Some(only.currency.clone());
        }
        let of = |list: &[Named], wanted: &Named| {
            let same = list.iter().find(|named| named.currency == wanted.currency);
            same.map(|named| named.amount)
        };
        let books = self.opening_balance.iter().map(|opening| {
            let name = opening.currency.clone().or_else(|| currency.clone());
            let shown = || {
                let same = |balance: &&Balance| Some(&balance.currency) == name.as_ref();
                balances.iter().find(same).map(|balance| balance.amount)
            };
            let closing = of(&self.closing_balance, opening).or_else(shown).ok_or_else(|| {
                let what = "the supplier shows several currencies, or not the one that was named";
                Failure::unread(what, "name it: --opening-balance USD=100.00")
            })?;
            let topped_up = of(&self.topped_up, opening).unwrap_or_default();
            Ok(Books { currency: name, opening: opening.amount, closing, topped_up })
        });
        let books = books.collect::<Result<Vec<_>, Failure>>()?;
        Ok(MoneyTerms { currency, pays_on: config.pays_on_set(), books })
    }
}

fn tell(format: Format, report: &Report) {
    match format {
        Format::Json => match serde_json::to_string(report) {
            Ok(text) => outln!("{text}"),
            Err(error) => errln!("the report could not be written: {error}"),
        },
        Format::Csv => csv(report),
        Format::Table => table(report),
    }
}

/// The fields of a finding, as text.
fn fields(finding: &Finding) -> [String; 7] {
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        finding.kind.word().to_owned(),
        finding.order_id.to_string(),
        text(finding.client_ref.as_ref().map(ToString::to_string)),
        text(finding.status.clone()).chars().filter(|c| !c.is_control()).collect(),
        text(finding.created_at.map(|at| at.to_string())),
        text(finding.cost.as_ref().map(|cost| cost.amount.to_string())),
        text(finding.cost.as_ref().and_then(|cost| cost.currency.clone()).map(String::from)),
    ]
}

/// What does not add up, as one more line.
fn spend_fields(spend: &Spend) -> Option<[String; 7]> {
    let equation = spend.equation.as_ref().filter(|equation| !equation.adds_up())?;
    let mut fields = <[String; 7]>::default();
    fields[0] = "unexplained".to_owned();
    fields[5] = equation.difference.to_string();
    fields[6] = spend.currency.clone().map(String::from).unwrap_or_default();
    Some(fields)
}

const HEADER: [&str; 7] =
    ["kind", "order_id", "client_ref", "status", "created_at", "amount", "currency"];

fn csv(report: &Report) {
    let mut writer = csv::Writer::from_writer(io::stdout().lock());
    let written = writer.write_record(HEADER).and_then(|()| {
        let lines = report.findings.iter().map(fields);
        let mut lines = lines.chain(report.money.iter().filter_map(spend_fields));
        lines.try_for_each(|line| writer.write_record(line))
    });
    // A reader that has seen enough is no failure.
    if let Err(error) = written.and_then(|()| writer.flush().map_err(Into::into))
        && !matches!(error.kind(), csv::ErrorKind::Io(io) if io.kind() == io::ErrorKind::BrokenPipe)
    {
        errln!("standard output cannot be written: {error}");
    }
}

fn table(report: &Report) {
    let Report { orders, matched, history, in_doubt, findings, .. } = report;
    let since = report.since.map_or("the beginning".to_owned(), |since| since.to_string());
    outln!("{orders} orders on the account since {since}");
    outln!(
        "{matched} of them are ours, {history} from before the first start, {in_doubt} may be in doubt just now"
    );
    report.money.iter().for_each(spent);
    if findings.is_empty() {
        outln!("{}", if report.is_off() { "no order is off" } else { "nothing is off" });
        return;
    }
    let count = |kind: Kind| findings.iter().filter(|finding| finding.kind == kind).count();
    let counts = Kind::ALL.map(|kind| (kind, count(kind)));
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    outln!("{}", counts.map(|(kind, n)| format!("{n} {kind}")).collect::<Vec<_>>().join(", "));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(HEADER);
    for finding in findings {
        table.add_row(fields(finding));
    }
    outln!("{table}");
}

/// What the orders cost, and whether it adds up.
fn spent(spend: &Spend) {
    let currency = spend.currency.as_ref().map_or("(no currency named)", Currency::as_str);
    let Spend { debited, refundable, known, unpriced, .. } = spend;
    outln!(
        "{currency}: {debited} debited, {refundable} of failed and cancelled orders; {known} known to the store"
    );
    let by_status = spend.by_status.iter();
    let by_status = by_status.map(|(status, of)| {
        let status: String = status.chars().filter(|c| !c.is_control()).collect();
        format!("{} {status} {}", of.orders, of.amount)
    });
    outln!("  {}", by_status.collect::<Vec<_>>().join(", "));
    if *unpriced > 0 {
        outln!("  {unpriced} orders whose cost nobody knows");
    }
    let Some(equation) = &spend.equation else { return };
    let audit::Equation { opening, topped_up, closing, spent, refunded, difference, unpriced } =
        equation;
    outln!("  {opening} + {topped_up} topped up - {spent} spent = {closing}, {refunded} paid back");
    match (equation.adds_up(), unpriced) {
        (true, _) => outln!("  it adds up"),
        (false, 0) => outln!("  it does not add up: no order explains {difference}"),
        (false, _) => outln!(
            "  it is not shown to add up: {difference} beside {unpriced} orders whose cost nobody knows"
        ),
    }
}
