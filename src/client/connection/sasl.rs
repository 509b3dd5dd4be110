//! Logs a connection in: PLAIN and SCRAM inside SaslHandshake and SaslAuthenticate.
//!
//! | mechanism | messages of the client | source |
//! | --- | --- | --- |
//! | PLAIN | `NUL name NUL password` | RFC 4616 |
//! | SCRAM-SHA-256, -512 | `n,,n=name,r=nonce`, then `c=biws,r=nonce,p=proof` | RFC 5802, RFC 7677 |

use std::num::NonZeroU32;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use crate::client::error::{ClientError, Fatal};
use crate::client::settings::SaslMechanism;
use crate::protocol::ApiKey;
use crate::protocol::messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use crate::protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::{Connection, base64};

/// Fewer rounds would make the password easy to guess for whoever listens. Source: RFC 7677, section 4; the least that
/// Apache Kafka accepts too (`ScramMechanism`).
const ITERATIONS_MIN: u32 = 4096;

/// More would keep the client busy for as long as a false broker likes.
const ITERATIONS_MAX: u32 = 1_000_000;

const NONCE_BYTES: usize = 24;

/// Logs in. Gives the time for which the login holds, if the broker limits it (KIP-368).
pub(super) async fn login(
    connection: &Connection,
    mechanism: &SaslMechanism,
) -> Result<Option<Duration>, ClientError> {
    let refused = |message: String| {
        let address = connection.address().clone();
        Fatal::Authentication { address, mechanism: mechanism.name().to_owned(), message }
    };
    let request = SaslHandshakeRequest { mechanism: mechanism.name() };
    // Version 0 would be followed by messages without frames.
    let version = connection.version(ApiKey::SaslHandshake)?;
    if version < 1 {
        return Err(refused("it is too old to log in by SaslAuthenticate".to_owned()).into());
    }
    let answer = connection.ask(&request).await?;
    let response: SaslHandshakeResponse<'_> = answer.decode()?;
    if response.error_code != 0 {
        let offered: Vec<String> = response.mechanisms.iter().map(|name| name.as_str().to_owned()).collect();
        return Err(refused(format!("it offers {}", offered.join(", "))).into());
    }
    let step = async |message: &[u8]| {
        let answer = connection.ask(&SaslAuthenticateRequest { auth_bytes: message }).await?;
        let response: SaslAuthenticateResponse<'_> = answer.decode()?;
        if response.error_code != 0 {
            let message = response.error_message.as_deref().unwrap_or("no reason is given").to_owned();
            return Err(ClientError::from(refused(message)));
        }
        let lifetime = u64::try_from(response.session_lifetime_ms).ok().filter(|ms| *ms > 0);
        Ok((response.auth_bytes.to_vec(), lifetime.map(Duration::from_millis)))
    };
    match mechanism {
        SaslMechanism::Plain { username, password } => {
            let (_, lifetime) = step(format!("\0{username}\0{password}").as_bytes()).await?;
            Ok(lifetime)
        }
        SaslMechanism::ScramSha256 { username, password }
        | SaslMechanism::ScramSha512 { username, password } => {
            let hash = match mechanism {
                SaslMechanism::ScramSha512 { .. } => Hash::SHA_512,
                _ => Hash::SHA_256,
            };
            let malformed = |wrong: ScramFault| ClientError::from(refused(wrong.text().to_owned()));
            let exchange = Scram::new(hash, username, &nonce());
            let (server_first, _) = step(exchange.client_first().as_bytes()).await?;
            let proven = exchange.prove(password, &server_first).map_err(malformed)?;
            let (server_final, lifetime) = step(proven.client_final.as_bytes()).await?;
            if !proven.is_proof(&server_final) {
                return Err(Fatal::ServerSignature { address: connection.address().clone() }.into());
            }
            Ok(lifetime)
        }
    }
}

fn nonce() -> String {
    let mut bytes = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    base64::encode(&bytes)
}

/// The functions that a mechanism is named after.
#[derive(Clone, Copy)]
struct Hash {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

impl Hash {
    const SHA_256: Hash =
        Hash { digest: &digest::SHA256, hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 };
    const SHA_512: Hash =
        Hash { digest: &digest::SHA512, hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 };
}

/// What is wrong with a server's message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ScramFault {
    NotAnAnswer,
    OtherNonce,
    Iterations,
}

impl ScramFault {
    fn text(self) -> &'static str {
        match self {
            ScramFault::NotAnAnswer => "its SCRAM message is none",
            ScramFault::OtherNonce => "its SCRAM nonce does not continue ours",
            ScramFault::Iterations => "it asks for too few or too many SCRAM iterations",
        }
    }
}

/// The client's side of one SCRAM exchange.
struct Scram {
    hash: Hash,
    client_nonce: String,
    client_first_bare: String,
}

/// The last message, and what the server has to answer.
struct Proven {
    client_final: String,
    server_signature: Vec<u8>,
}

impl Scram {
    fn new(hash: Hash, username: &str, client_nonce: &str) -> Scram {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        Scram {
            hash,
            client_nonce: client_nonce.to_owned(),
            client_first_bare: format!("n={name},r={client_nonce}"),
        }
    }

    fn client_first(&self) -> String {
        format!("n,,{}", self.client_first_bare)
    }

    fn prove(&self, password: &str, server_first: &[u8]) -> Result<Proven, ScramFault> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| ScramFault::NotAnAnswer)?;
        let mut parts = server_first.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(iterations)) = (part("r="), part("s="), part("i=")) else {
            return Err(ScramFault::NotAnAnswer);
        };
        if !nonce.starts_with(&self.client_nonce) || nonce.len() == self.client_nonce.len() {
            return Err(ScramFault::OtherNonce);
        }
        let salt = base64::decode(salt).ok_or(ScramFault::NotAnAnswer)?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramFault::NotAnAnswer)?;
        let iterations = NonZeroU32::new(iterations)
            .filter(|count| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&count.get()))
            .ok_or(ScramFault::Iterations)?;

        let mut salted = vec![0; self.hash.digest.output_len()];
        pbkdf2::derive(self.hash.pbkdf2, iterations, &salt, password.as_bytes(), &mut salted);
        let sign = |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(self.hash.hmac, key), message);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest, client_key.as_ref());
        // "biws" is `n,,`: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.client_first_bare);
        let signature = sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = sign(&salted, b"Server Key");
        Ok(Proven {
            client_final: format!("{without_proof},p={}", base64::encode(&proof)),
            server_signature: sign(server_key.as_ref(), signed.as_bytes()).as_ref().to_vec(),
        })
    }
}

impl Proven {
    /// Whether the server's last message proves that it knows the password.
    fn is_proof(&self, server_final: &[u8]) -> bool {
        let text = std::str::from_utf8(server_final).ok();
        let signature = text.and_then(|text| text.split(',').next()).and_then(|part| part.strip_prefix("v="));
        signature.and_then(base64::decode).is_some_and(|signature| signature == self.server_signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scram_is_that_of_the_rfc() {
        // The example of RFC 7677, section 3.
        let scram = Scram::new(Hash::SHA_256, "user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(scram.client_first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proven = scram.prove("pencil", server_first).map_err(ScramFault::text).unwrap();
        assert_eq!(
            proven.client_final,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(proven.is_proof(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!proven.is_proof(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="));
        assert!(!proven.is_proof(b"e=other-error") && !proven.is_proof(b"\xff"));
    }

    #[test]
    fn a_server_that_asks_for_the_wrong_thing_gets_no_proof() {
        let scram = Scram::new(Hash::SHA_512, "a=b,c", "nonce");
        assert_eq!(scram.client_first(), "n,,n=a=3Db=2Cc,r=nonce");
        let check = |server_first: &str, expected| {
            let fault = scram.prove("pw", server_first.as_bytes()).map(|_| ()).unwrap_err();
            assert_eq!(fault, expected, "{server_first}");
        };
        check("", ScramFault::NotAnAnswer);
        check("e=unknown-user", ScramFault::NotAnAnswer);
        check("r=nonce1,s=!,i=4096", ScramFault::NotAnAnswer);
        check("r=nonce1,s=QQ==,i=many", ScramFault::NotAnAnswer);
        check("r=other1,s=QQ==,i=4096", ScramFault::OtherNonce);
        check("r=nonce,s=QQ==,i=4096", ScramFault::OtherNonce);
        check("r=nonce1,s=QQ==,i=1", ScramFault::Iterations);
        check("r=nonce1,s=QQ==,i=4000000000", ScramFault::Iterations);
        assert!(scram.prove("pw", b"r=nonce1,s=QQ==,i=4096").is_ok());
    }
}
