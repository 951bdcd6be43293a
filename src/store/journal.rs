//! The journal: the truth of the embedded store, append-only.
//!
//! # Layout
//! `journal/0000000000000001.seg` and on: segments of a set size (default 64 MiB). A segment is a
//! header (magic, version, its own number, the sequence number of its first frame, CRC) and then
//! frames. A **frame** is one batch of changes made durable together:
//!
//! ```text
//! length u32 │ crc32c u32 │ sequence u64 │ standing after it │ count u32 │ (length u32, record)*
//! ```
//!
//! The CRC is seeded with the segment's number and covers length, sequence and body, so that a
//! frame copied or left over from elsewhere is no frame. The *standing* says how many changes,
//! intents and claims there are after the frame, with XORs of their hashes: every frame is a
//! checkpoint that the index, or a replay, is compared with.
//!
//! # Writing
//! One committer writes. A batch is one write and one `fdatasync`, and only one is ever under way:
//! nothing of it is visible, answered or sent before the sync has returned. So the presence of a
//! frame proves that every frame before it was synced. On any error of a write or a sync the
//! journal is latched: the page cache may show bytes that the disk does not have, and a second
//! sync may succeed without them.
//!
//! A full segment is left as it is. The next one is created, its header written, the file and the
//! directory synced, and only then is it appended to.
//!
//! # Reading the tail
//! - Zeros up to the end of the last segment: room allocated ahead. The journal ends here.
//! - A frame that is not whole, with nothing readable behind it: the write that the power cut or
//!   the kill interrupted. Nobody was told of it. It is cut off.
//! - A frame that is not whole, with a whole one behind it or in a later segment: written records
//!   were damaged. Acknowledged orders may be gone: the store refuses to open.
//! - A gap in the sequence, a missing segment, an index that knows of later frames than the
//!   journal has: the same.
//!
//! Before anything is done on the word of a recovered journal, its last frame is written again and
//! file and directories are synced: after a kill, or a sync that failed, the frame may be in the
//! page cache alone.
//!
//! # Room
//! Segments are kept: they are the only complete copy. While less than a reserve is free on the
//! disk, new orders are refused and the outcomes of open ones are still written.

mod frame;
mod read;
mod recover;
mod writer;

#[cfg(test)]
pub(crate) use frame::SEGMENT_VERSION;
pub(crate) use frame::{Frame, Position, SEGMENT_HEADER_BYTES};
#[cfg(feature = "testing")]
pub(crate) use frame::{begin, finish};
pub(crate) use read::{Segments, Tail};
pub(crate) use recover::recover;
pub(crate) use writer::Journal;

#[cfg(test)]
mod tests;
