//! Keys and values: running in [`rows`], at rest in [`pages`], kept by name in [`store`]; the [`ledger`] says what each
//! token is.

mod disk;
mod ledger;
mod pages;
mod probe;
mod rows;
mod slab;
mod store;

pub(crate) use disk::Disk;
pub(crate) use ledger::Ledger;
pub(crate) use pages::{Pages, Plane, token_bytes};
pub(crate) use probe::{Traits, probe};
pub(crate) use rows::{Append, Next, Rows};
#[cfg(test)]
pub(crate) use rows::{Layout, Ragged};
pub(crate) use slab::Slab;
pub(crate) use store::KvStore;
pub use store::KvTier;
