//! Model repositories of a hub: what is in them, and their files, as far as they are not here yet.

use std::{collections::BTreeMap, path::Path, time::Duration};

use reelsight_fetch::{FetchError, FetchLimits, Fetcher, SourceHeaders, UrlPolicy};
use reelsight_registry::Listed;
use serde_json::Value;

use crate::exit::{Failure, FailureKind};

/// Where repositories are when `HF_ENDPOINT` does not say.
const ENDPOINT: &str = "https://huggingface.co";
/// Larger than any model; the disk ends first.
const MAX_BYTES: u64 = 1 << 42;
const A_DAY: Duration = Duration::from_hours(24);

/// A hub and who asks it.
pub(crate) struct Hub {
    endpoint: String,
    fetcher: Fetcher,
    headers: SourceHeaders,
}

/// One state of a repository.
pub(crate) struct Repository {
    pub(crate) name: String,
    /// Names the state; files are taken from it whatever is uploaded meanwhile.
    pub(crate) commit: String,
    pub(crate) license: Option<String>,
    pub(crate) files: Vec<Listed>,
}

impl Hub {
    /// The hub at `HF_ENDPOINT`; `token` is sent to it alone, never to where it redirects.
    pub(crate) fn new(token: Option<&str>) -> Result<Self, Failure> {
        let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_unset| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let host = endpoint
            .split_once("://")
            .map_or("", |(_, rest)| rest)
            .split(['/', '?'])
            .next()
            .unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, port)| {
            if port.bytes().all(|digit| digit.is_ascii_digit()) {
                host
            } else {
                endpoint.as_str()
            }
        });
        // Whoever set the endpoint means it, also when it is a mirror in a private network.
        let allowed = host.trim_matches(['[', ']']).parse().map_err(|why| {
            Failure::input(
                "INVALID_ENDPOINT",
                format!("HF_ENDPOINT {endpoint} is no http(s) URL: {why}"),
            )
        })?;
        let limits = FetchLimits {
            max_bytes: MAX_BYTES,
            total: A_DAY,
            ..FetchLimits::default()
        };
        let headers = token.map(|token| ("authorization".to_owned(), format!("Bearer {}", token.trim())));
        let headers = SourceHeaders::parse(&headers.into_iter().collect::<BTreeMap<_, _>>())
            .map_err(|_shown| Failure::input("INVALID_TOKEN", "the token is not one line of plain text"))?;
        Ok(Self {
            fetcher: Fetcher::new(UrlPolicy::new(vec![allowed]), limits),
            endpoint,
            headers,
        })
    }

    /// What is in `name` (`ORG/NAME`) at `revision`.
    pub(crate) async fn repository(&self, name: &str, revision: &str) -> Result<Repository, Failure> {
        let url = format!(
            "{}/api/models/{name}/revision/{revision}?blobs=true",
            self.endpoint
        );
        let scratch = tempfile::tempdir().map_err(|error| unwritable(&error))?;
        let found = self.fetcher.fetch(&url, &self.headers, scratch.path()).await;
        let found = found.map_err(|error| refused(name, &error))?;
        let bytes = std::fs::read(found.file.path()).map_err(|error| unwritable(&error))?;
        let said: Value =
            serde_json::from_slice(&bytes).map_err(|error| garbled(name, &error.to_string()))?;
        let files = said["siblings"]
            .as_array()
            .ok_or_else(|| garbled(name, "it lists no files"))?;
        let commit = said["sha"].as_str().filter(|sha| is_plain(sha));
        Ok(Repository {
            name: name.to_owned(),
            commit: commit
                .ok_or_else(|| garbled(name, "it names no commit"))?
                .to_owned(),
            license: said["cardData"]["license"].as_str().map(ToOwned::to_owned),
            files: files.iter().filter_map(listed).collect(),
        })
    }

    /// Brings `file` to `path`, going on with what an earlier attempt left in `path.part`.
    pub(crate) async fn download(
        &self,
        repository: &Repository,
        file: &Listed,
        path: &Path,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Failure> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = Path::new(&part);
        if !path.is_file() {
            let Repository { name, commit, .. } = repository;
            let url = format!(
                "{}/{name}/resolve/{commit}/{}",
                self.endpoint,
                encoded(&file.path)
            );
            let done = self.fetcher.resume(&url, &self.headers, part, seen).await;
            let bytes = done.map_err(|error| refused(name, &error))?;
            if bytes != file.bytes {
                std::fs::remove_file(part).ok();
                let why = format!("{} has {bytes} bytes, not {}", file.path, file.bytes);
                return Err(garbled(name, &why));
            }
            std::fs::rename(part, path).map_err(|error| unwritable(&error))?;
        }
        self.verify(repository, file, path)
    }

    fn verify(&self, repository: &Repository, file: &Listed, path: &Path) -> Result<(), Failure> {
        let Some(expected) = &file.sha256 else {
            return Ok(());
        };
        let found = reelsight_registry::sha256(path)
            .map_err(|error| Failure::new(FailureKind::Internal, "OUTPUT_UNWRITABLE", error))?;
        if found == *expected {
            return Ok(());
        }
        std::fs::remove_file(path).ok();
        let why = format!(
            "{} has sha256 {found}, {} says {expected}: it was removed, import again",
            file.path, self.endpoint
        );
        Err(garbled(&repository.name, &why))
    }
}

/// A file of the answer; one without a path that can be used is left out.
fn listed(entry: &Value) -> Option<Listed> {
    let path = entry["rfilename"].as_str()?;
    let lfs = &entry["lfs"];
    Some(Listed {
        path: path.to_owned(),
        bytes: lfs["size"].as_u64().or_else(|| entry["size"].as_u64())?,
        sha256: lfs["sha256"].as_str().map(str::to_ascii_lowercase),
    })
}

/// `ORG/NAME` or `NAME`, without anything that means something in a URL.
pub(crate) fn is_repository(name: &str) -> bool {
    let parts: Vec<_> = name.split('/').collect();
    (1..=2).contains(&parts.len()) && parts.iter().all(|part| is_plain(part) && !part.starts_with('.'))
}

/// A word that can stand in a URL as it is.
pub(crate) fn is_plain(word: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&letter);
    !word.is_empty() && word.chars().all(plain)
}

/// A path with everything but letters, digits and `-_./` in percent form.
fn encoded(path: &str) -> String {
    let letter = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-_./".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    path.bytes().map(letter).collect()
}

fn refused(name: &str, error: &FetchError) -> Failure {
    match error {
        FetchError::Auth { status } => Failure::input(
            "HUB_AUTH_FAILED",
            format!(
                "{name} answers {status}: it is private or gated; accept its terms there, put a token into a file or \
                 an environment variable, and name that with --token-file or --token-env"
            ),
        ),
        FetchError::NotThere { .. } => Failure::input(
            "HUB_NOT_FOUND",
            format!("{name} is not there, or is private: check ORG/NAME and the revision"),
        ),
        FetchError::Blocked { .. } | FetchError::Invalid { .. } => {
            Failure::input("HUB_REFUSED", format!("{name}: {error}"))
        }
        other => Failure::new(
            FailureKind::Unavailable,
            "HUB_UNREACHABLE",
            format!("{name}: {other}; what has arrived is kept, import again to go on"),
        ),
    }
}

fn garbled(name: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::Unavailable,
        "HUB_ANSWER_INVALID",
        format!("{name}: {why}"),
    )
}

fn unwritable(error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Internal, "OUTPUT_UNWRITABLE", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_cannot_lead_elsewhere() {
        for good in ["gpt2", "org/name-ONNX", "a_b/c.d"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in ["", "a/b/c", "../x", "a/..", "a b", "a?b", "org/na%2fme"] {
            assert!(!is_repository(bad), "{bad}");
        }
        assert_eq!(encoded("onnx/a b#1.onnx"), "onnx/a%20b%231.onnx");
    }
}
