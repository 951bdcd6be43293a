//! Lines of a CSV file with columns by name.

use order_router::{Item, Note, Order};

use super::{BadLine, reference};

/// Where the columns are.
#[derive(Debug)]
pub(super) struct Columns {
    count: usize,
    client_ref: usize,
    item_id: usize,
    quantity: usize,
    note: Option<usize>,
    total_price: Option<usize>,
    replaces: Option<usize>,
}

impl Columns {
    /// Reads the header; columns with other names are left alone.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let fields = fields(bytes)?;
        let names: Vec<_> = fields.iter().map(str::trim).collect();
        let find = |name: &str| {
            let mut places = names.iter().enumerate().filter(|(_, n)| **n == name);
            match (places.next(), places.next()) {
                (first, None) => Ok(first.map(|(place, _)| place)),
                (_, Some(_)) => Err(format!("there are two columns {name}")),
            }
        };
        let want = |name: &str| find(name)?.ok_or_else(|| format!("there is no column {name}"));
        Ok(Self {
            count: names.len(),
            client_ref: want("client_ref")?,
            item_id: want("item_id")?,
            quantity: want("quantity")?,
            note: find("note")?,
            total_price: find("total_price")?,
            replaces: find("replaces")?,
        })
    }

    /// Reads one row.
    pub(super) fn order(&self, bytes: &[u8]) -> Result<Order, BadLine> {
        let fields = fields(bytes).map_err(|why| BadLine::new(None, why))?;
        let client_ref = fields.get(self.client_ref).filter(|text| !text.is_empty());
        let bad = |why: String| BadLine::new(client_ref, why);
        if fields.len() != self.count {
            let why = format!("{} columns, where the header has {}", fields.len(), self.count);
            return Err(bad(why));
        }
        let optional = |at: Option<usize>| at.map(|i| &fields[i]).filter(|text| !text.is_empty());
        let reference = reference(client_ref, optional(self.replaces)).map_err(bad)?;
        let quantity = quantity(&fields[self.quantity]).map_err(bad)?;
        let mut item =
            Item::new(&fields[self.item_id], quantity).map_err(|error| bad(error.to_string()))?;
        if let Some(text) = optional(self.note) {
            // What a note holds is a customer's: no message repeats it.
            let note = Note::try_from(text.to_owned()).map_err(|error| bad(error.to_string()))?;
            item = item.note(note);
        }
        if let Some(text) = optional(self.total_price) {
            let price = text.parse().map_err(|error| bad(format!("{error}, not {text:?}")))?;
            item = item.total_price(price);
        }
        Order::new(reference, vec![item]).map_err(|error| bad(error.to_string()))
    }
}

fn quantity(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten().filter(|n| *n > 0);
    number.ok_or_else(|| {
        let text: String = text.chars().take(40).collect();
        format!("{}, not {text:?}", order_router::InvalidOrder::Quantity)
    })
}

fn fields(bytes: &[u8]) -> Result<csv::StringRecord, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(bytes.len().max(1))
        .from_reader(bytes);
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => Ok(record),
        Ok(false) => Err("the line is empty".to_owned()),
        Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
            Err("the line is no UTF-8".to_owned())
        }
        Err(error) => Err(format!("the line is no CSV: {error}")),
    }
}
