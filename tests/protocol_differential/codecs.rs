//! The two codecs behind one face: bytes in, bytes out.

use bytes::{Bytes, BytesMut};
use corelog::protocol::messages::{AnyRequest, AnyResponse};
use corelog::protocol::shape::Shape;
use corelog::protocol::{ApiKey, DecodeError, Reader, Writer};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Request,
    Response,
}

/// One body's layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    pub api: ApiKey,
    pub direction: Direction,
    pub version: i16,
}

/// Every API, version and direction that we serve.
pub fn layouts() -> impl Iterator<Item = Layout> {
    ApiKey::ALL.iter().flat_map(|&api| {
        api.versions().flat_map(move |version| {
            [Direction::Request, Direction::Response].map(|direction| Layout { api, direction, version })
        })
    })
}

impl Layout {
    pub fn shape(self) -> Shape {
        match self.direction {
            Direction::Request => AnyRequest::shape(self.api),
            Direction::Response => AnyResponse::shape(self.api),
        }
    }

    /// Decodes with our codec and encodes in `version`. The whole body must be read.
    pub fn ours_in(self, body: &[u8], version: i16) -> Result<Vec<u8>, DecodeError> {
        let mut reader = Reader::new(body);
        let mut out = BytesMut::new();
        match self.direction {
            Direction::Request => AnyRequest::decode(self.api, self.version, &mut reader)?
                .encode_to(&mut Writer::contiguous(&mut out), version),
            Direction::Response => AnyResponse::decode(self.api, self.version, &mut reader)?
                .encode_to(&mut Writer::contiguous(&mut out), version),
        }
        assert!(reader.remaining().is_empty(), "{self:?}: {} bytes left", reader.remaining().len());
        Ok(out.to_vec())
    }

    pub fn ours(self, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
        self.ours_in(body, self.version)
    }

    /// What our codec reads, as `Debug` shows it.
    pub fn ours_as_text(self, body: &[u8]) -> String {
        let mut reader = Reader::new(body);
        match self.direction {
            Direction::Request => format!("{:?}", AnyRequest::decode(self.api, self.version, &mut reader)),
            Direction::Response => format!("{:?}", AnyResponse::decode(self.api, self.version, &mut reader)),
        }
    }

    /// The same with the other codec, and the decoded message as text.
    pub fn theirs_in(self, body: &[u8], version: i16) -> Result<(Vec<u8>, String), String> {
        let key = TheirKey::try_from(self.api.key()).map_err(|()| "unknown api".to_owned())?;
        let mut bytes = Bytes::copy_from_slice(body);
        let mut out = BytesMut::new();
        let text = match self.direction {
            Direction::Request => {
                let message =
                    RequestKind::decode(key, &mut bytes, self.version).map_err(|e| format!("{e:#}"))?;
                message.encode(&mut out, version).map_err(|e| format!("{e:#}"))?;
                format!("{message:?}")
            }
            Direction::Response => {
                let message =
                    ResponseKind::decode(key, &mut bytes, self.version).map_err(|e| format!("{e:#}"))?;
                message.encode(&mut out, version).map_err(|e| format!("{e:#}"))?;
                format!("{message:?}")
            }
        };
        assert!(bytes.is_empty(), "{self:?}: the other codec leaves {} bytes", bytes.len());
        Ok((out.to_vec(), text))
    }

    pub fn theirs(self, body: &[u8]) -> Result<Vec<u8>, String> {
        self.theirs_in(body, self.version).map(|(bytes, _)| bytes)
    }

    /// Does the other codec have this version? Asked of the codec itself; its table of ranges is off in places.
    pub fn is_known_to_them(self) -> bool {
        !matches!(self.theirs(&[]), Err(message) if message.contains("specified version not supported"))
    }
}
