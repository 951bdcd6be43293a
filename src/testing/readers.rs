//! The readers of all that others wrote: what is on the disk, and what a supplier answers.
//!
//! They are private otherwise; fuzzers reach them here.

pub use crate::store::readers::{
    FrameRead, change, change_bytes, frame, frame_bytes, index_value, key_of_change,
    reread_index_value,
};
pub use crate::supplier::readers::{balances, headers, order, order_body, page, path_segment};
