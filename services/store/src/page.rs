//! Page tokens: opaque and signed, so that nobody builds on what is in them and nobody forges one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{DataDir, StoreError};

/// Largest page; larger wishes get this many.
pub const MAX_PAGE: usize = 200;

/// Where a page begins: after this row, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Creation time of the last row of the page before, milliseconds since 1970.
    pub created_ms: i64,
    /// Its id.
    pub id: String,
}

/// Signs and checks page tokens.
#[derive(Clone)]
pub struct PageTokens(Hmac<Sha256>);

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageTokens")
    }
}

impl PageTokens {
    /// With the key of `dir`.
    ///
    /// # Errors
    /// [`StoreError::Folder`] when the key can be neither read nor made.
    pub fn open(dir: &DataDir) -> Result<Self, StoreError> {
        let key = dir.page_key()?;
        Hmac::new_from_slice(&key)
            .map(Self)
            .map_err(|_length| StoreError::PageToken)
    }

    /// A token that only `scope` accepts.
    #[must_use]
    pub fn sign(&self, scope: &str, cursor: &Cursor) -> String {
        let mut bytes = self.mac(scope, &cursor.created_ms.to_be_bytes(), cursor.id.as_bytes());
        bytes.extend(cursor.created_ms.to_be_bytes());
        bytes.extend(cursor.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What `token` points at; the empty token is the first page.
    ///
    /// # Errors
    /// [`StoreError::PageToken`] when it was not signed here for `scope`.
    pub fn verify(&self, scope: &str, token: &str) -> Result<Option<Cursor>, StoreError> {
        if token.is_empty() {
            return Ok(None);
        }
        self.parse(scope, token).map(Some).ok_or(StoreError::PageToken)
    }

    fn parse(&self, scope: &str, token: &str) -> Option<Cursor> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, rest) = bytes.split_at_checked(32)?;
        let (created, id) = rest.split_at_checked(8)?;
        let mut mac = self.0.clone();
        for part in [scope.as_bytes(), &[0], created, id] {
            mac.update(part);
        }
        mac.verify_slice(tag).ok()?;
        Some(Cursor {
            created_ms: i64::from_be_bytes(created.try_into().ok()?),
            id: String::from_utf8(id.to_vec()).ok()?,
        })
    }

    fn mac(&self, scope: &str, created: &[u8], id: &[u8]) -> Vec<u8> {
        let mut mac = self.0.clone();
        for part in [scope.as_bytes(), &[0], created, id] {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

/// The number of rows that a page gets: 0 asks for 50, and [`MAX_PAGE`] is the most.
///
/// # Errors
/// [`StoreError::PageSize`] when it is negative.
pub fn page_size(wanted: i32) -> Result<usize, StoreError> {
    match usize::try_from(wanted) {
        Ok(0) => Ok(50),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_negative) => Err(StoreError::PageSize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_bound_to_their_scope_and_cannot_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(folder.path()).unwrap();
        let tokens = PageTokens::open(&dir).unwrap();
        let cursor = Cursor {
            created_ms: 1_700_000_000_123,
            id: "abc".into(),
        };
        let token = tokens.sign("media", &cursor);
        assert_eq!(
            PageTokens::open(&dir).unwrap().verify("media", &token).unwrap(),
            Some(cursor)
        );
        assert!(tokens.verify("sessions", &token).is_err());
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last character of unpadded base64 may carry unused bits; those are refused by the decoder.
            assert!(tokens.verify("media", &forged).is_err(), "{at}");
        }
        assert!(tokens.verify("media", "not a token").is_err());
    }

    #[test]
    fn page_sizes_are_clamped_and_never_negative() {
        assert_eq!(page_size(0).unwrap(), 50);
        assert_eq!(page_size(7).unwrap(), 7);
        assert_eq!(page_size(i32::MAX).unwrap(), MAX_PAGE);
        assert!(page_size(-1).is_err());
    }
}
