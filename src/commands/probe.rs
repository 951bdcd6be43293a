//! `order-router probe`: what a supplier's list shows and does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use order_router::probe::{self, Bought, Report, Watched};
use order_router::protocol::PaysOn;
use order_router::settings::Loaded;
use order_router::supplier::FoxReload;
use order_router::supplier::foxreload::Settings;
use order_router::{ClientRef, End, Item, Note, Order, OrderId, Price, SubmitError, Tag, TagKey};
use serde_json::json;

use super::failure::{Failure, chain};
use super::output::{errln, outln};
use super::settings::{self, RouterArgs};
use super::{looking, open};

/// Find out what a supplier's list shows and does, and propose settings
///
/// Reads about a dozen pages of the list and the balances, and changes nothing. What the account cannot show is
/// said to be not found out, never guessed. With --buy one order is bought in addition: through the store, like
/// any other order, so that a lost answer leads to looking and not to a second order, and another run joins it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit code: 0 everything that the router must know was found out, 1 something of it was not, or the order did not
end placed, 2 nothing could be said.

Examples:
  order-router probe --supplier URL
  order-router probe --supplier URL --settings-to order-router.toml
  order-router probe --supplier URL --buy card-10:1@9.99 --mock")]
pub struct ProbeArgs {
    /// Buy this once, to see what reading cannot show: QTY pieces of ITEM for PRICE in all. It costs that
    /// much, unless --mock is given and means something to this supplier
    #[arg(long, value_name = "ITEM:QTY@PRICE", value_parser = wish)]
    buy: Option<Wish>,
    /// What that order's note says beside its tag: a JSON object, where the product wants one
    #[arg(long, value_name = "JSON", requires = "buy", value_parser = note)]
    buy_note: Option<Note>,
    /// The reference of that order; the same one joins it, another one buys another
    #[arg(long, value_name = "REF", default_value = "probe", value_parser = reference)]
    buy_ref: ClientRef,
    /// How long to look for that order in the list
    #[arg(long, value_name = "D", default_value = "1m",
        value_parser = order_router::simulator::parse_duration)]
    seen_within: Duration,
    /// One JSON object, instead of a table and a file of settings
    #[arg(long)]
    json: bool,
    /// Write the proposed settings to this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    settings_to: Option<PathBuf>,
    #[command(flatten)]
    router: RouterArgs,
}

/// What is to be bought.
#[derive(Clone, Debug)]
struct Wish {
    item: Item,
}

fn wish(text: &str) -> Result<Wish, String> {
    let shape = || format!("`{text}` is not ITEM:QTY@PRICE, such as card-10:1@9.99");
    let (rest, price) = text.rsplit_once('@').ok_or_else(shape)?;
    let (item, quantity) = rest.rsplit_once(':').ok_or_else(shape)?;
    let quantity = quantity.parse().map_err(|_| shape())?;
    let price: Price = price.parse().map_err(|error| format!("{error}"))?;
    let item = Item::new(item, quantity).map_err(|error| error.to_string())?;
    Ok(Wish { item: item.total_price(price) })
}

fn note(text: &str) -> Result<Note, String> {
    Note::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn reference(text: &str) -> Result<ClientRef, String> {
    ClientRef::new(text).map_err(|error| error.to_string())
}

/// Looks, buys where it is told to, and tells.
pub fn run(args: &ProbeArgs) -> ExitCode {
    match found(args) {
        Ok((report, is_whole)) => {
            tell(args, &report);
            let kept = args.settings_to.as_deref().map(|path| keep(path, &report)).transpose();
            match kept {
                Ok(_) if is_whole => ExitCode::SUCCESS,
                Ok(_) => ExitCode::from(1),
                Err(failure) => failure.report(),
            }
        }
        Err(failure) => failure.report(),
    }
}

fn found(args: &ProbeArgs) -> Result<(Report, bool), Failure> {
    let loaded = args.router.load()?;
    if let Some(path) = args.settings_to.as_deref().filter(|path| path.exists()) {
        let what = format!("{} is there already", path.display());
        return Err(Failure::unread(what, "name another file with --settings-to"));
    }
    let client = loaded.client().map_err(|problem| {
        Failure::unread(problem.to_string(), "name a PEM file that can be read")
    })?;
    let (_, supplier, _) = open::parts(&loaded, 1)?;
    looking::runtime()?.block_on(async {
        let looked = probe::look(&supplier, loaded.base_url()).await;
        let mut report = looked.map_err(|error| {
            let what = format!("no list was read from {}: {}", loaded.base_url(), chain(&error));
            let next = "see that supplier, orders_path and the key are right, then run again";
            Failure::unread(what, next)
        })?;
        let bought = match &args.buy {
            Some(wish) => buy(args, &loaded, wish, report.apply(client), &mut report).await?,
            None => true,
        };
        let is_whole = bought && !report.is_partial();
        Ok((report, is_whole))
    })
}

/// Buys one order by the router's rules, and looks at it. False: it did not end placed.
async fn buy(
    args: &ProbeArgs,
    loaded: &Loaded,
    wish: &Wish,
    client: Settings,
    report: &mut Report,
) -> Result<bool, Failure> {
    let key = client.echo.tag.map_or_else(|| TagKey::new(probe::TAG_KEY), Ok);
    let key = key.map_err(|error| Failure::unread(error.to_string(), "correct tag_key"))?;
    let tag = (key, Tag::of(&args.buy_ref));
    // The tag is written here: the router is not to rely on it yet.
    let mut client = client;
    client.echo.tag = None;
    let mock = client.mock;
    let (config, _, runtime) = open::parts(loaded, 1)?;
    // What is proved absent is not sent again, and what is created is not paid.
    let config = config.tries_max(1).pays_on(PaysOn::Create);
    let clock = Arc::clone(&runtime.clock);
    let secret = settings::key(loaded)?;
    let supplier = FoxReload::new(loaded.base_url(), &secret, client, Arc::clone(&clock))
        .map_err(|error| Failure::nothing_sent(chain(&error), "correct the setting"))?;
    let noted = noted(&wish.item, args.buy_note.as_ref(), tag)?;
    let order = Order::new(args.buy_ref.clone(), vec![noted.clone()])
        .map_err(|error| Failure::nothing_sent(error.to_string(), "correct --buy"))?;
    let balances = Bought::balances_before(&supplier).await;
    let watched = Watched::new(supplier, clock);
    let only = &args.buy_ref;
    let router = open::open_for(only, loaded, watched.clone(), config, runtime).await?;
    open::ready(&router, loaded).await?;
    let end = router.submit(order).await;
    let order_id = placed(args, end);
    if let Some(order_id) = order_id.clone() {
        let within = Some(args.seen_within);
        let bought = Bought { order_id, item: noted, tag, balances, mock, within };
        probe::after_buying(&watched, &bought, report).await;
    }
    open::stop(&router, Duration::ZERO).await;
    Ok(order_id.is_some())
}

/// The line with a note that has the tag in it.
fn noted(item: &Item, note: Option<&Note>, (key, tag): (TagKey, Tag)) -> Result<Item, Failure> {
    let mut fields = match note.map(|note| serde_json::from_str(note.as_json())) {
        Some(Ok(serde_json::Value::Object(fields))) => fields,
        _ => serde_json::Map::new(),
    };
    fields.insert(key.to_string(), tag.to_string().into());
    let note = Note::new(&fields.into())
        .map_err(|error| Failure::nothing_sent(error.to_string(), "shorten --buy-note"))?;
    Ok(item.clone().note(note))
}

/// The order that was bought, or what became of it instead.
fn placed(args: &ProbeArgs, end: Result<End, SubmitError>) -> Option<OrderId> {
    let reference = &args.buy_ref;
    match end {
        Ok(End::Placed { order_id, .. }) => return Some(order_id),
        Ok(End::Refused { why }) => {
            errln!("order {reference} was refused, nothing was bought: {why}")
        }
        Ok(End::NotPlaced { why }) => {
            errln!("order {reference} was not placed, nothing was bought: {why}")
        }
        Ok(End::Unpaid { order_id, why }) => {
            errln!("order {reference} is {order_id}, not paid: {why}")
        }
        Err(error) => errln!(
            "{error}\n  to do: run the same command again; under the same --buy-ref it joins this order and \
             buys no other"
        ),
    }
    None
}

fn keep(path: &Path, report: &Report) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("{} was not written: {error}", path.display());
        Failure::unread(what, "name a file that can be made")
    };
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(report.settings().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn tell(args: &ProbeArgs, report: &Report) {
    if args.json {
        let (supplier, facts) = (&report.supplier, &report.facts);
        outln!("{}", json!({"supplier": supplier, "facts": facts, "settings": report.settings()}));
        return;
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["what", "found", "to know"]);
    for fact in &report.facts {
        let found = fact.found.as_deref().unwrap_or("not found out");
        table.add_row([fact.name, found, &fact.note]);
    }
    outln!("{table}\n");
    outln!("# Proposed settings:");
    outln!("{}", report.settings().trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bought_names_item_quantity_and_money() {
        let wish = wish("a:b@c:2@9.90").expect("a wish");
        assert_eq!((wish.item.id(), wish.item.quantity()), ("a:b@c", 2));
        assert_eq!(wish.item.price().map(ToString::to_string).as_deref(), Some("9.90"));
        for text in [
            "card",
            "card:1",
            "card@1",
            "card:0@1",
            "card:1@",
            "card:1@-1",
            ":1@1",
            "card:x@1",
            "card:1@1e3",
        ] {
            assert!(super::wish(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_tag_stands_beside_what_the_note_says() {
        let (key, tag) = (TagKey::new("k").unwrap(), Tag::of(&ClientRef::new("probe").unwrap()));
        let own = Note::new(&json!({"player": 1})).unwrap();
        let item = Item::new("card", 1).unwrap();
        let text =
            |note| noted(&item, note, (key, tag)).unwrap().note_ref().unwrap().as_json().to_owned();
        assert_eq!(text(Some(&own)), format!(r#"{{"k":"{tag}","player":1}}"#));
        assert_eq!(text(None), format!(r#"{{"k":"{tag}"}}"#));
    }
}
