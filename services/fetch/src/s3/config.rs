//! The operator's file of stores.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::path::Path as Key;
use serde::Deserialize;
use url::Url;

use crate::FetchError;

/// What a line that is not understood gets to hear.
const FORM: &str = "a store is a table [NAME] with buckets, access_key and secret_key, and if need be endpoint, \
                    region, allow_http and session_token; keys, secrets and tokens are { env = \"NAME\" } or \
                    { file = \"PATH\" }";

/// Where buckets are and what opens them; from the operator, never from a request.
#[derive(Clone, Default)]
pub struct S3Stores(Arc<[Store]>);

/// One table of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Buckets that are found here.
    buckets: BTreeSet<String>,
    /// Such as `https://storage.example.org`; Amazon's own when it is missing.
    endpoint: Option<String>,
    region: Option<String>,
    /// An endpoint without TLS is meant. Which addresses may be reached is the URL policy's word.
    #[serde(default)]
    allow_http: bool,
    access_key: Secret,
    secret_key: Secret,
    session_token: Option<Secret>,
}

/// A reference to a secret.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Secret {
    /// The name of an environment variable.
    Env(String),
    /// A file, of which the ends are trimmed.
    File(PathBuf),
}

impl Secret {
    fn read(&self) -> io::Result<String> {
        match self {
            // The error of the standard library shows what the variable holds.
            Self::Env(name) => env::var(name).map_err(|_unusable| {
                io::Error::other(format!("set the environment variable {name}, to plain text"))
            }),
            Self::File(path) => fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
}

/// An entry with its secrets.
pub(super) struct Store {
    name: String,
    buckets: BTreeSet<String>,
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
    pub(super) allow_http: bool,
    pub(super) access_key: String,
    pub(super) secret_key: String,
    pub(super) session_token: Option<String>,
}

impl fmt::Debug for S3Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|store| &store.name))
            .finish()
    }
}

impl Store {
    fn open(name: String, entry: Entry) -> io::Result<Self> {
        let checked = entry
            .endpoint
            .as_deref()
            .map_or(Ok(()), |endpoint| check_endpoint(endpoint, entry.allow_http));
        checked.map_err(|what| io::Error::other(format!("store {name}: {what}")))?;
        Ok(Self {
            access_key: entry.access_key.read()?,
            secret_key: entry.secret_key.read()?,
            session_token: entry.session_token.as_ref().map(Secret::read).transpose()?,
            name,
            buckets: entry.buckets,
            endpoint: entry.endpoint,
            region: entry.region.unwrap_or_else(|| "us-east-1".to_owned()),
            allow_http: entry.allow_http,
        })
    }
}

fn check_endpoint(endpoint: &str, allow_http: bool) -> Result<(), &'static str> {
    let url = Url::parse(endpoint).map_err(|_malformed| "the endpoint is no URL: https://HOST[:PORT]")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials in the endpoint are refused: use access_key and secret_key");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if allow_http => Ok(()),
        "http" => Err("the endpoint has no TLS: write https://, or allow_http = true"),
        _ => Err("the endpoint begins with neither https:// nor http://"),
    }
}

impl S3Stores {
    /// Reads a TOML file with a table for each store: `buckets`, `endpoint`, `region`, `allow_http`, and `access_key`,
    /// `secret_key` and `session_token` as `{ env = "NAME" }` or `{ file = "PATH" }`. Messages never show a value.
    ///
    /// # Errors
    /// When the file or one of the secrets cannot be read, an endpoint is without TLS and `allow_http`, or two
    /// stores have the same bucket.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let entries: BTreeMap<String, Entry> = toml::from_str(&text).map_err(|error| {
            // The parser's own message quotes the line, in which somebody may have written a secret.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            io::Error::other(format!("line {line} is not understood: {FORM}"))
        })?;
        let mut known = BTreeSet::new();
        for bucket in entries.values().flat_map(|entry| &entry.buckets) {
            if !known.insert(bucket) {
                return Err(io::Error::other(format!("bucket {bucket} is in two stores")));
            }
        }
        let open = |(name, entry)| Store::open(name, entry);
        entries.into_iter().map(open).collect::<io::Result<_>>().map(Self)
    }

    /// Checks a URI without touching the network.
    pub(crate) fn check(&self, uri: &str) -> Result<(), FetchError> {
        self.find(uri).map(drop)
    }

    /// The bucket and the key of `uri`, when one of the stores has the bucket.
    pub(super) fn find(&self, uri: &str) -> Result<(&Store, String, Key), FetchError> {
        let invalid = |message: &str| FetchError::Invalid {
            field: "source.uri",
            message: message.to_owned(),
        };
        let url = Url::parse(uri).map_err(|_malformed| invalid("the URI is malformed: s3://BUCKET/KEY"))?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(invalid(
                "credentials and queries in an S3 URI are refused: name a bucket and a key",
            ));
        }
        let bucket = url.host_str().unwrap_or_default().to_owned();
        let key = Key::from_url_path(url.path())
            .map_err(|_malformed| invalid("the key of the object is malformed"))?;
        if bucket.is_empty() || key.as_ref().is_empty() {
            return Err(invalid("name a bucket and a key: s3://BUCKET/KEY"));
        }
        let store = self.0.iter().find(|store| store.buckets.contains(&bucket));
        let store = store.ok_or_else(|| FetchError::Blocked {
            what: format!("bucket {bucket} is in no store; the operator names it in the file of --s3-config"),
        })?;
        Ok((store, bucket, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<S3Stores, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stores.toml");
        fs::write(folder.path().join("secret"), " hunter2\n").unwrap();
        let secret = folder.path().join("secret").display().to_string();
        fs::write(&path, text.replace("SECRET", &secret)).unwrap();
        S3Stores::from_file(&path).map_err(|error| error.to_string())
    }

    const KEYS: &str = "access_key = { env = \"CARGO_PKG_NAME\" }\nsecret_key = { file = \"SECRET\" }\n";

    #[test]
    fn secrets_come_from_variables_and_files() {
        let stores = read(&format!(
            "[amazon]\nbuckets = [\"a\"]\n{KEYS}\
             [nas]\nbuckets = [\"b\", \"c\"]\nendpoint = \"http://10.0.0.1:9000\"\nallow_http = true\n\
             region = \"eu-1\"\nsession_token = {{ file = \"SECRET\" }}\n{KEYS}"
        ))
        .unwrap();
        let (amazon, bucket, key) = stores.find("s3://a/x/y%20z.mp4").unwrap();
        assert_eq!((bucket.as_str(), key.as_ref()), ("a", "x/y z.mp4"));
        assert_eq!(amazon.endpoint, None);
        assert_eq!(amazon.region, "us-east-1");
        assert_eq!(amazon.access_key, "reelsight-fetch");
        assert_eq!(amazon.secret_key, "hunter2");
        let (nas, ..) = stores.find("s3://c/k").unwrap();
        assert_eq!((nas.name.as_str(), nas.region.as_str()), ("nas", "eu-1"));
        assert_eq!(nas.session_token.as_deref(), Some("hunter2"));
        assert_eq!(format!("{stores:?}"), r#"["amazon", "nas"]"#);
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
        let store = |more: &str| format!("[nas]\nbuckets = [\"a\"]\n{KEYS}{more}\n");
        for (text, told) in [
            (store("secret = \"hunter2\""), "line 5 is not understood"),
            (store("region = 7"), "line 5 is not understood"),
            (store("session_token = \"hunter2\""), "line 5 is not understood"),
            (
                store("session_token = { env = \"REELSIGHT_NO_SUCH_VARIABLE\" }"),
                "set the environment variable REELSIGHT_NO_SUCH_VARIABLE",
            ),
            (
                store("session_token = { file = \"/no/such/file\" }"),
                "/no/such/file: ",
            ),
            (
                store("endpoint = \"http://10.0.0.1\""),
                "store nas: the endpoint has no TLS",
            ),
            (
                store("endpoint = \"ftp://10.0.0.1\"\nallow_http = true"),
                "begins with neither",
            ),
            (
                store("endpoint = \"https://me:hunter2@example.org\""),
                "credentials in the endpoint",
            ),
            (store("endpoint = \"example\""), "the endpoint is no URL"),
            (
                format!("{}{}", store(""), store("").replace("nas", "two")),
                "bucket a is in two stores",
            ),
            (
                "[nas]\nbuckets = [\"a\"]\n".to_owned(),
                "line 1 is not understood",
            ),
            ("hunter2".to_owned(), "line 1 is not understood"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(
                error.contains(told) && !error.contains("hunter2"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn without_stores_the_way_to_them_is_told() {
        let error = S3Stores::default().check("s3://a/k").unwrap_err();
        assert!(matches!(error, FetchError::Blocked { .. }));
        assert!(error.to_string().contains("--s3-config"), "{error}");
    }
}
