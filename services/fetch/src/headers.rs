//! Headers that the caller wants the source to get.

use std::{collections::BTreeMap, fmt};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::FetchError;

const MAX_HEADERS: usize = 32;
const MAX_BYTES: usize = 16 << 10;
/// Headers that the client itself decides.
const OURS: &[HeaderName] = &[
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::ACCEPT_ENCODING,
    header::RANGE,
    header::PROXY_AUTHORIZATION,
];

/// Checked headers, sent only to the origin of the URI. Never printed.
#[derive(Clone, Default)]
pub struct SourceHeaders(HeaderMap);

impl fmt::Debug for SourceHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceHeaders({} hidden)", self.0.len())
    }
}

impl SourceHeaders {
    /// Checks `headers` as a request carries them.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] for malformed, reserved or too many headers. Values are never in the message.
    pub fn parse(headers: &BTreeMap<String, String>) -> Result<Self, FetchError> {
        let invalid = |message: String| FetchError::Invalid {
            field: "source.request_headers",
            message,
        };
        let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers.len() > MAX_HEADERS || bytes > MAX_BYTES {
            return Err(invalid(format!(
                "at most {MAX_HEADERS} headers of {MAX_BYTES} bytes together are allowed"
            )));
        }
        let mut parsed = HeaderMap::new();
        for (name, value) in headers {
            let key = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_bad| invalid("a header name is malformed".into()))?;
            if OURS.contains(&key) {
                return Err(invalid(format!(
                    "header {key} is decided by the server: leave it out"
                )));
            }
            let mut value = HeaderValue::from_str(value)
                .map_err(|_bad| invalid(format!("the value of header {key} is malformed")))?;
            value.set_sensitive(true);
            parsed.insert(key, value);
        }
        Ok(Self(parsed))
    }

    #[cfg(feature = "s3")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn map(&self) -> &HeaderMap {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_and_malformed_headers_are_refused_without_showing_values() {
        for (name, value) in [
            ("Host", "x"),
            ("content-length", "secret"),
            ("bad name", "secret"),
            ("x", "sec\nret"),
        ] {
            let error = SourceHeaders::parse(&BTreeMap::from([(name.into(), value.into())])).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
        let headers = SourceHeaders::parse(&BTreeMap::from([(
            "Authorization".into(),
            "Bearer secret".into(),
        )]))
        .unwrap();
        assert!(!format!("{headers:?}").contains("secret"));
    }
}
