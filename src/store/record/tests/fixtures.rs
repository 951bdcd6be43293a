//! Every form that is read stands in a fixture of `tests/fixtures`, so that it stays readable.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::runtime::disk::SystemDisk;
use crate::store::embedded::{FORMAT_VERSION, Places};
use crate::store::journal::{SEGMENT_VERSION, Segments};

fn fixtures() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let all =
        std::fs::read_dir(all).expect("fixtures").map(|entry| entry.expect("an entry").path());
    all.filter(|path| path.join("format").is_file()).collect()
}

/// Whether this build reads records of a version and kind, as far as their first two bytes say.
fn is_read(version: u8, kind: u8) -> bool {
    let refused = [RecordError::Invalid("kind"), RecordError::Invalid("version")];
    match decode_change(&[version, kind]) {
        Err(RecordError::Newer(_)) => false,
        Err(error) => !refused.contains(&error),
        Ok(_) => true,
    }
}

#[test]
fn every_layout_and_every_kind_and_version_of_record_has_a_fixture() {
    let (mut layouts, mut kinds, mut versions) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for dir in fixtures() {
        let layout = std::fs::read_to_string(dir.join("format")).expect("a format file");
        layouts.insert(layout.trim().rsplit(' ').next().expect("words").to_owned());
        let disk: Arc<dyn crate::runtime::disk::Disk> = Arc::new(SystemDisk);
        let places = Places::find(&disk, &dir).expect("a store");
        let segments = Segments::find(disk, &places.journal).expect("segments");
        let all = segments.read_all(&mut |_, frame| {
            frame.records(&mut |record| {
                versions.insert(record[0]);
                kinds.insert(record[1]);
            });
            Ok(())
        });
        all.expect("whole");
    }
    let wanted: BTreeSet<_> = (1..=FORMAT_VERSION).map(|version| version.to_string()).collect();
    assert_eq!(layouts, wanted, "a layout without a fixture: see tests/it/formats.rs");
    let wanted: BTreeSet<_> = (0..=u8::MAX).filter(|kind| is_read(RECORD_PLAIN, *kind)).collect();
    assert_eq!(kinds, wanted, "a kind of record without a fixture: see tests/it/formats.rs");
    let wanted: BTreeSet<_> = (RECORD_PLAIN..=RECORD_VERSION).collect();
    assert_eq!(versions, wanted, "a version of records without a fixture: see tests/it/formats.rs");
    assert_eq!(SEGMENT_VERSION, 1, "a version of segments without a fixture");
}
