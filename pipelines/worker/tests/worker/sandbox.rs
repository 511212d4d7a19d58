//! What the sandbox forbids, tried by a worker itself.

use std::collections::BTreeMap;

use reelsight_decode::DecodeLimits;
use seccompiler::{SeccompAction, SeccompFilter, apply_filter};

use crate::support::pool;

#[test]
fn everything_that_decoding_does_not_need_is_refused() {
    let pool = pool();
    let checks = pool.self_test(&DecodeLimits::default()).unwrap();
    let names: Vec<_> = checks.iter().map(|check| check.what.as_str()).collect();
    assert_eq!(
        names,
        [
            "network",
            "files",
            "programs",
            "processes",
            "signals",
            "code",
            "memory",
            "threads"
        ]
    );
    for check in &checks {
        assert!(check.holds, "{}: {}", check.what, check.detail);
    }
    assert!(
        checks[0].detail.contains("Operation not permitted"),
        "{}",
        checks[0].detail
    );
    assert_eq!(pool.sandbox_gaps().unwrap(), Vec::<String>::new());
}

#[test]
fn where_filters_are_not_allowed_the_pool_knows_and_says_so() {
    // A thread on which seccomp() fails, as in a container that forbids it; what it starts inherits that.
    let (gaps, checks) = std::thread::spawn(|| {
        let denied = BTreeMap::from([(libc::SYS_seccomp, Vec::new())]);
        let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(denied, SeccompAction::Allow, refuse, arch).unwrap();
        let program: seccompiler::BpfProgram = filter.try_into().unwrap();
        apply_filter(&program).unwrap();
        let pool = pool();
        (
            pool.sandbox_gaps().unwrap(),
            pool.self_test(&DecodeLimits::default()).unwrap(),
        )
    })
    .join()
    .unwrap();
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert!(gap.starts_with("filters system calls: "), "{gap}");
    let broken: Vec<_> = checks
        .iter()
        .filter(|check| !check.holds)
        .map(|check| check.what.as_str())
        .collect();
    assert_eq!(
        broken,
        [
            "set-up",
            "network",
            "files",
            "programs",
            "processes",
            "signals",
            "code"
        ],
        "the memory limit holds without a filter"
    );
}
