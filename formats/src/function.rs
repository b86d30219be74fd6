//! What the numbers of function probes mean: arguments and return values.
//!
//! An event carries the meaning with the value, so that a recording says the same to every later reader,
//! whatever its own table of functions has become.

use std::fmt::Write as _;

/// What the argument of an [`crate::EventKind::FunctionEntry`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Argument {
    /// None was read.
    #[default]
    None = 0,
    /// A netfilter hook: `NFPROTO_*` in the low byte, the hook's number in the next.
    NetfilterHook = 1,
    /// A chain of rules: its [`crate::fact::ChainFact`] in the low half, hook and family as above in the high
    /// half.
    Chain = 2,
    /// An IP protocol number.
    Protocol = 3,
    /// An interface index in the packet's namespace: where the packet is to go.
    Interface = 4,
    /// Bytes.
    Bytes = 5,
}

impl Argument {
    /// The argument of a stored number; `None` for one of a later version.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::NetfilterHook,
            2 => Self::Chain,
            3 => Self::Protocol,
            4 => Self::Interface,
            5 => Self::Bytes,
            _ => return None,
        })
    }
}

/// What the value of an [`crate::EventKind::FunctionReturn`] means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Meaning {
    /// Nothing: the function returns no value, or one without a meaning. Only the time counts.
    #[default]
    Nothing = 0,
    /// 0 or a negative errno.
    Errno = 1,
    /// `nf_hook_slow`: 1 go on, 0 taken over by a hook, negative dropped (an errno).
    HookResult = 2,
    /// `NF_*`: 0 drop, 1 accept, 2 stolen, 3 queue, 4 repeat; upper bits belong to the verdict.
    Verdict = 3,
    /// `NET_RX_*`: 0 success, 1 drop.
    Receive = 4,
    /// `enum skb_drop_reason`, 0 is "not dropped".
    DropReason = 5,
    /// `gro_result_t`: 0 merged, 1 merged and freed, 2 held, 3 normal, 4 consumed.
    Gro = 6,
    /// `NET_XMIT_*`: 0 success, 1 drop, 2 congestion; or a negative errno.
    Transmit = 7,
    /// 0 is no, anything else yes.
    Truth = 8,
    /// 0 is "none" (it failed, or took the packet over); anything else is "some": the pointer itself is not
    /// kept.
    Pointer = 9,
    /// `XDP_*`: 0 aborted, 1 drop, 2 pass, 3 transmit, 4 redirect.
    Xdp = 10,
    /// `TC_ACT_*`: -1 unspecified, 0 ok, 1 reclassify, 2 shot, 3 pipe, 4 stolen, 5 queued, 6 repeat, 7 redirect, 8
    /// trap.
    Tc = 11,
    /// Bytes, or a negative errno.
    Bytes = 12,
    /// `RX_HANDLER_*`: 0 consumed, 1 another device, 2 exact, 3 pass.
    RxHandler = 13,
    /// `ip_protocol_deliver` style: 0 handled, positive resubmits as another protocol, negative failed.
    Resubmit = 14,
    /// A queue or a handler took it: 0 yes, negative errno or 1 no.
    Taken = 15,
}

/// Names of consecutive numbers from 0.
fn numbered(names: &[&'static str], value: i64) -> Option<&'static str> {
    names.get(usize::try_from(value).ok()?).copied()
}

impl Meaning {
    /// The meaning of a stored number; `None` for one of a later version.
    pub fn from_u8(number: u8) -> Option<Self> {
        const ALL: [Meaning; 16] = [
            Meaning::Nothing,
            Meaning::Errno,
            Meaning::HookResult,
            Meaning::Verdict,
            Meaning::Receive,
            Meaning::DropReason,
            Meaning::Gro,
            Meaning::Transmit,
            Meaning::Truth,
            Meaning::Pointer,
            Meaning::Xdp,
            Meaning::Tc,
            Meaning::Bytes,
            Meaning::RxHandler,
            Meaning::Resubmit,
            Meaning::Taken,
        ];
        ALL.get(usize::from(number)).copied()
    }

    /// The value in words; empty for [`Self::Nothing`]. `reason` names drop reasons.
    pub fn words(self, value: i64, reason: impl FnOnce(u32) -> String) -> String {
        let named = match self {
            Self::Nothing => return String::new(),
            Self::Errno => Some("ok").filter(|_| value == 0),
            Self::HookResult => numbered(&["taken over by a hook", "accept"], value),
            Self::Verdict => {
                const NAMES: [&str; 6] = ["drop", "accept", "stolen", "queue", "repeat", "stop"];
                // NF_DROP carries an errno above, NF_QUEUE a queue number; negative is a chain's own.
                numbered(&NAMES, value & 0xff).filter(|_| value >= 0)
            }
            Self::Receive => numbered(&["success", "drop"], value),
            Self::DropReason => match u32::try_from(value) {
                Ok(0) => Some("not dropped"),
                Ok(number) => return reason(number),
                Err(_) => None,
            },
            Self::Gro => {
                numbered(&["merged", "merged and freed", "held", "normal", "consumed"], value)
            }
            Self::Transmit => numbered(&["sent", "drop", "congestion"], value),
            Self::Truth => Some(if value == 0 { "no" } else { "yes" }),
            Self::Pointer => Some(if value == 0 { "none" } else { "some" }),
            Self::Xdp => numbered(&["aborted", "drop", "pass", "transmit", "redirect"], value),
            Self::Tc => {
                const NAMES: [&str; 10] = [
                    "unspecified",
                    "ok",
                    "reclassify",
                    "shot",
                    "pipe",
                    "stolen",
                    "queued",
                    "repeat",
                    "redirect",
                    "trap",
                ];
                numbered(&NAMES, value.saturating_add(1))
            }
            Self::Bytes if value >= 0 => return format!("{value} bytes"),
            Self::Bytes => None,
            Self::RxHandler => {
                numbered(&["consumed", "another device", "exact match", "pass"], value)
            }
            Self::Resubmit => Some("handled").filter(|_| value == 0),
            Self::Taken => match value {
                0 => Some("taken"),
                1 => Some("not taken"),
                _ => None,
            },
        };
        if let Some(name) = named {
            return name.to_owned();
        }
        let mut words = String::new();
        if (Self::HookResult, true) == (self, value < 0) {
            words.push_str("drop, ");
        }
        // Writing to a string cannot fail.
        let _ = match errno_name(value) {
            Some(name) => write!(words, "{name}"),
            None => write!(words, "{value}"),
        };
        words
    }

    /// Whether the value says that the packet goes no further, as far as this function is concerned.
    pub fn is_refusal(self, value: i64) -> bool {
        match self {
            Self::HookResult | Self::Errno | Self::Bytes => value < 0,
            Self::Verdict => value >= 0 && value.trailing_zeros() >= 8,
            Self::Receive => value == 1,
            Self::DropReason | Self::Taken => value != 0,
            Self::Transmit => value == 1 || value < 0,
            Self::Xdp => value == 0 || value == 1,
            Self::Tc => value == 2,
            Self::Nothing
            | Self::Gro
            | Self::Truth
            | Self::Pointer
            | Self::RxHandler
            | Self::Resubmit => false,
        }
    }
}

/// The name of a negative errno that functions of the network stack return.
/// (include/uapi/asm-generic/errno-base.h and errno.h, the same on every architecture psc runs on)
fn errno_name(value: i64) -> Option<&'static str> {
    Some(match value {
        -1 => "EPERM",
        -2 => "ENOENT",
        -11 => "EAGAIN",
        -12 => "ENOMEM",
        -14 => "EFAULT",
        -16 => "EBUSY",
        -17 => "EEXIST",
        -18 => "EXDEV",
        -19 => "ENODEV",
        -22 => "EINVAL",
        -32 => "EPIPE",
        -90 => "EMSGSIZE",
        -92 => "ENOPROTOOPT",
        -100 => "ENETDOWN",
        -101 => "ENETUNREACH",
        -104 => "ECONNRESET",
        -105 => "ENOBUFS",
        -110 => "ETIMEDOUT",
        -111 => "ECONNREFUSED",
        -113 => "EHOSTUNREACH",
        _ => return None,
    })
}

/// `prerouting`, `input`...: the name of a netfilter hook (`NF_INET_*`, `NF_BR_*`, `NF_ARP_*`).
pub fn hook_name(family: u8, hook: u8) -> &'static str {
    known_hook(family, hook).unwrap_or("hook ?")
}

/// As [`hook_name`]; `None` for a hook that has no name.
pub fn known_hook(family: u8, hook: u8) -> Option<&'static str> {
    const INET: [&str; 6] = ["prerouting", "input", "forward", "output", "postrouting", "ingress"];
    const ARP: [&str; 3] = ["input", "output", "forward"];
    const NETDEV: [&str; 2] = ["ingress", "egress"];
    let names: &[&str] = match family {
        3 => &ARP,
        5 => &NETDEV,
        _ => &INET,
    };
    names.get(usize::from(hook)).copied()
}

/// `ip`, `ip6`, `inet`...: the name of a netfilter family (`NFPROTO_*`), as `nft` spells it.
pub fn family_name(family: u8) -> &'static str {
    known_family(family).unwrap_or("family ?")
}

/// As [`family_name`]; `None` for a family that has no name.
pub fn known_family(family: u8) -> Option<&'static str> {
    Some(match family {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_the_kernels_word_for_it() {
        #[rustfmt::skip]
        let cases = [
            (Meaning::Nothing,    7,          ""),
            (Meaning::Errno,      0,          "ok"),
            (Meaning::Errno,      -113,       "EHOSTUNREACH"),
            (Meaning::Errno,      -4000,      "-4000"),
            (Meaning::HookResult, 1,          "accept"),
            (Meaning::HookResult, 0,          "taken over by a hook"),
            (Meaning::HookResult, -1,         "drop, EPERM"),
            (Meaning::Verdict,    0,          "drop"),
            (Meaning::Verdict,    1,          "accept"),
            (Meaning::Verdict,    0x0005_0003, "queue"),
            (Meaning::Verdict,    -1,         "EPERM"),
            (Meaning::Receive,    1,          "drop"),
            (Meaning::DropReason, 0,          "not dropped"),
            (Meaning::DropReason, 5,          "reason 5"),
            (Meaning::Gro,        2,          "held"),
            (Meaning::Transmit,   2,          "congestion"),
            (Meaning::Transmit,   -105,       "ENOBUFS"),
            (Meaning::Truth,      -1,         "yes"),
            (Meaning::Pointer,    0,          "none"),
            (Meaning::Xdp,        4,          "redirect"),
            (Meaning::Tc,         -1,         "unspecified"),
            (Meaning::Tc,         2,          "shot"),
            (Meaning::Tc,         i64::MAX,   "9223372036854775807"),
            (Meaning::Bytes,      12,         "12 bytes"),
            (Meaning::Bytes,      -11,        "EAGAIN"),
            (Meaning::Resubmit,   -17,        "EEXIST"),
            (Meaning::Taken,      1,          "not taken"),
        ];
        for (meaning, value, words) in cases {
            let said = meaning.words(value, |reason| format!("reason {reason}"));
            assert_eq!(said, words, "{meaning:?} {value}");
        }
    }

    #[test]
    fn numbers_of_meanings_and_arguments_are_theirs() {
        for number in 0..=u8::MAX {
            assert!(Meaning::from_u8(number).is_none_or(|meaning| meaning as u8 == number));
            assert!(Argument::from_u8(number).is_none_or(|argument| argument as u8 == number));
        }
        assert_eq!(Meaning::from_u8(Meaning::Taken as u8), Some(Meaning::Taken));
        assert_eq!(Argument::from_u8(Argument::Bytes as u8), Some(Argument::Bytes));
    }
}
