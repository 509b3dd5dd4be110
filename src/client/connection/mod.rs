//! One connection to one broker: frames in and out, many requests in flight, answers matched to what was asked.
//!
//! *Owns* a socket and a task that writes, reads and watches the time. Requests leave in the order in which they were
//! submitted, gathered into as few writes as possible; Kafka answers in order, so the oldest request in flight is the one
//! that an answer is for, and a correlation id that says otherwise ends the connection. When it ends, for whatever reason,
//! every request that has no answer fails: no caller waits for ever. *Never* connects again; that is `cluster`'s business.

mod base64;
mod exchange;
mod sasl;
mod served;
mod tls;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use crate::config::Address;
use crate::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::{
    ApiKey, DecodeError, ErrorCode, Message, Reader, Request, Response, decode_response_header,
    request_slices,
};

use super::error::{ClientError, Fatal, Retriable, Waited};
use super::settings::ClientSettings;
use super::time::Instant;

pub use served::Served;

use exchange::{Outgoing, Reply};
use tls::Tls;
use transport::Transport;

/// Told to brokers, which count clients by it (KIP-511).
const SOFTWARE_NAME: &str = "corelog";

/// How much of a login's time is used: what is asked at its end must still be answered.
const LIFETIME_USED: f64 = 0.85;

/// What it takes to connect, made once a client: settings, and what was read from files for TLS.
#[derive(Debug)]
pub struct Connector {
    settings: ClientSettings,
    /// `None`: in the clear.
    tls: Option<Tls>,
}

/// A connection to a broker. Cheap to clone; the socket closes with the last clone, once what is in flight has its answer.
#[derive(Clone, Debug)]
pub struct Connection {
    address: Address,
    client_id: Arc<str>,
    served: Arc<Served>,
    request_timeout: Duration,
    /// The login holds no longer; `None`: for ever.
    expires: Option<Instant>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    shared: Arc<Shared>,
}

/// What the handles of a connection and its task share.
#[derive(Debug)]
struct Shared {
    correlation_id: AtomicI32,
    in_flight: AtomicUsize,
    opened: Instant,
    /// Milliseconds from `opened` to the last request.
    used_ms: AtomicU64,
}

/// A broker's answer, not decoded yet: what it decodes to borrows from it.
#[derive(Clone, Debug)]
pub struct Answer {
    frame: Bytes,
    pub api: ApiKey,
    pub version: i16,
    /// From the submission of the request to its answer.
    pub latency: Duration,
    address: Address,
}

/// An answer that is on its way.
#[derive(Debug)]
pub struct Pending {
    reply: oneshot::Receiver<Result<Answer, ClientError>>,
    address: Address,
    api: ApiKey,
}

impl Connector {
    /// Errors: files that the settings name for TLS cannot be read or do not hold what they should.
    pub fn new(settings: &ClientSettings) -> Result<Connector, ClientError> {
        let tls = settings.security.tls.as_ref().map(Tls::new).transpose()?;
        Ok(Connector { settings: settings.clone(), tls })
    }

    /// Connects, learns what the broker serves, and logs in. Errors: nobody there, no broker there, no login, or no end in
    /// `socket.connection.setup.timeout.ms`, which doubles with each of the `failures` before.
    pub async fn open(&self, address: &Address, failures: u32) -> Result<Connection, ClientError> {
        let settings = &self.settings;
        let doubled = settings.connection_setup_timeout.saturating_mul(1 << failures.min(16));
        let patience = doubled.min(settings.connection_setup_timeout_max);
        match tokio::time::timeout(patience, self.open_patiently(address)).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let what = Waited::Connection(address.clone());
                Err(Retriable::TimedOut { what, after: patience, last: None }.into())
            }
        }
    }

    async fn open_patiently(&self, address: &Address) -> Result<Connection, ClientError> {
        let newest = *ApiKey::ApiVersions.versions().end();
        let mut connection = self.connect(address).await?;
        let served = match connection.ask_served(newest).await {
            // Brokers that know no ApiVersions request of this age may hang up instead of saying so.
            Err(ClientError::Retriable(Retriable::Disconnected { .. })) => {
                connection = self.connect(address).await?;
                let not_kafka = |error| match error {
                    ClientError::Retriable(Retriable::Disconnected { .. }) => {
                        Fatal::NotKafka { address: address.clone() }.into()
                    }
                    error => error,
                };
                connection.ask_served(0).await.map_err(not_kafka)?
            }
            other => other?,
        };
        connection.served = Arc::new(served);
        if let Some(mechanism) = &self.settings.security.sasl {
            let lifetime = sasl::login(&connection, mechanism).await?;
            // A login that ends is not renewed on the connection; another connection takes its place before.
            connection.expires = lifetime.map(|lifetime| Instant::now() + lifetime.mul_f64(LIFETIME_USED));
        }
        Ok(connection)
    }

    async fn connect(&self, address: &Address) -> Result<Connection, ClientError> {
        let transport = Transport::connect(address, &self.settings, self.tls.as_ref()).await?;
        let (outgoing, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            correlation_id: AtomicI32::new(0),
            in_flight: AtomicUsize::new(0),
            opened: Instant::now(),
            used_ms: AtomicU64::new(0),
        });
        tokio::spawn(exchange::run(transport, receiver, address.clone(), shared.clone()));
        Ok(Connection {
            address: address.clone(),
            client_id: self.settings.client_id.as_str().into(),
            served: Arc::new(Served::before_asking()),
            request_timeout: self.settings.request_timeout,
            expires: None,
            outgoing,
            shared,
        })
    }
}

impl Connection {
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the connection has ended, so that what is submitted now fails at once, or should not be used any more.
    pub fn is_closed(&self) -> bool {
        self.outgoing.is_closed() || self.expires.is_some_and(|moment| moment <= Instant::now())
    }

    /// Requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// How long nothing was asked; zero while an answer is out.
    pub fn idle(&self) -> Duration {
        if self.in_flight() > 0 {
            return Duration::ZERO;
        }
        let used = Duration::from_millis(self.shared.used_ms.load(Ordering::Relaxed));
        self.shared.opened.elapsed().saturating_sub(used)
    }

    /// `request.timeout.ms`.
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    pub fn served(&self) -> &Served {
        &self.served
    }

    /// The newest version of `api` that both sides speak. Errors: there is none.
    pub fn version(&self, api: ApiKey) -> Result<i16, ClientError> {
        self.version_at_most(api, i16::MAX)
    }

    /// As [`Connection::version`], for a caller that cannot do with newer ones than `newest`.
    pub fn version_at_most(&self, api: ApiKey, newest: i16) -> Result<i16, ClientError> {
        let address = || self.address.clone();
        self.served.version(api, newest).ok_or_else(|| Fatal::Unsupported { api, address: address() }.into())
    }

    /// Asks in the newest version that both sides speak, and waits `request.timeout.ms` for the answer.
    pub async fn ask<'r, Q: Request<'r>>(&self, request: &Q) -> Result<Answer, ClientError> {
        let version = self.version(Q::API)?;
        self.submit(request, version, self.request_timeout).await
    }

    /// Queues a request behind those submitted before; the answer is awaited apart. The order on the wire is the order of
    /// these calls. `version` is one that both sides speak.
    pub fn submit<'r, Q: Request<'r>>(&self, request: &Q, version: i16, timeout: Duration) -> Pending {
        let (sender, receiver) = oneshot::channel();
        self.queue(request, version, timeout, Reply::Answer(sender));
        Pending { reply: receiver, address: self.address.clone(), api: Q::API }
    }

    /// As [`Connection::submit`], for a caller that does not wait: `then` is called with the answer, on the connection's
    /// task, so it must be quick. If brokers do not answer the request (`acks=0`), it is called with `None` once the request
    /// was given to the kernel.
    pub fn submit_then<'r, Q: Request<'r>>(
        &self,
        request: &Q,
        version: i16,
        timeout: Duration,
        is_answered: bool,
        then: impl FnOnce(Result<Option<Answer>, ClientError>) + Send + 'static,
    ) {
        let then = Box::new(then);
        let reply = if is_answered { Reply::Call(then) } else { Reply::Written(then) };
        self.queue(request, version, timeout, reply);
    }

    fn queue<'r, Q: Request<'r>>(&self, request: &Q, version: i16, timeout: Duration, reply: Reply) {
        let correlation_id = self.shared.correlation_id.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut scratch = BytesMut::with_capacity(256);
        let pieces = request_slices(request, version, correlation_id, Some(&self.client_id), &mut scratch);
        let used = now.duration_since(self.shared.opened).as_millis();
        self.shared.used_ms.store(u64::try_from(used).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let outgoing = Outgoing {
            pieces,
            api: Q::API,
            version,
            correlation_id,
            submitted: now,
            deadline: now + timeout,
            timeout,
            reply,
        };
        if let Err(mpsc::error::SendError(refused)) = self.outgoing.send(outgoing) {
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            refused.reply.fail(ended(&self.address, Q::API));
        }
    }

    async fn ask_served(&self, version: i16) -> Result<Served, ClientError> {
        let api = ApiKey::ApiVersions;
        let request = ApiVersionsRequest {
            client_software_name: if version >= 3 { SOFTWARE_NAME } else { "" },
            client_software_version: if version >= 3 { env!("CARGO_PKG_VERSION") } else { "" },
        };
        let answer = self.submit(&request, version, self.request_timeout).await?;
        // A broker that does not know the version answers in version 0 and names its own (KIP-511). Both layouts begin with
        // the error code.
        let refused = answer.body().is_some_and(|body| {
            body.remaining().starts_with(&ErrorCode::UnsupportedVersion.code().to_be_bytes())
        });
        let not_kafka = |_| Fatal::NotKafka { address: self.address.clone() };
        if !refused {
            let response: ApiVersionsResponse<'_> = answer.decode().map_err(not_kafka)?;
            ClientError::check(api, self.address.to_string(), response.error_code, None)?;
            return Ok(Served::of(&response));
        }
        let answer = Answer { version: 0, ..answer };
        let served = Served::of(&answer.decode::<ApiVersionsResponse<'_>>().map_err(not_kafka)?);
        match served.version(api, version - 1).or((version > 0).then_some(0)) {
            Some(lower) if lower < version => Box::pin(self.ask_served(lower)).await,
            _ => Err(Fatal::Unsupported { api, address: self.address.clone() }.into()),
        }
    }
}

fn ended(address: &Address, api: ApiKey) -> ClientError {
    let source = Arc::new(std::io::Error::from(std::io::ErrorKind::NotConnected));
    Retriable::Disconnected { address: address.clone(), api: Some(api), source }.into()
}

impl Future for Pending {
    type Output = Result<Answer, ClientError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.reply)
            .poll(context)
            .map(|reply| reply.unwrap_or_else(|_dropped| Err(ended(&self.address, self.api))))
    }
}

impl Answer {
    /// What the broker said. Errors: bytes that are no answer to what was asked.
    /// Panics when decoded as something else than what was asked.
    pub fn decode<'a, R: Response<'a>>(&'a self) -> Result<R, ClientError> {
        assert_eq!(R::API, self.api, "an answer is decoded as what was asked");
        self.try_decode().map_err(|source| {
            Fatal::Malformed { api: self.api, address: self.address.clone(), source }.into()
        })
    }

    fn try_decode<'a, R: Message<'a>>(&'a self) -> Result<R, DecodeError> {
        let (_, mut body) = decode_response_header(&self.frame, self.api, self.version)?;
        R::decode(&mut body, self.version)
    }

    fn body(&self) -> Option<Reader<'_>> {
        decode_response_header(&self.frame, self.api, self.version).ok().map(|(_, body)| body)
    }

    /// The frame without its length: bytes that decoded messages borrow lie in it, so that a slice of it keeps them.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }
}
