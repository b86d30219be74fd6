//! The archive as its users have it: what is written comes back, and damage is named.

mod corruption;
mod damage;
mod golden;
mod made;
mod roundtrip;
mod windows;
