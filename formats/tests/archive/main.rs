//! The archive as its users have it: what is written comes back, and damage is named.

mod made;
mod roundtrip;
