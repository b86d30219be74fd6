//! tcpdump beside what is tested.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};

use super::Host;

/// tcpdump on an interface, until dropped.
pub struct Dump(Child);

impl Dump {
    /// Listens when it returns. `what` is the bytes of each packet (0 for all) and the filter.
    pub fn start(host: &Host, device: &str, what: (u32, &str), path: &Path) -> Self {
        let (snaplen, filter) = what;
        let mut child = host
            .command("tcpdump")
            .args(["-i", device, "--immediate-mode", "-U", "-Z", "root", "-B", "16384"])
            .args(["-s", &snaplen.to_string(), "-w"])
            .arg(path)
            .arg(filter)
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump starts");
        let mut said = [0; 9];
        let stderr = child.stderr.as_mut().expect("piped");
        stderr.read_exact(&mut said).expect("tcpdump says it listens");
        Self(child)
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGINT) };
        let _ = self.0.wait();
    }
}
