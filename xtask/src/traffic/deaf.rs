//! A server that does not listen well: queues that fill, for recordings of what the kernel then does.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use super::port;

/// Binds a UDP socket with the smallest receive buffer and never reads it, and listens for TCP with
/// room for one connection and never accepts. Prints `ready`; runs until killed.
pub(super) fn run() -> Result<()> {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port::DEAF)).context("UDP")?;
    let smallest: libc::c_int = 0;
    // SAFETY: the option is an int, and so are pointer and length given.
    let rc = unsafe {
        libc::setsockopt(
            udp.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const smallest).cast(),
            size_of_val(&smallest) as libc::socklen_t,
        )
    };
    if rc != 0 {
        return Err(std::io::Error::last_os_error()).context("SO_RCVBUF");
    }
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port::DEAF)).context("TCP")?;
    // SAFETY: listen(2) takes two numbers; called again it changes the backlog.
    if unsafe { libc::listen(tcp.as_raw_fd(), 0) } != 0 {
        return Err(std::io::Error::last_os_error()).context("listen");
    }
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}
