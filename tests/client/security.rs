//! TLS and logins, with a front that a test puts before its broker: it ends TLS, asks for a login, and passes the rest on.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use corelog::client::{ClientError, Fatal, Producer, ProducerRecord};
use corelog::protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use corelog::protocol::messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use corelog::protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use corelog::protocol::{ApiKey, Message, decode_header, decode_response_header, write_response};
use ring::{digest, hmac, pbkdf2};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::fixture::{Target, run, settings};

const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "me, myself=1";
const PASSWORD: &str = "pencil";

/// What the front asks of a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    None,
    Any,
}

struct Front {
    target: Target,
    port: u16,
    logins: Arc<AtomicUsize>,
    /// Holds the file with the certificate to trust.
    directory: tempfile::TempDir,
}

impl Front {
    /// `None` where the broker is another's: it cannot be told to advertise the front.
    async fn start(host: &str, has_tls: bool, login: Login, lifetime_ms: i64) -> Option<Front> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let advertised = format!("PLAINTEXT://127.0.0.1:{port}");
        let target = Target::start_own(|options| options.set("advertised.listeners", &advertised))?;
        let certified = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("trust.pem"), certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let tls = has_tls.then(|| TlsAcceptor::from(Arc::new(config)));
        let logins = Arc::new(AtomicUsize::new(0));
        let (broker, counted) = (target.bootstrap().to_owned(), logins.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (tls, broker, logins) = (tls.clone(), broker.clone(), counted.clone());
                tokio::spawn(async move {
                    let broker = TcpStream::connect(broker).await.ok()?;
                    match tls {
                        Some(tls) => {
                            serve(tls.accept(client).await.ok()?, broker, login, lifetime_ms, &logins).await
                        }
                        None => serve(client, broker, login, lifetime_ms, &logins).await,
                    }
                });
            }
        });
        Some(Front { target, port, logins, directory })
    }

    fn trust(&self) -> PathBuf {
        self.directory.path().join("trust.pem")
    }

    async fn produce(&self, topic: &str, pairs: &[(&str, &str)]) -> Result<Option<i64>, ClientError> {
        let bootstrap = format!("127.0.0.1:{}", self.port);
        let producer = Producer::new(settings(&bootstrap, pairs))?;
        let sent = producer.send(ProducerRecord::to(topic).value(b"v")).await;
        producer.close(PATIENCE).await?;
        Ok(sent?.offset)
    }
}

/// The server's side of a SCRAM exchange that has begun.
struct Scram {
    hash: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    salted: Vec<u8>,
    signed: String,
}

impl Scram {
    fn begin(mechanism: &str, client_first: &str) -> (Scram, String) {
        let (hash, hmac, derive) = match mechanism {
            "SCRAM-SHA-256" => (&digest::SHA256, hmac::HMAC_SHA256, pbkdf2::PBKDF2_HMAC_SHA256),
            _ => (&digest::SHA512, hmac::HMAC_SHA512, pbkdf2::PBKDF2_HMAC_SHA512),
        };
        let bare = client_first.strip_prefix("n,,").unwrap();
        let (name, nonce) = bare.split_once(",r=").unwrap();
        assert_eq!(name, "n=me=2C myself=3D1");
        let mut salted = vec![0; hash.output_len()];
        // "c2FsdA==" is "salt".
        pbkdf2::derive(derive, NonZeroU32::new(4096).unwrap(), b"salt", PASSWORD.as_bytes(), &mut salted);
        let server_first = format!("r={nonce}server,s=c2FsdA==,i=4096");
        (Scram { hash, hmac, salted, signed: format!("{bare},{server_first}") }, server_first)
    }

    fn sign(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hmac, key), message).as_ref().to_vec()
    }

    /// The last message, if the client knows the password.
    fn end(&self, client_final: &str) -> Option<String> {
        let (without_proof, proof) = client_final.split_once(",p=")?;
        let signed = format!("{},{without_proof}", self.signed);
        let client_key = self.sign(&self.salted, b"Client Key");
        let stored = digest::digest(self.hash, &client_key);
        let signature = self.sign(stored.as_ref(), signed.as_bytes());
        let expected: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        let server_key = self.sign(&self.salted, b"Server Key");
        (base64(&expected) == proof)
            .then(|| format!("v={}", base64(&self.sign(&server_key, signed.as_bytes()))))
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let letters = (bytes.len() * 8).div_ceil(6);
    let letter = |n: usize| char::from(ALPHABET[(0..6).fold(0, |value, at| value << 1 | bit(n * 6 + at))]);
    (0..letters).map(letter).chain(std::iter::repeat_n('=', (4 - letters % 4) % 4)).collect()
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).await.ok()?;
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}

async fn serve(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut broker: TcpStream,
    login: Login,
    lifetime_ms: i64,
    logins: &AtomicUsize,
) -> Option<()> {
    let mut mechanism = String::new();
    let mut scram = None;
    let mut is_in = login == Login::None;
    while !is_in {
        let asked = frame(&mut client).await?;
        let (header, mut body) = decode_header(&asked[4..]).unwrap();
        let (version, id) = (header.api_version, header.correlation_id);
        let mut out = BytesMut::new();
        match header.api_key {
            18 => {
                broker.write_all(&asked).await.ok()?;
                let answer = frame(&mut broker).await?;
                let (_, mut body) =
                    decode_response_header(&answer[4..], ApiKey::ApiVersions, version).unwrap();
                let mut response = ApiVersionsResponse::decode(&mut body, version).unwrap();
                let sasl = [(17, 1), (36, 1)].map(|(api_key, max_version)| ApiVersion {
                    api_key,
                    min_version: 0,
                    max_version,
                });
                response.api_keys = response.api_keys.iter().chain(sasl).collect();
                write_response(&response, version, id, &mut out);
            }
            17 => {
                mechanism = SaslHandshakeRequest::decode(&mut body, version).unwrap().mechanism.to_owned();
                write_response(&SaslHandshakeResponse::default(), version, id, &mut out);
            }
            36 => {
                let request = SaslAuthenticateRequest::decode(&mut body, version).unwrap();
                let message = std::str::from_utf8(request.auth_bytes).unwrap();
                let answer = match (mechanism.as_str(), scram.take()) {
                    ("PLAIN", _) => (message == format!("\0{NAME}\0{PASSWORD}")).then(String::new),
                    (mechanism, None) => {
                        let (begun, server_first) = Scram::begin(mechanism, message);
                        scram = Some(begun);
                        Some(server_first)
                    }
                    (_, Some(begun)) => begun.end(message),
                };
                is_in = answer.is_some() && scram.is_none();
                let response = SaslAuthenticateResponse {
                    error_code: if answer.is_some() { 0 } else { 58 },
                    error_message: answer.is_none().then(|| "wrong password".into()),
                    auth_bytes: answer.unwrap_or_default().into_bytes().into(),
                    session_lifetime_ms: if is_in { lifetime_ms } else { 0 },
                };
                write_response(&response, version, id, &mut out);
            }
            // Nothing else before the login.
            _ => return None,
        }
        client.write_all(&out).await.ok()?;
    }
    logins.fetch_add(1, Ordering::Relaxed);
    tokio::io::copy_bidirectional(&mut client, &mut broker).await.ok()?;
    Some(())
}

#[test]
fn records_go_through_tls_to_a_broker_that_is_who_it_says() {
    run(async {
        let Some(front) = Front::start("127.0.0.1", true, Login::None, 0).await else { return };
        let trust = front.trust();
        let tls = [("security.protocol", "SSL"), ("ssl.truststore.location", trust.to_str().unwrap())];
        assert_eq!(front.produce("t", &tls).await.unwrap(), Some(0));
        // In the clear, the front makes no sense of what it hears, nor we of what it says.
        let plain = [("max.block.ms", "1000"), ("socket.connection.setup.timeout.ms", "300")];
        front.produce("t", &plain).await.unwrap_err();
        let missing = [tls[0], ("ssl.truststore.location", "/no/such.pem")];
        let error = front.produce("t", &missing).await.unwrap_err();
        assert!(matches!(error, ClientError::Fatal(Fatal::TlsFile { .. })), "{error:?}");
        front.target.finish();
    });
}

#[test]
fn a_broker_with_the_certificate_of_another_is_refused_unless_hosts_are_not_checked() {
    run(async {
        let Some(front) = Front::start("somewhere.else", true, Login::None, 0).await else { return };
        let trust = front.trust();
        let tls = [("security.protocol", "SSL"), ("ssl.truststore.location", trust.to_str().unwrap())];
        let error = front.produce("t", &tls).await.unwrap_err();
        assert!(matches!(error, ClientError::Fatal(Fatal::Tls { .. })), "{error:?}");
        let any_host = [tls[0], tls[1], ("ssl.endpoint.identification.algorithm", "")];
        assert_eq!(front.produce("t", &any_host).await.unwrap(), Some(0));
        let other = rcgen::generate_simple_self_signed(vec!["somewhere.else".to_owned()]).unwrap();
        let path = front.directory.path().join("other.pem");
        std::fs::write(&path, other.cert.pem()).unwrap();
        let other = [tls[0], ("ssl.truststore.location", path.to_str().unwrap()), any_host[2]];
        let error = front.produce("t", &other).await.unwrap_err();
        assert!(matches!(error, ClientError::Fatal(Fatal::Tls { .. })), "not trusted at all: {error:?}");
        front.target.finish();
    });
}

#[test]
fn every_mechanism_logs_in_and_a_wrong_password_is_told_as_such() {
    run(async {
        let Some(front) = Front::start("127.0.0.1", false, Login::Any, 0).await else { return };
        for (n, mechanism) in (0..).zip(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]) {
            let login = |password| {
                [
                    ("security.protocol", "SASL_PLAINTEXT"),
                    ("sasl.mechanism", mechanism),
                    ("sasl.username", NAME),
                    ("sasl.password", password),
                ]
            };
            assert_eq!(front.produce("t", &login(PASSWORD)).await.unwrap(), Some(n), "{mechanism}");
            let error = front.produce("t", &login("pen")).await.unwrap_err();
            let ClientError::Fatal(Fatal::Authentication { mechanism: told, message, .. }) = error else {
                panic!("{error:?}")
            };
            assert_eq!((told.as_str(), message.as_str()), (mechanism, "wrong password"));
        }
        front.target.finish();
    });
}

#[test]
fn a_login_that_ends_is_followed_by_another() {
    run(async {
        let Some(front) = Front::start("127.0.0.1", false, Login::Any, 300).await else { return };
        let bootstrap = format!("127.0.0.1:{}", front.port);
        let login =
            [("security.protocol", "SASL_PLAINTEXT"), ("sasl.username", NAME), ("sasl.password", PASSWORD)];
        let producer = Producer::new(settings(&bootstrap, &login)).unwrap();
        for n in 0..10 {
            let metadata = producer.send(ProducerRecord::to("t").value(b"v")).await.unwrap();
            assert_eq!(metadata.offset, Some(n));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        producer.close(PATIENCE).await.unwrap();
        assert!(front.logins.load(Ordering::Relaxed) >= 3);
        front.target.finish();
    });
}
