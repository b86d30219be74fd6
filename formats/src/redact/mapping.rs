//! What stands in place of addresses and names: the same for the same thing, under one key.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipcrypt_rs::IpcryptPfx;
use rustc_hash::FxHashMap;

use super::ranges;

/// Addresses remembered: mapping one takes up to 256 AES blocks.
const REMEMBERED: usize = 1 << 18;

/// Names of hosts and namespaces looked for in texts, at most.
const LEARNED: usize = 1 << 12;

/// The mappings of one key.
///
/// Each is a bijection, so that what was different stays different: what is counted by address, by
/// link-layer address or by name comes to the same numbers.
pub(super) struct Mapping {
    prefix: IpcryptPfx,
    names: [u8; 32],
    macs: [u8; 32],
    /// Four rounds of a Feistel network on 16-bit halves.
    words: std::cell::OnceCell<[Vec<u16>; 4]>,
    words_key: [u8; 32],
    keep_vendor: bool,
    addresses: FxHashMap<IpAddr, IpAddr>,
    /// Names of hosts and namespaces, and what stands for them.
    learned: BTreeMap<String, String>,
}

impl Mapping {
    pub(super) fn new(key: &[u8; 32], keep_vendor: bool) -> Self {
        let derive = |what: &str| blake3::derive_key(what, key);
        let mut prefix = derive("psc redact 2026 addresses");
        if prefix[..16] == prefix[16..] {
            // ipcrypt-rs refuses such a key, as it must; no key that anybody ever draws is one.
            prefix[0] ^= 1;
        }
        Self {
            prefix: IpcryptPfx::new(prefix),
            names: derive("psc redact 2026 names"),
            macs: derive("psc redact 2026 link addresses"),
            words: std::cell::OnceCell::new(),
            words_key: derive("psc redact 2026 words"),
            keep_vendor,
            addresses: FxHashMap::default(),
            learned: BTreeMap::new(),
        }
    }

    /// The address that stands for another. Two addresses share as many leading bits after as they
    /// did before, and special-purpose ranges are mapped within themselves.
    pub(super) fn address(&mut self, address: IpAddr) -> IpAddr {
        if let Some(known) = self.addresses.get(&address) {
            return *known;
        }
        let mapped = match address {
            IpAddr::V4(v4) => self.v4(v4).into(),
            IpAddr::V6(v6) => self.v6(v6).into(),
        };
        if self.addresses.len() >= REMEMBERED {
            self.addresses.clear();
        }
        self.addresses.insert(address, mapped);
        mapped
    }

    fn v4(&self, address: Ipv4Addr) -> Ipv4Addr {
        let kept = ranges::kept_v4(address);
        let mask = u32::MAX.checked_shl(32 - kept).unwrap_or(0);
        let IpAddr::V4(mapped) = self.prefix.encrypt_ipaddr(address.into()) else { return address };
        Ipv4Addr::from(u32::from(address) & mask | u32::from(mapped) & !mask)
    }

    fn v6(&self, address: Ipv6Addr) -> Ipv6Addr {
        let bits = u128::from(address);
        if ranges::embeds_v4(address) {
            let inner = self.v4(Ipv4Addr::from(bits as u32));
            return Ipv6Addr::from(bits >> 32 << 32 | u128::from(u32::from(inner)));
        }
        let kept = ranges::kept_v6(address);
        let mask = u128::MAX.checked_shl(128 - kept).unwrap_or(0);
        let IpAddr::V6(mapped) = self.prefix.encrypt_ipaddr(address.into()) else { return address };
        Ipv6Addr::from(bits & mask | u128::from(mapped) & !mask)
    }

    /// The link-layer address that stands for another. Broadcast, group and VRRP addresses and
    /// zeros mean something and stay.
    pub(super) fn mac(&self, mac: [u8; 6]) -> [u8; 6] {
        if mac == [0; 6] || mac[0] & 1 == 1 || mac[..5] == [0, 0, 0x5e, 0, 1] {
            return mac;
        }
        let bits = mac.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        // Two bits of the first byte say "group" and "locally administered": they stay.
        let mapped = if self.keep_vendor {
            bits >> 24 << 24 | self.permute(bits & 0xff_ffff, 12, bits >> 24)
        } else {
            let free = (bits >> 42) << 40 | bits & 0xff_ffff_ffff;
            let free = self.permute(free, 23, (bits >> 40) & 3);
            (free >> 40) << 42 | bits & 0x300_0000_0000 | free & 0xff_ffff_ffff
        };
        let mut out = [0; 6];
        out.copy_from_slice(&mapped.to_be_bytes()[2..]);
        out
    }

    /// A permutation of the numbers of twice `half` bits: a Feistel network of six rounds.
    fn permute(&self, value: u64, half: u32, tweak: u64) -> u64 {
        let mask = (1 << half) - 1;
        let (mut left, mut right) = (value >> half & mask, value & mask);
        for round in 0..6_u8 {
            let mut hasher = blake3::Hasher::new_keyed(&self.macs);
            hasher.update(&[round, half as u8]).update(&tweak.to_le_bytes());
            hasher.update(&right.to_le_bytes());
            let mut drawn = [0; 8];
            drawn.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
            (left, right) = (right, left ^ u64::from_le_bytes(drawn) & mask);
        }
        left << half | right
    }

    /// The fingerprint that stands for another: equal where it was equal, and 0 where it was 0. It
    /// is a hash of header fields without a key, so it could be looked for.
    pub(super) fn fingerprint(&self, content: u32) -> u32 {
        let words = self.words.get_or_init(|| rounds(&self.words_key));
        let permuted = |value: u32| {
            let (mut left, mut right) = ((value >> 16) as u16, value as u16);
            for round in words {
                (left, right) = (right, left ^ round[usize::from(right)]);
            }
            u32::from(left) << 16 | u32::from(right)
        };
        match content {
            0 => 0,
            // The one that would become 0 takes the place that 0 has left.
            content => match permuted(content) {
                0 => permuted(0),
                mapped => mapped,
            },
        }
    }

    /// `kind-` and ten hex digits for a name; nothing for no name.
    pub(super) fn name(&self, kind: &str, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        let hash = self.drawn(kind, name.as_bytes());
        format!("{kind}-{}", crate::custody::hex(&hash[..5]))
    }

    /// As [`Self::name`], for a name that notices may speak of: [`Self::hide`] knows it from now on.
    pub(super) fn learn(&mut self, kind: &str, name: &str) -> String {
        let mapped = self.name(kind, name);
        if !name.is_empty() && self.learned.len() < LEARNED {
            self.learned.entry(name.to_owned()).or_insert_with(|| mapped.clone());
        }
        mapped
    }

    /// What stands for a host's name, when it is one.
    pub(super) fn host(&self, name: &str) -> Option<&String> {
        self.learned.get(name).filter(|mapped| mapped.starts_with("host-"))
    }

    /// A text with the names that were learned replaced, where they stand alone. The word `on` in a text is
    /// replaced, too, where a host is called that: what is said less clearly still says nothing of anybody.
    pub(super) fn hide(&self, text: &str) -> String {
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            // A name may hold what else parts words (`web.example`): the longest that is one goes.
            let alone = !out.chars().next_back().is_some_and(inside);
            let ends = |len: usize| !rest[len..].starts_with(inside);
            let found = if alone {
                let begins = |name: &&String| rest.starts_with(name.as_str()) && ends(name.len());
                self.learned.keys().filter(begins).max_by_key(|name| name.len())
            } else {
                None
            };
            if let Some(name) = found {
                out.push_str(&self.learned[name]);
                rest = &rest[name.len()..];
            } else {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        out
    }

    /// Letters and digits of a label or text in place of others: as long, of the same kinds, as
    /// often repeated; so that what measures length or entropy measures the same.
    pub(super) fn letters(&self, text: &mut [u8]) {
        let hash = self.drawn("label", &text.to_ascii_lowercase());
        let shuffled = |count: usize, from: usize| {
            // Fisher and Yates, drawn from the hash of the label.
            let mut order: Vec<u8> = (0..count as u8).collect();
            for at in (1..count).rev() {
                order.swap(at, usize::from(hash[(from + at) % 32]) % (at + 1));
            }
            order
        };
        let (letters, digits) = (shuffled(26, 0), shuffled(10, 26));
        for byte in text {
            *byte = match *byte {
                b'a'..=b'z' => b'a' + letters[usize::from(*byte - b'a')],
                b'A'..=b'Z' => b'A' + letters[usize::from(*byte - b'A')],
                b'0'..=b'9' => b'0' + digits[usize::from(*byte - b'0')],
                128.. => 128 + (*byte ^ hash[31]) % 128,
                other => other,
            };
        }
    }

    fn drawn(&self, kind: &str, name: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.names);
        hasher.update(kind.as_bytes()).update(&[0]).update(name);
        *hasher.finalize().as_bytes()
    }
}

/// Tables of random numbers for four rounds.
fn rounds(key: &[u8; 32]) -> [Vec<u16>; 4] {
    let mut stream = blake3::Hasher::new_keyed(key).finalize_xof();
    let mut words = [(); 4].map(|()| vec![0; 1 << 16]);
    let mut bytes = [0; 2 << 10];
    for chunk in words.iter_mut().flat_map(|round| round.chunks_mut(1 << 10)) {
        stream.fill(&mut bytes);
        for (slot, pair) in chunk.iter_mut().zip(bytes.chunks_exact(2)) {
            *slot = u16::from_le_bytes([pair[0], pair[1]]);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mapping() -> Mapping {
        Mapping::new(&[7; 32], false)
    }

    fn shared(a: u128, b: u128, bits: u32) -> u32 {
        (a ^ b).leading_zeros().saturating_sub(128 - bits).min(bits)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn addresses_share_the_prefixes_that_they_shared(a in any::<u32>(), at in 0u32..32, b in any::<u32>()) {
            let mut mapping = mapping();
            // Close to each other, as random addresses never are.
            let b = a & u32::MAX.checked_shl(32 - at).unwrap_or(0) | b & (u32::MAX >> at);
            let mut map = |bits: u32| match mapping.address(Ipv4Addr::from(bits).into()) {
                IpAddr::V4(v4) => u128::from(u32::from(v4)),
                IpAddr::V6(_) => unreachable!("a family stays"),
            };
            let (x, y) = (map(a), map(b));
            prop_assert_eq!(shared(x, y, 32), shared(u128::from(a), u128::from(b), 32));
        }

        #[test]
        fn so_do_those_of_version_6(a in any::<u128>(), at in 0u32..128, b in any::<u128>()) {
            let mut mapping = mapping();
            let b = a & u128::MAX.checked_shl(128 - at).unwrap_or(0) | b & (u128::MAX >> at);
            let mut map = |bits: u128| match mapping.address(Ipv6Addr::from(bits).into()) {
                IpAddr::V6(v6) => u128::from(v6),
                IpAddr::V4(_) => unreachable!("a family stays"),
            };
            let (x, y) = (map(a), map(b));
            prop_assert_eq!(shared(x, y, 128), shared(a, b, 128));
        }

        #[test]
        fn link_addresses_stay_different(a in any::<[u8; 6]>(), b in any::<[u8; 6]>(), vendor in any::<bool>()) {
            let mapping = Mapping::new(&[7; 32], vendor);
            let (x, y) = (mapping.mac(a), mapping.mac(b));
            prop_assert_eq!(a == b, x == y);
            prop_assert_eq!(a[0] & 3, x[0] & 3);
            if vendor {
                prop_assert_eq!(&a[..3], &x[..3]);
            }
        }

        #[test]
        fn fingerprints_stay_different(a in any::<u32>(), b in any::<u32>()) {
            thread_local!(static MAPPING: Mapping = mapping());
            MAPPING.with(|mapping| {
                prop_assert_eq!(a == b, mapping.fingerprint(a) == mapping.fingerprint(b));
                prop_assert_eq!(a == 0, mapping.fingerprint(a) == 0);
                Ok(())
            })?;
        }

        #[test]
        fn letters_keep_length_kind_and_repetition(text in "[a-zA-Z0-9_.-]{0,40}") {
            let mut out = text.clone().into_bytes();
            mapping().letters(&mut out);
            let mut pairs = std::collections::BTreeMap::new();
            for (from, to) in text.bytes().zip(&out) {
                prop_assert_eq!(*pairs.entry(from).or_insert(*to), *to);
                prop_assert_eq!(from.is_ascii_digit(), to.is_ascii_digit());
                prop_assert_eq!(from.is_ascii_uppercase(), to.is_ascii_uppercase());
            }
        }
    }

    #[test]
    fn a_key_decides() {
        let address: IpAddr = "8.8.8.8".parse().unwrap();
        let mut one = Mapping::new(&[1; 32], false);
        let mut two = Mapping::new(&[2; 32], false);
        assert_ne!(one.address(address), two.address(address));
        assert_ne!(one.name("host", "web"), two.name("host", "web"));
        assert_eq!(one.name("host", ""), "");
        assert_ne!(one.mac([2, 0, 0, 0, 0, 1]), two.mac([2, 0, 0, 0, 0, 1]));
    }
}
