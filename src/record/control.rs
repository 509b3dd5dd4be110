//! Control records: written by brokers between the records of producers, never shown to consumers.
//!
//! ```text
//! key    i16 version (0), i16 type: 0 abort, 1 commit, others are the metadata quorum's
//! value  i16 version (0), i32 coordinator epoch          (abort and commit)
//! ```
//! Source: Apache Kafka `ControlRecordType`, `EndTransactionMarker`.

/// Bytes of a control record's key that every version has.
pub const CONTROL_KEY_BYTES: usize = 4;

const MARKER_VALUE_BYTES: usize = 6;

/// What a control record says. Others exist and are passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlKind {
    Abort,
    Commit,
    Other(i16),
}

/// The end of one producer's transaction in this partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndTransactionMarker {
    pub kind: ControlKind,
    pub coordinator_epoch: i32,
}

impl ControlKind {
    /// `None` if the key is too short or of a negative version.
    pub fn parse(key: &[u8]) -> Option<ControlKind> {
        let [v0, v1, t0, t1, ..] = *key else { return None };
        if i16::from_be_bytes([v0, v1]) < 0 {
            return None;
        }
        Some(match i16::from_be_bytes([t0, t1]) {
            0 => ControlKind::Abort,
            1 => ControlKind::Commit,
            other => ControlKind::Other(other),
        })
    }

    pub fn to_key(self) -> [u8; CONTROL_KEY_BYTES] {
        let code = match self {
            ControlKind::Abort => 0i16,
            ControlKind::Commit => 1,
            ControlKind::Other(code) => code,
        };
        let [t0, t1] = code.to_be_bytes();
        [0, 0, t0, t1]
    }
}

impl EndTransactionMarker {
    /// `None` if key and value are not an abort or commit marker.
    pub fn parse(key: &[u8], value: &[u8]) -> Option<EndTransactionMarker> {
        let kind = match ControlKind::parse(key)? {
            kind @ (ControlKind::Abort | ControlKind::Commit) => kind,
            ControlKind::Other(_) => return None,
        };
        let [v0, v1, e0, e1, e2, e3, ..] = *value else { return None };
        if i16::from_be_bytes([v0, v1]) < 0 {
            return None;
        }
        Some(EndTransactionMarker { kind, coordinator_epoch: i32::from_be_bytes([e0, e1, e2, e3]) })
    }

    pub fn to_value(self) -> [u8; MARKER_VALUE_BYTES] {
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        [0, 0, e0, e1, e2, e3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_round_trip() {
        for kind in [ControlKind::Abort, ControlKind::Commit] {
            let marker = EndTransactionMarker { kind, coordinator_epoch: 0x0102_0304 };
            assert_eq!(EndTransactionMarker::parse(&kind.to_key(), &marker.to_value()), Some(marker));
        }
        assert_eq!(ControlKind::Commit.to_key(), [0, 0, 0, 1]);
    }

    #[test]
    fn what_is_no_marker_is_none() {
        let check = |key: &[u8], value: &[u8]| assert_eq!(EndTransactionMarker::parse(key, value), None);
        check(&[0, 0, 0], &[0; 6]);
        check(&[0xff, 0xff, 0, 1], &[0; 6]);
        check(&[0, 0, 0, 2], &[0; 6]);
        check(&[0, 0, 0, 1], &[0; 5]);
    }
}
