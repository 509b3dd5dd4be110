//! What a journal's file holds, for whoever looks at it from outside: `corelog log verify`.

use std::path::Path;

use super::format;
use super::scan::{self, FoundGroup, JournalDamage, JournalDamageKind, JournalError, Scanned};
use crate::reactor::Files;

/// A journal as a start would find it now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inspection {
    pub size_bytes: u64,
    /// Groups that a start would carry out, their entries, and the bytes of these.
    pub live_groups: u64,
    pub live_entries: u64,
    pub live_bytes: u64,
    /// Whole groups of before, which count no more.
    pub stale_groups: u64,
    /// What keeps a start from carrying it out.
    pub damage: Option<JournalDamage>,
}

/// Reads a journal and changes nothing. While a broker writes to it, what is told is of several moments.
pub fn inspect(files: &mut dyn Files, path: &Path) -> Result<Inspection, JournalError> {
    let looked = scan::look(files, path, &mut |_| {})?;
    let mut inspection = Inspection {
        size_bytes: looked.size_bytes,
        stale_groups: looked.whole_groups,
        ..Inspection::default()
    };
    match looked.live {
        Ok(scanned) => {
            let live = scanned.groups.len() as u64;
            inspection.live_groups = live;
            // One that a misdirected write left twice is whole twice, and counts once.
            inspection.stale_groups -= live;
            let result = scanned.groups.iter().try_for_each(|group| check_entries(files, &scanned, group));
            files.close(scanned.file);
            let headers = scanned.groups.iter().map(|group| group.header);
            inspection.live_entries = headers.clone().map(|header| u64::from(header.entry_count)).sum();
            inspection.live_bytes = headers.map(|header| u64::from(header.payload_bytes)).sum();
            match result {
                Ok(()) => {}
                Err(JournalError::Damaged(damage)) => inspection.damage = Some(damage),
                Err(error) => return Err(error),
            }
        }
        Err(damage) => inspection.damage = Some(damage),
    }
    Ok(inspection)
}

/// Errors: an entry makes no sense.
fn check_entries(files: &mut dyn Files, scanned: &Scanned, group: &FoundGroup) -> Result<(), JournalError> {
    let mut buffer = Vec::new();
    let payload = scan::read_payload(files, scanned, group, &mut buffer)?;
    if format::entries(payload).all(|entry| entry.is_ok()) {
        return Ok(());
    }
    let kind = JournalDamageKind::Entry { sequence: group.header.sequence, position: group.position };
    Err(JournalError::Damaged(JournalDamage { path: scanned.path.clone(), kind }))
}
