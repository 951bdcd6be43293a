//! The order-router command.
fn main() {}
