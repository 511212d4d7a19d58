//! Objects of a bucket, from moto's S3 server (`pip install "moto[server]"`), which nobody here wrote.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, which say what they skip"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use reelsight_fetch::{
    BlockSource, FetchError, FetchLimits, Fetcher, Ranged, Remote, S3Stores, SourceHeaders, UrlPolicy,
};
use reelsight_media::{ByteSource as _, CancelFlag, ReadFailure};

struct Moto {
    process: Child,
    port: u16,
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Moto {
    /// A server, where moto is installed.
    fn start() -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/moto_server");
        let program = std::env::var_os("MOTO_SERVER").map_or(beside, PathBuf::from);
        if !program.is_file() {
            eprintln!("SKIPPED: no moto_server in .venv (pip install 'moto[server]')");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { process, port };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(moto);
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("moto does not answer");
    }

    fn put(&self, path: &str, body: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let key =
            "Credential=reelsight-fetch/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: AWS4-HMAC-SHA256 {key}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

fn stores(folder: &Path, port: u16) -> S3Stores {
    let secret = folder.join("secret");
    fs::write(&secret, "not so secret\n").unwrap();
    let config = folder.join("stores.toml");
    let text = format!(
        "[local]\nbuckets = [\"videos\"]\nendpoint = \"http://127.0.0.1:{port}\"\nallow_http = true\n\
         access_key = {{ env = \"CARGO_PKG_NAME\" }}\nsecret_key = {{ file = \"{}\" }}\n",
        secret.display()
    );
    fs::write(&config, text).unwrap();
    S3Stores::from_file(&config).unwrap()
}

async fn read(source: &Arc<BlockSource>, at: u64, count: usize) -> std::io::Result<Vec<u8>> {
    let source = Arc::clone(source);
    let reading = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; count];
        let read = source.read_at(at, &mut buffer, &CancelFlag::new())?;
        buffer.truncate(read);
        Ok(buffer)
    });
    reading.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_read_by_ranges() {
    let Some(moto) = Moto::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let body: Vec<u8> = (0..5_000_000_u32)
        .map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[2])
        .collect();
    moto.put("/videos", b"");
    moto.put("/videos/a/clip%20one.mp4", &body);
    let policy = UrlPolicy::new(vec!["127.0.0.1".parse().unwrap()]);
    let stores = stores(folder.path(), moto.port);
    assert!(!format!("{stores:?}").contains("secret"));
    let fetcher = Fetcher::new(policy, FetchLimits::default()).with_s3(stores.clone());
    let headers = SourceHeaders::default();
    let open = async |uri: &str| fetcher.open(uri, &headers, folder.path()).await;
    let Remote::Ranged(Ranged {
        bytes,
        versioned,
        identity,
    }) = open("s3://videos/a/clip one.mp4").await.unwrap()
    else {
        panic!("objects have ranges");
    };
    assert!(versioned && bytes.len().unwrap() == Some(5_000_000));
    for at in [4_999_000, 0, 2_500_000] {
        let got = read(&bytes, at, 1000).await.unwrap();
        let start = usize::try_from(at).unwrap();
        assert!(got == body[start..start + 1000]);
    }
    assert!(bytes.bytes_taken() < 1 << 20, "{}", bytes.bytes_taken());

    moto.put("/videos/a/clip%20one.mp4", &body[1..]);
    let error = read(&bytes, 1_000_000, 10).await.unwrap_err();
    assert_eq!(ReadFailure::of(&error).unwrap().reason, "SOURCE_CHANGED");
    let Remote::Ranged(other) = open("s3://videos/a/clip one.mp4").await.unwrap() else {
        panic!("ranges")
    };
    assert_ne!(other.identity, identity);

    assert!(matches!(
        open("s3://videos/none.mp4").await,
        Err(FetchError::NotThere { .. })
    ));
    assert!(matches!(
        open("s3://elsewhere/a.mp4").await,
        Err(FetchError::Blocked { .. })
    ));
    for uri in [
        "s3://key:secret@videos/a.mp4",
        "s3://videos/",
        "s3://videos/a?versionId=1",
        "s3:///a",
    ] {
        assert!(
            matches!(fetcher.check(uri), Err(FetchError::Invalid { .. })),
            "{uri}"
        );
    }
    let extra = SourceHeaders::parse(&[("x".to_owned(), "y".to_owned())].into()).unwrap();
    let refused = fetcher
        .open("s3://videos/a/clip one.mp4", &extra, folder.path())
        .await;
    assert!(matches!(refused, Err(FetchError::Invalid { .. })), "{refused:?}");
    // The policy is that of URLs: a loopback endpoint needs the operator's word.
    let strict = Fetcher::new(UrlPolicy::default(), FetchLimits::default()).with_s3(stores);
    let refused = strict
        .open("s3://videos/a/clip one.mp4", &headers, folder.path())
        .await;
    assert!(matches!(refused, Err(FetchError::Blocked { .. })), "{refused:?}");
}
