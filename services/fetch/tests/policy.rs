//! Fetching from a real HTTP server on loopback, under every trick that the policy must survive.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use reelsight_fetch::{FetchError, FetchLimits, Fetched, Fetcher, Resolver, SourceHeaders, UrlPolicy};
use reelsight_proto::status::ServiceError as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A server that answers raw bytes by path and remembers the requests that it saw.
struct Web {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

type Answer = Arc<dyn Fn(TcpStream, String) -> BoxFuture<'static, ()> + Send + Sync>;

async fn web(answer: impl Fn(TcpStream, String) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Web {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (log, answer): (_, Answer) = (Arc::clone(&seen), Arc::new(answer));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            connections.spawn(async move {
                let mut head = vec![0; 8192];
                let mut filled = 0;
                while !head[..filled].windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut head[filled..]).await {
                        Ok(n) if n > 0 => filled += n,
                        _ => return,
                    }
                }
                let head = String::from_utf8_lossy(&head[..filled]).into_owned();
                log.lock().unwrap().push(head.clone());
                answer(stream, head).await;
            });
        }
    });
    Web {
        address,
        seen,
        _tasks: tasks,
    }
}

/// Always the same bytes.
async fn fixed(response: impl Into<Vec<u8>>) -> Web {
    let response = response.into();
    web(move |mut stream, _| {
        let response = response.clone();
        Box::pin(async move {
            stream.write_all(&response).await.ok();
        })
    })
    .await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

fn limits() -> FetchLimits {
    FetchLimits {
        max_bytes: 1 << 20,
        connect: Duration::from_secs(2),
        idle: Duration::from_millis(300),
        total: Duration::from_secs(3),
        max_redirects: 5,
        cache_bytes: 1 << 20,
    }
}

fn trusting(allow: &[&str]) -> Fetcher {
    Fetcher::new(
        UrlPolicy::new(allow.iter().map(|rule| rule.parse().unwrap()).collect()),
        limits(),
    )
}

async fn fetch(fetcher: &Fetcher, uri: &str) -> Result<Fetched, FetchError> {
    let folder = tempfile::tempdir().unwrap();
    fetcher.fetch(uri, &SourceHeaders::default(), folder.path()).await
}

async fn reason(fetcher: &Fetcher, uri: &str) -> &'static str {
    fetch(fetcher, uri).await.unwrap_err().reason()
}

#[tokio::test]
async fn a_body_arrives_with_its_digest_and_goes_with_its_handle() {
    let server = fixed(ok("hello")).await;
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("http://{}/video.mp4?x=1", server.address);
    let fetched = trusting(&["127.0.0.1"])
        .fetch(&uri, &SourceHeaders::default(), folder.path())
        .await
        .unwrap();
    assert_eq!(std::fs::read(fetched.file.path()).unwrap(), b"hello");
    assert_eq!(fetched.bytes, 5);
    assert_eq!(
        fetched.sha256,
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    let head = server.seen.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("GET /video.mp4?x=1 HTTP/1.1\r\n")
            && head.contains(&format!("host: {}", server.address))
    );
    drop(fetched);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn nothing_local_is_reached_without_the_operators_word() {
    let server = fixed(ok("secret")).await;
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
    ] {
        assert_eq!(
            reason(&trusting(&[]), &format!("http://{host}:{port}/")).await,
            "SOURCE_BLOCKED_BY_POLICY",
            "{host}"
        );
    }
    for uri in [
        "file:///etc/passwd",
        "ftp://example.org/x",
        "gopher://127.0.0.1/",
        "concat:a|b",
        "data:video/mp4,x",
    ] {
        assert_eq!(
            reason(&trusting(&[]), uri).await,
            "SOURCE_BLOCKED_BY_POLICY",
            "{uri}"
        );
    }
    for uri in [
        "http://user:secret@127.0.0.1/",
        "http://user@127.0.0.1/",
        "not a url",
        "http://",
    ] {
        let error = fetch(&trusting(&["127.0.0.1"]), uri).await.unwrap_err();
        assert_eq!(error.reason(), "INVALID_REQUEST", "{uri}");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    assert!(
        server.seen.lock().unwrap().is_empty(),
        "no connection may have been made"
    );
}

#[tokio::test]
async fn redirects_are_followed_and_each_is_checked() {
    let end = fixed(ok("end")).await;
    let hop = fixed(to(&format!("http://{}/end", end.address))).await;
    let allowed = trusting(&["127.0.0.0/8"]);
    assert_eq!(
        fetch(&allowed, &format!("http://{}/", hop.address))
            .await
            .unwrap()
            .bytes,
        3
    );
    for target in [
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://2852039166/",
        "file:///etc/passwd",
    ] {
        let hop = fixed(to(target)).await;
        let found = reason(&allowed, &format!("http://{}/", hop.address)).await;
        assert_eq!(found, "SOURCE_BLOCKED_BY_POLICY", "{target}");
    }
    let hop = fixed(to("http://user:pw@example.org/")).await;
    assert_eq!(
        reason(&allowed, &format!("http://{}/", hop.address)).await,
        "INVALID_REQUEST"
    );
    let round = fixed(to("/again")).await;
    assert_eq!(
        reason(&allowed, &format!("http://{}/", round.address)).await,
        "SOURCE_UNREACHABLE"
    );
    assert_eq!(round.seen.lock().unwrap().len(), 6, "the URL and five redirects");
}

#[tokio::test]
async fn headers_go_to_the_origin_only() {
    let other = fixed(ok("end")).await;
    let origin = fixed(to(&format!("http://{}/end", other.address))).await;
    let headers = SourceHeaders::parse(&BTreeMap::from([(
        "Authorization".into(),
        "Bearer s3cret".into(),
    )]))
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("http://{}/", origin.address);
    trusting(&["127.0.0.1"])
        .fetch(&uri, &headers, folder.path())
        .await
        .unwrap();
    assert!(origin.seen.lock().unwrap()[0].contains("authorization: Bearer s3cret"));
    assert!(!other.seen.lock().unwrap()[0].contains("s3cret"));
}

/// Answers each lookup with the next entry.
struct Rebinding(Vec<Vec<IpAddr>>, AtomicUsize);

impl Resolver for Rebinding {
    fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let at = self.1.fetch_add(1, Ordering::SeqCst).min(self.0.len() - 1);
        let found = self.0[at].clone();
        Box::pin(async move { Ok(found) })
    }
}

fn rebinding(answers: &[&[&str]], allow: &[&str]) -> (Fetcher, Arc<Rebinding>) {
    let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
    let resolver = Arc::new(Rebinding(
        answers.iter().map(parse).collect(),
        AtomicUsize::new(0),
    ));
    let policy = UrlPolicy::new(allow.iter().map(|rule| rule.parse().unwrap()).collect());
    (
        Fetcher::with(policy, limits(), Arc::clone(&resolver) as Arc<dyn Resolver>, &[]),
        resolver,
    )
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to() {
    let server = fixed(ok("x")).await;
    // 127.0.0.1 stands for a public address: the operator trusts it. 127.0.0.2 is the private one behind a rebind.
    let uri = format!("http://rebind.example:{}/", server.address.port());
    let (fetcher, resolver) = rebinding(&[&["127.0.0.1"], &["127.0.0.2"]], &["127.0.0.1"]);
    assert_eq!(fetch(&fetcher, &uri).await.unwrap().bytes, 1);
    assert_eq!(
        resolver.1.load(Ordering::SeqCst),
        1,
        "checking and connecting use one lookup"
    );
    assert_eq!(reason(&fetcher, &uri).await, "SOURCE_BLOCKED_BY_POLICY");
    let (fetcher, _) = rebinding(&[&["127.0.0.1", "10.0.0.1"]], &["127.0.0.1"]);
    assert_eq!(
        reason(&fetcher, &uri).await,
        "SOURCE_BLOCKED_BY_POLICY",
        "one private address spoils the name"
    );
}

#[tokio::test]
async fn a_redirect_to_the_same_name_is_resolved_and_checked_again() {
    let server = fixed(to("/next")).await;
    let (fetcher, _) = rebinding(&[&["127.0.0.1"], &["127.0.0.2"]], &["127.0.0.1"]);
    let uri = format!("http://rebind.example:{}/", server.address.port());
    assert_eq!(reason(&fetcher, &uri).await, "SOURCE_BLOCKED_BY_POLICY");
}

#[tokio::test]
async fn http_failures_have_their_own_reasons() {
    let allowed = trusting(&["127.0.0.1"]);
    for (line, expected) in [
        ("401 Unauthorized", "SOURCE_AUTH_FAILED"),
        ("403 Forbidden", "SOURCE_AUTH_FAILED"),
        ("404 Not Found", "SOURCE_UNREACHABLE"),
        ("500 Oops", "SOURCE_UNREACHABLE"),
    ] {
        let server = fixed(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(
            reason(&allowed, &format!("http://{}/", server.address)).await,
            expected,
            "{line}"
        );
    }
    let server = fixed("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").await;
    assert_eq!(
        reason(&allowed, &format!("http://{}/", server.address)).await,
        "SOURCE_UNREACHABLE"
    );
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}/", plain.local_addr().unwrap());
    let speaks_no_tls = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream
            .write_all(
                b"HTTP/1.1 400 Bad Request

",
            )
            .await
            .unwrap();
        stream
    };
    let (found, _stream) = tokio::join!(reason(&allowed, &uri), speaks_no_tls);
    assert_eq!(found, "SOURCE_TLS");
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(
        reason(&allowed, &format!("http://{closed}/")).await,
        "SOURCE_UNREACHABLE"
    );
}

#[tokio::test]
async fn slow_and_huge_bodies_end_at_their_limits() {
    let allowed = trusting(&["127.0.0.1"]);
    let announced = fixed("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await;
    assert_eq!(
        reason(&allowed, &format!("http://{}/", announced.address)).await,
        "SOURCE_TOO_LARGE"
    );
    let endless = web(|mut stream, _| {
        Box::pin(async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
            while stream.write_all(&vec![0; 65536]).await.is_ok() {}
        })
    })
    .await;
    assert_eq!(
        reason(&allowed, &format!("http://{}/", endless.address)).await,
        "SOURCE_TOO_LARGE"
    );
    let silent = web(|mut stream, _| {
        Box::pin(async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nsome").await.ok();
            tokio::time::sleep(Duration::from_mins(1)).await;
        })
    })
    .await;
    assert_eq!(
        reason(&allowed, &format!("http://{}/", silent.address)).await,
        "SOURCE_TIMEOUT"
    );
    let dripping = web(|mut stream, _| {
        Box::pin(async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
            while stream.write_all(b".").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    })
    .await;
    assert_eq!(
        reason(&allowed, &format!("http://{}/", dripping.address)).await,
        "SOURCE_TIMEOUT"
    );
}

async fn eventually_empty(folder: &Path) {
    for _ in 0..100 {
        if std::fs::read_dir(folder).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the temporary file stayed");
}

#[tokio::test]
async fn dropping_the_fetch_closes_the_connection_and_deletes_the_file() {
    let (gone, mut closed) = tokio::sync::mpsc::channel(1);
    let server = web(move |mut stream, _| {
        let gone = gone.clone();
        Box::pin(async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            gone.send(()).await.ok();
        })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (fetcher, uri) = (trusting(&["127.0.0.1"]), format!("http://{}/", server.address));
    let headers = SourceHeaders::default();
    let fetching = fetcher.fetch(&uri, &headers, folder.path());
    assert!(
        tokio::time::timeout(Duration::from_millis(200), fetching)
            .await
            .is_err()
    );
    tokio::time::timeout(Duration::from_secs(5), closed.recv())
        .await
        .unwrap()
        .unwrap();
    eventually_empty(folder.path()).await;
}
