//! Moving slots over the admin server, as `corelog cluster move-slot` does.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use corelog_clients::Broker;

/// Moves a slot. False: the broker says why not (it is there already, or there is no such core).
pub fn move_slot(broker: &Broker, slot: u64, core: u64) -> bool {
    let answer = ask_to_move(broker.admin_address(), slot, core).expect("the admin server answers");
    let status = answer.split(' ').nth(1).map(str::to_owned);
    match status.as_deref() {
        Some("200") => true,
        Some("409") => false,
        _ => panic!("slot {slot} to core {core}: {answer}"),
    }
}

/// The whole answer. Errors: the broker was killed meanwhile.
pub fn ask_to_move(admin: SocketAddrV4, slot: u64, core: u64) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(70)))?;
    write!(
        stream,
        "PUT /slots/{slot}/core/{core} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
