//! Who records, on what, and how good its clock is: read once, at the start.

use std::fs::{self, File};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use psc_formats::custody::{Acquisition, hex};

/// The circumstances of this recording. What cannot be read is left out, never guessed.
pub(super) fn now() -> Acquisition {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let (clock_synchronised, clock_max_error_us) = clock();
    Acquisition {
        user: user(),
        started_epoch_ns: started.to_string(),
        kernel_version: read("/proc/sys/kernel/version"),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        clock_synchronised,
        clock_max_error_us,
        program_blake3: program().unwrap_or_default(),
        previous: None,
    }
}

/// `root`, `root (sudo of anna)`, or `uid 1000` where the user has no name.
fn user() -> String {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let uid = unsafe { libc::geteuid() };
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    let name = name.unwrap_or_else(|| format!("uid {uid}"));
    match std::env::var("SUDO_USER") {
        Ok(behind) if !behind.is_empty() => format!("{name} (sudo of {behind})"),
        _ => name,
    }
}

/// What the kernel says of its clock: synchronised, and its maximum error in microseconds.
fn clock() -> (Option<bool>, Option<u64>) {
    // SAFETY: all bytes zero is a valid timex, and its `modes` of 0 asks without changing anything.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a valid timex that outlives the call.
    let said = unsafe { libc::adjtimex(&raw mut state) };
    if said < 0 {
        return (None, None);
    }
    let synchronised = said != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0;
    (Some(synchronised), u64::try_from(state.maxerror).ok())
}

fn program() -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut File::open("/proc/self/exe")?, &mut hasher)?;
    Ok(hex(hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_of_this_host() {
        let now = now();
        assert!(!now.user.is_empty());
        assert_eq!(now.program_blake3.len(), 64);
        assert!(now.started_epoch_ns.parse::<u128>().unwrap() > 1_577_836_800_000_000_000);
        assert!(now.boot_id.len() == 36 || now.boot_id.is_empty(), "{}", now.boot_id);
    }
}
