//! http(s) sources, and objects of S3 buckets (feature `s3`), under the URL policy.
//!
//! Owns: which addresses may be reached ([`UrlPolicy`]), name resolution ([`Resolver`], injectable), the connection to
//! exactly the address that was checked, redirects (each checked like the first URL), limits, and the temporary file
//! that the bytes go to ([`Fetched`], deleted when dropped). Does not own: what the bytes are. Starts no threads of
//! its own; each fetch borrows one of tokio's blocking threads for writing, and ends when its future is dropped.
//!
//! ```
//! use reelsight_fetch::UrlPolicy;
//! let policy = UrlPolicy::new(vec!["10.1.0.0/16".parse().unwrap(), "nas.local".parse().unwrap()]);
//! assert!(policy.allows("anything", "10.1.2.3".parse().unwrap()));
//! assert!(policy.allows("nas.local", "192.168.0.7".parse().unwrap()));
//! assert!(!policy.allows("example.org", "127.0.0.1".parse().unwrap()));
//! ```

mod blocks;
mod client;
mod connect;
mod error;
mod fetcher;
mod headers;
mod http_ranges;
mod policy;
mod resolve;
mod resume;
#[cfg(feature = "s3")]
mod s3;
mod sink;

pub use blocks::BlockSource;
pub use connect::authorities_from_pem;
pub use error::FetchError;
pub use fetcher::{FetchLimits, Fetcher, Remote};
pub use headers::SourceHeaders;
pub use http_ranges::Ranged;
pub use policy::{HostOrCidr, UrlPolicy, is_global};
pub use resolve::{Resolver, SystemResolver};
pub use rustls_pki_types::CertificateDer;
#[cfg(feature = "s3")]
pub use s3::S3Stores;
pub use sink::Fetched;
