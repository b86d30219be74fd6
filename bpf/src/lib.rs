//! The kernel side of psc: BPF programs, the attach ladder and the live event source.
//!
//! [`LiveSource`] is an [`psc_formats::EventSource`] over the running kernel. Everything that
//! crosses from the kernel is declared once, in `bpf/wire.h`; kernel addresses stop in this crate.
#![cfg(target_os = "linux")]

mod attach;
mod decode;
mod facts;
mod filter;
mod functions;
mod governor;
pub mod guard;
mod ids;
mod kernel;
mod live;
mod maps;
mod netfilter;
mod options;
mod ring;
mod signature;
mod stacks;
mod symbols;
mod tier2;
mod wire;

pub use live::LiveSource;
pub use options::{BytesMode, Exclude, Options, Profile, StackPolicy, StartError};

#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated; only its types are used, to check the mirror in wire.rs"
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/capture.skel.rs"));
}

#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated; only its types are used, to check the mirror in guard/wire.rs"
)]
mod guard_skeleton {
    include!(concat!(env!("OUT_DIR"), "/guard.skel.rs"));
}
