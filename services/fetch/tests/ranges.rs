//! Reading by ranges from a real HTTP server on loopback, with everything that servers and lines do wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reelsight_fetch::{
    BlockSource, FetchError, FetchLimits, Fetcher, Ranged, Remote, SourceHeaders, SystemResolver, UrlPolicy,
    authorities_from_pem,
};
use reelsight_media::{ByteSource as _, CancelFlag, ReadFailure};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

const LENGTH: usize = 20 << 20;

/// What the server does; every field can change while it runs.
#[derive(Default)]
struct Behaviour {
    knows_no_ranges: AtomicBool,
    has_no_version: AtomicBool,
    /// Another version: the tag and a byte of the body differ.
    version: AtomicUsize,
    /// The total that it claims is too large by this.
    exaggerates: AtomicU64,
    /// Connections are cut after so many bytes of body.
    cut_after: AtomicU64,
    /// Nothing more is sent from the second request on.
    falls_silent: AtomicBool,
    answers_503: AtomicUsize,
    redirect_to: Mutex<Option<String>>,
}

struct Server {
    address: SocketAddr,
    behaviour: Arc<Behaviour>,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

fn body(version: usize) -> Vec<u8> {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let words = std::iter::successors(Some(7_u32), next);
        words.flat_map(u32::to_le_bytes).take(LENGTH).collect()
    });
    let mut body = noise.clone();
    body[LENGTH - 1] = u8::try_from(version).unwrap();
    body
}

async fn serve(tls: Option<tokio_rustls::TlsAcceptor>) -> Server {
    body(0); // Takes a while the first time.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let behaviour = Arc::new(Behaviour::default());
    let (heads, connections) = (Arc::default(), Arc::default());
    let (b, h, c) = (
        Arc::clone(&behaviour),
        Arc::clone(&heads),
        Arc::clone(&connections),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            AtomicUsize::fetch_add(&c, 1, Ordering::Relaxed);
            let (behaviour, heads, tls) = (Arc::clone(&b), Arc::clone(&h), tls.clone());
            serving.spawn(async move {
                match tls {
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            connection(stream, &behaviour, &heads).await;
                        }
                    }
                    None => drop(connection(stream, &behaviour, &heads).await),
                }
            });
        }
    });
    Server {
        address,
        behaviour,
        heads,
        connections,
        _tasks: tasks,
    }
}

/// Answers requests until either side has had enough.
async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    behaviour: &Behaviour,
    heads: &Mutex<Vec<String>>,
) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let number = {
            let mut heads = heads.lock().unwrap();
            heads.push(head.clone());
            heads.len()
        };
        let on = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let target = behaviour
            .redirect_to
            .lock()
            .unwrap()
            .clone()
            .filter(|_| !head.starts_with("GET /real"));
        if let Some(target) = target {
            let reply = format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(reply.as_bytes()).await.ok()?;
            continue;
        }
        if behaviour.answers_503.load(Ordering::Relaxed) > 0 && number > 1 {
            behaviour.answers_503.fetch_sub(1, Ordering::Relaxed);
            stream
                .write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
                .await
                .ok()?;
            continue;
        }
        if on(&behaviour.falls_silent) && number > 1 {
            std::future::pending::<()>().await;
        }
        let (reply, part) = answer(&head, behaviour);
        stream.write_all(reply.as_bytes()).await.ok()?;
        let cut = usize::try_from(behaviour.cut_after.load(Ordering::Relaxed)).unwrap();
        if cut > 0 && number > 1 && part.len() > cut {
            stream.write_all(&part[..cut]).await.ok()?;
            stream.flush().await.ok()?;
            return None;
        }
        stream.write_all(&part).await.ok()?;
        stream.flush().await.ok()?;
    }
}

fn answer(head: &str, behaviour: &Behaviour) -> (String, Vec<u8>) {
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::to_owned)
    };
    let version = behaviour.version.load(Ordering::Relaxed);
    let body = body(version);
    let tag = format!("\"v{version}\"");
    let tag_line = if behaviour.has_no_version.load(Ordering::Relaxed) {
        String::new()
    } else {
        format!("etag: {tag}\r\n")
    };
    let range = header("range: bytes=").filter(|_| !behaviour.knows_no_ranges.load(Ordering::Relaxed));
    let range = range.filter(|_| header("if-range: ").is_none_or(|wanted| wanted == tag));
    let Some(range) = range else {
        return (
            format!("HTTP/1.1 200 OK\r\n{tag_line}content-length: {LENGTH}\r\n\r\n"),
            body,
        );
    };
    let (start, last) = range.split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let last = last.parse::<usize>().unwrap().min(LENGTH - 1);
    let total = LENGTH as u64 + behaviour.exaggerates.load(Ordering::Relaxed);
    if start > last {
        return (
            "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Vec::new(),
        );
    }
    let part = body[start..=last].to_vec();
    let reply = format!(
        "HTTP/1.1 206 Partial Content\r\n{tag_line}content-range: bytes {start}-{last}/{total}\r\ncontent-length: {}\r\n\r\n",
        part.len()
    );
    (reply, part)
}

fn limits() -> FetchLimits {
    FetchLimits {
        connect: Duration::from_secs(5),
        idle: Duration::from_millis(1500),
        cache_bytes: 0,
        ..FetchLimits::default()
    }
}

fn fetcher(limits: FetchLimits) -> Fetcher {
    Fetcher::new(UrlPolicy::new(vec!["127.0.0.1".parse().unwrap()]), limits)
}

async fn open(server: &Server) -> Result<Remote, FetchError> {
    let uri = format!("http://{}/video.mp4", server.address);
    let folder = tempfile::tempdir().unwrap();
    fetcher(limits())
        .open(&uri, &SourceHeaders::default(), folder.path())
        .await
}

async fn ranged(server: &Server) -> Ranged {
    match open(server).await.unwrap() {
        Remote::Ranged(ranged) => ranged,
        Remote::Whole(_) => panic!("the server knows ranges"),
    }
}

/// Reads `range` as a decoder does: on a thread that blocks.
async fn read(
    source: &Arc<BlockSource>,
    range: Range<usize>,
    cancel: &CancelFlag,
) -> std::io::Result<Vec<u8>> {
    let (source, cancel) = (Arc::clone(source), cancel.clone());
    tokio::task::spawn_blocking(move || {
        let (mut out, mut buffer) = (Vec::new(), vec![0; 100_000]);
        while out.len() < range.len() {
            let room = buffer.len().min(range.len() - out.len());
            let at = (range.start + out.len()) as u64;
            match source.read_at(at, &mut buffer[..room], &cancel)? {
                0 => break,
                count => out.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(out)
    })
    .await
    .unwrap()
}

async fn failure(source: &Arc<BlockSource>, at: usize) -> &'static str {
    let error = read(source, at..at + 10, &CancelFlag::new()).await.unwrap_err();
    ReadFailure::of(&error).unwrap().reason
}

const MIDDLE: usize = 10 << 20;
const KIB: usize = 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_is_read_for_little() {
    let server = serve(None).await;
    let Ranged { bytes, versioned, .. } = ranged(&server).await;
    let cancel = CancelFlag::new();
    assert_eq!(bytes.len().unwrap(), Some(LENGTH as u64));
    let whole = body(0);
    for at in [LENGTH - 5, 3, MIDDLE, MIDDLE + 1000, LENGTH - 500_000] {
        let range = at..(at + 1000).min(LENGTH);
        assert_eq!(read(&bytes, range.clone(), &cancel).await.unwrap(), whole[range]);
    }
    assert!(
        read(&bytes, LENGTH + 5..LENGTH + 9, &cancel)
            .await
            .unwrap()
            .is_empty()
    );
    let taken = usize::try_from(bytes.bytes_taken()).unwrap();
    assert!(taken <= 1024 * KIB + 4 * 256 * KIB, "{taken}");
    assert!(versioned);
    let heads = server.heads.lock().unwrap().clone();
    assert!(
        heads[1..]
            .iter()
            .all(|head| head.contains("if-range: \"v0\"\r\n")),
        "{heads:?}"
    );
    // A reader may be quicker than the run before it is in giving its connection back.
    let connections = server.connections.load(Ordering::Relaxed);
    assert!(
        connections < heads.len() - 1,
        "{connections} connections for {} requests",
        heads.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_on_orders_longer_runs_and_a_small_cache_forgets() {
    let server = serve(None).await;
    let bytes = ranged(&server).await.bytes;
    let cancel = CancelFlag::new();
    assert!(read(&bytes, 0..LENGTH, &cancel).await.unwrap() == body(0));
    let requests = server.heads.lock().unwrap().len();
    assert!(
        requests < 12,
        "{requests} requests for {} blocks",
        LENGTH / (256 * KIB)
    );
    // The cache holds 16 of 20 MiB: the beginning is gone, the end is there.
    assert!(read(&bytes, LENGTH - MIDDLE..LENGTH, &cancel).await.unwrap() == body(0)[LENGTH - MIDDLE..]);
    assert_eq!(server.heads.lock().unwrap().len(), requests);
    assert!(read(&bytes, 0..MIDDLE, &cancel).await.unwrap() == body(0)[..MIDDLE]);
    assert!(server.heads.lock().unwrap().len() > requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_readers_share_what_arrives() {
    let server = serve(None).await;
    let bytes = ranged(&server).await.bytes;
    let cancel = CancelFlag::new();
    let starts = [MIDDLE, MIDDLE, MIDDLE + 300 * KIB, 2 * KIB];
    let readers = starts.map(|at| read(&bytes, at..at + 2048 * KIB, &cancel));
    for (at, got) in starts.into_iter().zip(futures::future::join_all(readers).await) {
        assert!(got.unwrap() == body(0)[at..at + 2048 * KIB], "{at}");
    }
    assert!(bytes.bytes_taken() < 8 << 20, "{}", bytes.bytes_taken());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_connections_and_short_outages_are_survived() {
    let server = serve(None).await;
    let bytes = ranged(&server).await.bytes;
    server.behaviour.cut_after.store(300_000, Ordering::Relaxed);
    server.behaviour.answers_503.store(2, Ordering::Relaxed);
    let got = read(&bytes, MIDDLE..MIDDLE + 4096 * KIB, &CancelFlag::new())
        .await
        .unwrap();
    assert!(got == body(0)[MIDDLE..MIDDLE + 4096 * KIB]);
    server.behaviour.answers_503.store(1000, Ordering::Relaxed);
    assert_eq!(failure(&bytes, 2 * MIDDLE - 4096).await, "SOURCE_UNREACHABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_an_error_and_never_a_mixture() {
    let server = serve(None).await;
    let bytes = ranged(&server).await.bytes;
    server.behaviour.version.store(1, Ordering::Relaxed);
    assert_eq!(failure(&bytes, MIDDLE).await, "SOURCE_CHANGED");
    assert_eq!(failure(&bytes, LENGTH - 20).await, "SOURCE_CHANGED", "it stays");
    let other = ranged(&server).await;
    server.behaviour.exaggerates.store(5, Ordering::Relaxed);
    assert_eq!(failure(&other.bytes, MIDDLE).await, "SOURCE_CHANGED");
    server.behaviour.knows_no_ranges.store(true, Ordering::Relaxed);
    server.behaviour.exaggerates.store(0, Ordering::Relaxed);
    let third = serve(None).await;
    let third_bytes = ranged(&third).await.bytes;
    third.behaviour.knows_no_ranges.store(true, Ordering::Relaxed);
    assert_eq!(failure(&third_bytes, MIDDLE).await, "SOURCE_CHANGED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_have_identities() {
    let server = serve(None).await;
    let [first, again] = [ranged(&server).await, ranged(&server).await];
    assert_eq!(first.identity, again.identity);
    server.behaviour.version.store(1, Ordering::Relaxed);
    assert_ne!(ranged(&server).await.identity, first.identity);
    server.behaviour.has_no_version.store(true, Ordering::Relaxed);
    let nameless = ranged(&server).await;
    assert!(!nameless.versioned && nameless.identity != first.identity);
    assert!(
        read(&nameless.bytes, MIDDLE..MIDDLE + 9, &CancelFlag::new())
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_claims_more_than_it_has_is_found_out() {
    let server = serve(None).await;
    server.behaviour.exaggerates.store(1 << 20, Ordering::Relaxed);
    let bytes = ranged(&server).await.bytes;
    assert_eq!(failure(&bytes, LENGTH + 10).await, "SOURCE_CHANGED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ranges_all_is_fetched() {
    let server = serve(None).await;
    server.behaviour.knows_no_ranges.store(true, Ordering::Relaxed);
    match open(&server).await.unwrap() {
        Remote::Whole(fetched) => assert_eq!(fetched.bytes, LENGTH as u64),
        Remote::Ranged(_) => panic!("it knows no ranges"),
    }
    assert_eq!(server.heads.lock().unwrap().len(), 1, "with one request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_in_a_timeout_and_a_raised_flag_at_once() {
    let server = serve(None).await;
    let bytes = ranged(&server).await.bytes;
    server.behaviour.falls_silent.store(true, Ordering::Relaxed);
    let cancel = CancelFlag::new();
    let reading = read(&bytes, MIDDLE..MIDDLE + 10, &cancel);
    let raised = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
        Instant::now()
    };
    let (outcome, raised) = tokio::join!(reading, raised);
    let late = raised.elapsed();
    assert!(outcome.is_err() && late < Duration::from_secs(2), "{late:?}");
    assert_eq!(failure(&bytes, MIDDLE).await, "SOURCE_TIMEOUT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_checked_every_time() {
    let server = serve(None).await;
    let address = server.address;
    *server.behaviour.redirect_to.lock().unwrap() = Some(format!("http://{address}/real.mp4?signature=1"));
    let bytes = ranged(&server).await.bytes;
    let cancel = CancelFlag::new();
    assert!(read(&bytes, MIDDLE..MIDDLE + 10, &cancel).await.is_ok());
    let heads = server.heads.lock().unwrap().clone();
    assert!(
        heads[2].starts_with("GET /real.mp4?signature=1 "),
        "the way is remembered: {heads:?}"
    );

    *server.behaviour.redirect_to.lock().unwrap() = Some("http://127.0.0.2:9/real.mp4".to_owned());
    assert!(matches!(open(&server).await, Err(FetchError::Blocked { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_taken_than_allowed() {
    let server = serve(None).await;
    let uri = format!("http://{}/video.mp4", server.address);
    let folder = tempfile::tempdir().unwrap();
    let limits = FetchLimits {
        max_bytes: 3 << 20,
        ..limits()
    };
    let opened = fetcher(limits)
        .open(&uri, &SourceHeaders::default(), folder.path())
        .await
        .unwrap();
    let Remote::Ranged(Ranged { bytes, .. }) = opened else {
        panic!("ranges")
    };
    assert!(
        read(&bytes, MIDDLE..MIDDLE + 1000, &CancelFlag::new())
            .await
            .is_ok()
    );
    let error = read(&bytes, 0..LENGTH, &CancelFlag::new()).await.unwrap_err();
    assert_eq!(ReadFailure::of(&error).unwrap().reason, "SOURCE_TOO_LARGE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_with_authorities_that_the_operator_trusts() {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let server = serve(Some(Arc::new(config).into())).await;
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("authority.pem");
    std::fs::write(&pem, authority_pem).unwrap();
    let uri = format!("https://localhost:{}/video.mp4", server.address.port());
    let policy = || UrlPolicy::new(vec!["localhost".parse().unwrap()]);
    let headers = SourceHeaders::parse(&BTreeMap::new()).unwrap();

    let trusting = authorities_from_pem(&pem).unwrap();
    let fetcher = Fetcher::with(policy(), limits(), Arc::new(SystemResolver), &trusting);
    let Remote::Ranged(Ranged { bytes, .. }) = fetcher.open(&uri, &headers, folder.path()).await.unwrap()
    else {
        panic!("ranges")
    };
    let got = read(&bytes, MIDDLE..MIDDLE + 10, &CancelFlag::new())
        .await
        .unwrap();
    assert_eq!(got, body(0)[MIDDLE..MIDDLE + 10]);

    let stranger = Fetcher::new(policy(), limits());
    let refused = stranger.open(&uri, &headers, folder.path()).await.unwrap_err();
    assert!(matches!(refused, FetchError::Tls { .. }), "{refused}");
    assert!(authorities_from_pem(&folder.path().join("none")).is_err());
    std::fs::write(&pem, "no certificate").unwrap();
    assert!(authorities_from_pem(&pem).is_err());
}
