//! Names of interfaces and namespaces, and connections, to what the programs compare with.

use std::net::IpAddr;

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object};
use psc_formats::Fact;

use crate::facts::{Devices, namespaces, notice};
use crate::kernel;
use crate::options::{Exclude, Options, StartError};
use crate::wire::{self, Filter, Interface, Tuple, Wire};

/// Entries of each of the kernel side's tables.
const ROOM: usize = 1024;
/// Names are looked up again this often.
const LOOK_EVERY_NS: u64 = 1_000_000_000;
const PRESENT: [u8; 4] = [1, 0, 0, 0];

/// The kernel side's tables.
pub(crate) struct FilterMaps {
    switches: MapHandle,
    interfaces: MapHandle,
    namespaces: MapHandle,
    excludes: MapHandle,
}

impl FilterMaps {
    pub(crate) fn new(object: &Object) -> Result<Self, StartError> {
        let map = |name: &str| {
            let found = object.maps().find(|map| map.name() == name);
            let handle = found.map(|map| MapHandle::try_from(&map)).transpose();
            handle.map_err(|e| StartError::kernel("open the filter's tables", &e))?.ok_or_else(
                || StartError::Kernel {
                    doing: "open the filter's tables",
                    cause: format!("no map {name}"),
                    hint: "",
                },
            )
        };
        Ok(Self {
            switches: map("filter")?,
            interfaces: map("interfaces")?,
            namespaces: map("namespaces")?,
            excludes: map("excludes")?,
        })
    }
}

/// Makes a table hold exactly `new`, given that it holds `old`: additions first, so that nothing
/// that stays is ever missing.
fn replace<T: Wire + PartialEq>(map: &MapHandle, old: &[T], new: &[T]) -> libbpf_rs::Result<()> {
    for key in new.iter().filter(|key| !old.contains(key)) {
        map.update(wire::bytes_of(key), &PRESENT, MapFlags::ANY)?;
    }
    for key in old.iter().filter(|key| !new.contains(key)) {
        map.delete(wire::bytes_of(key))?;
    }
    Ok(())
}

/// What was asked for by name.
pub(crate) struct Wanted {
    interfaces: Vec<String>,
    namespaces: Vec<String>,
    exclude: Vec<Tuple>,
    /// As the kernel side has them.
    interface_keys: Vec<Interface>,
    inodes: Vec<u32>,
    missing: Vec<String>,
    looked_at: u64,
    /// Weight of the flows kept, less one.
    shed_mask: u32,
}

impl Wanted {
    pub(crate) fn new(options: &Options) -> Result<Self, StartError> {
        for (what, count) in [
            ("interfaces", options.interfaces.len()),
            ("namespaces", options.namespaces.len()),
            ("excluded connections", options.exclude.len() * 2),
        ] {
            if count > ROOM {
                return Err(StartError::TooMany { what, limit: ROOM });
            }
        }
        for name in &options.namespaces {
            if namespaces::resolve(name).is_none() {
                return Err(StartError::NoNamespace { name: name.clone() });
            }
        }
        Ok(Self {
            interfaces: options.interfaces.clone(),
            namespaces: options.namespaces.clone(),
            exclude: options.exclude.iter().flat_map(both_ways).collect(),
            interface_keys: Vec::new(),
            inodes: Vec::new(),
            missing: Vec::new(),
            looked_at: 0,
            shed_mask: 0,
        })
    }

    /// Looks names up again and tells the programs. Names that nothing bears are told of once.
    pub(crate) fn apply(
        &mut self,
        maps: &FilterMaps,
        devices: &mut Devices,
        only: &mut Vec<u32>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), StartError> {
        let now = kernel::now();
        let first = self.looked_at == 0;
        let named = !self.interfaces.is_empty() || !self.namespaces.is_empty();
        if !first && (!named || now - self.looked_at < LOOK_EVERY_NS) {
            return Ok(());
        }
        self.looked_at = now;
        // A namespace made again under the same name has another inode; the one that is gone
        // harms nobody, and its last events may still come.
        let mut inodes = self.inodes.clone();
        for inode in self.namespaces.iter().filter_map(|name| namespaces::resolve(name)) {
            if !inodes.contains(&inode) && inodes.len() < ROOM {
                inodes.push(inode);
            }
        }
        if !self.interfaces.is_empty() {
            devices.read_all(&inodes);
        }
        let mut keys: Vec<Interface> = Vec::new();
        for name in &self.interfaces {
            let mut found = devices.named(name);
            found.retain(|(netns, _)| inodes.is_empty() || inodes.contains(netns));
            if found.is_empty() && !self.missing.contains(name) {
                self.missing.push(name.clone());
                facts.push(notice(
                    format!("no interface is named {name:?}; recording it when it appears"),
                    1,
                ));
            }
            keys.extend(found.iter().map(|&(netns, ifindex)| Interface { netns, ifindex }));
        }
        keys.truncate(ROOM);
        let changed = replace(&maps.interfaces, &self.interface_keys, &keys)
            .and_then(|()| replace(&maps.namespaces, &self.inodes, &inodes));
        let changed = if first { changed.and_then(|()| self.switch_on(maps)) } else { changed };
        changed.map_err(|e| StartError::kernel("write the filter's tables", &e))?;
        only.clone_from(&inodes);
        (self.interface_keys, self.inodes) = (keys, inodes);
        Ok(())
    }

    /// Inodes of the namespaces asked for, as far as they are there.
    pub(crate) fn namespaces(&self) -> Vec<u32> {
        self.namespaces.iter().filter_map(|name| namespaces::resolve(name)).collect()
    }

    /// Keeps one in `weight` flows, a power of two, from now on.
    pub(crate) fn shed(&mut self, maps: &FilterMaps, weight: u32) -> libbpf_rs::Result<()> {
        self.shed_mask = weight - 1;
        self.switch_on(maps)
    }

    fn switch_on(&self, maps: &FilterMaps) -> libbpf_rs::Result<()> {
        replace(&maps.excludes, &[], &self.exclude)?;
        let switches = Filter {
            // Asked for, though perhaps not there yet: then nothing is let through, not all.
            interfaces: u32::from(!self.interfaces.is_empty()),
            namespaces: u32::from(!self.namespaces.is_empty()),
            excludes: u32::from(!self.exclude.is_empty()),
            shed_mask: self.shed_mask,
        };
        maps.switches.update(&0_u32.to_ne_bytes(), wire::bytes_of(&switches), MapFlags::ANY)
    }
}

const NO_TUPLE: Tuple = Tuple {
    src: [0; 16],
    dst: [0; 16],
    sport: 0,
    dport: 0,
    family: 0,
    protocol: 0,
    state: 0,
    pad: 0,
};

/// A connection as headers of either direction have it.
fn both_ways(exclude: &Exclude) -> [Tuple; 2] {
    let there = tuple(exclude);
    let back =
        Tuple { src: there.dst, dst: there.src, sport: there.dport, dport: there.sport, ..there };
    [there, back]
}

fn tuple(exclude: &Exclude) -> Tuple {
    let mut tuple = NO_TUPLE;
    let mut put = |address: IpAddr, to: fn(&mut Tuple) -> &mut [u8; 16]| match address {
        IpAddr::V4(v4) => {
            to(&mut tuple)[..4].copy_from_slice(&v4.octets());
            4
        }
        IpAddr::V6(v6) => {
            *to(&mut tuple) = v6.octets();
            6
        }
    };
    let family = put(exclude.local.0, |t| &mut t.src);
    put(exclude.remote.0, |t| &mut t.dst);
    Tuple {
        family,
        protocol: exclude.protocol,
        sport: exclude.local.1,
        dport: exclude.remote.1,
        ..tuple
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_connections_are_written_as_headers_have_them() {
        let [t, back] = both_ways(&Exclude {
            protocol: 6,
            local: ([198, 51, 100, 1].into(), 22),
            remote: ([192, 0, 2, 7].into(), 50000),
        });
        assert_eq!((t.family, &t.src[..5]), (4, &[198, 51, 100, 1, 0][..]));
        assert_eq!((t.sport, t.dport, &t.dst[..4]), (22, 50000, &[192, 0, 2, 7][..]));
        assert_eq!((back.sport, back.src, back.dst), (50000, t.dst, t.src));
    }

    #[test]
    fn unknown_namespaces_are_an_error() {
        let options = Options { namespaces: vec!["no-such-psc".to_owned()], ..Options::default() };
        assert!(matches!(Wanted::new(&options), Err(StartError::NoNamespace { .. })));
    }
}
