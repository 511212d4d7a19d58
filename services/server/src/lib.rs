//! Wiring: config to engines to listeners to drain. No domain logic.
//!
//! Owns: [`ServerConfig`], the parts of a server in their order ([`Services`]), the two listeners, health, reflection,
//! `AdminService`, the sweeper, and the graceful end ([`RunningServer::shutdown`]). Does not own: loading models (the
//! caller hands in engines) or signals (the caller decides when to stop). Starts two tasks for the listeners and one
//! that deletes what has expired, once a minute.
//!
//! ```no_run
//! # async fn run(engines: Vec<reelsight_engine::Engine>) -> Result<(), reelsight_server::ServerError> {
//! use reelsight_server::{Server, ServerConfig};
//! let config = ServerConfig { media_roots: vec!["videos".into()], ..ServerConfig::default() };
//! let server = Server::start(config, engines).await?;
//! println!("listening on {}", server.local_addr());
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod config;
mod error;
mod health;
mod listen;
mod server;
mod services;

pub use config::ServerConfig;
pub use error::ServerError;
pub use server::{RunningServer, Server};
pub use services::Services;
