//! A connection to exactly the address that was checked.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::{FetchError, Resolver, UrlPolicy};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Certificate authorities from a PEM file, to be trusted beside the web's.
///
/// # Errors
/// When the file cannot be read, or holds no certificate.
pub fn authorities_from_pem(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it holds no certificate",
        ));
    }
    Ok(found)
}

/// TLS with the web's roots and `authorities`. `ring` is named here, so that no process-wide provider is needed.
pub(crate) fn tls_config(authorities: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    roots.add_parsable_certificates(authorities.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    #[expect(
        clippy::expect_used,
        reason = "ring supports the default versions; checked by every test of this crate"
    )]
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("default versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Checks the form of a URL before anything is looked up.
pub(crate) fn check_url(url: &Url) -> Result<(), FetchError> {
    let invalid = |message: &str| FetchError::Invalid {
        field: "source.uri",
        message: message.to_owned(),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::Blocked {
            what: "only http and https URLs are fetched".into(),
        });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "credentials in the URL are refused: send them in source.request_headers",
        ));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("the URL has no host"));
    }
    Ok(())
}

/// Resolves once, checks every address, connects to one of them, and speaks TLS when the scheme says so.
pub(crate) async fn connect(
    url: &Url,
    policy: &UrlPolicy,
    resolver: &dyn Resolver,
    tls: &Arc<ClientConfig>,
    limit: Duration,
) -> Result<Box<dyn Stream>, FetchError> {
    let late = |_elapsed| FetchError::Timeout {
        what: "connecting",
        limit,
    };
    timeout(limit, async {
        let addresses = checked_addresses(url, policy, resolver).await?;
        let stream = connect_any(url, &addresses).await?;
        if url.scheme() == "http" {
            return Ok(Box::new(stream) as Box<dyn Stream>);
        }
        let what = |error: &dyn std::error::Error| FetchError::Tls {
            what: error.to_string(),
        };
        let name = ServerName::try_from(host_text(url).to_owned()).map_err(|e| what(&e))?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .map_err(|e| what(&e))?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    })
    .await
    .map_err(late)?
}

async fn connect_any(url: &Url, addresses: &[IpAddr]) -> Result<TcpStream, FetchError> {
    let port = url.port_or_known_default().unwrap_or(80);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(FetchError::Unreachable {
        what: format!("connecting to {} failed ({})", host_text(url), last.kind()),
    })
}

/// Host without brackets.
pub(crate) fn host_text(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_matches(['[', ']'])
}

async fn checked_addresses(
    url: &Url,
    policy: &UrlPolicy,
    resolver: &dyn Resolver,
) -> Result<Vec<IpAddr>, FetchError> {
    let host = host_text(url);
    // The URL parser has already turned decimal, octal and hex forms of IPv4 into an address.
    let addresses = match url.host() {
        Some(Host::Ipv4(address)) => vec![IpAddr::V4(address)],
        Some(Host::Ipv6(address)) => vec![IpAddr::V6(address)],
        _ => resolver
            .resolve(host)
            .await
            .map_err(|error| FetchError::Unreachable {
                what: format!("{host} cannot be resolved ({})", error.kind()),
            })?,
    };
    if addresses.is_empty() {
        return Err(FetchError::Unreachable {
            what: format!("{host} has no address"),
        });
    }
    // One bad address among good ones is an attack or a mistake: refuse rather than pick.
    if addresses.iter().any(|address| !policy.allows(host, *address)) {
        return Err(FetchError::Blocked {
            what: format!(
                "{host} leads to an address that is not global; the operator can open it with --url-allow"
            ),
        });
    }
    Ok(addresses)
}
