//! The .psc archive: see FORMAT.md.
