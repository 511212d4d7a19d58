//! The system calls that decoding needs. Everything else is refused with `EPERM`: what libraries only try (to read a
//! processor's topology, say) fails softly, and what an attacker tries fails, too.

use std::{collections::BTreeMap, io};

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Allowed whatever their arguments are: they work on memory, on time, on the thread itself and on descriptors that are
/// already open. `sendmsg` and its like reach the parent alone, as no other socket can come to be.
const ALLOWED: &[c_long] = &[
    // Descriptors that are open: the link, the source, the frame memory.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_ppoll,
    libc::SYS_close,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals to itself, stacks for them, and going on after one.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // Facts about the machine.
    libc::SYS_getcpu,
    libc::SYS_sysinfo,
];

/// Those that exist on this architecture only.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Installs the filter on every thread. Sets `no_new_privs`, without which no filter is taken.
pub(super) fn restrict() -> io::Result<()> {
    // Stacked filters answer with the strictest of their answers; of two refusals, with the later filter's error. So
    // the list passes `clone3`, and the filter before it says that there is none: C libraries then use `clone`, whose
    // flags can be looked at.
    let no_clone3 = filter(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        errno(libc::ENOSYS),
    )?;
    let list = filter(allowed()?, errno(libc::EPERM), SeccompAction::Allow)?;
    for program in [no_clone3, list] {
        apply_filter_all_threads(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.cast_unsigned())
}

fn filter(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    then: SeccompAction,
) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(calls, otherwise, then, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

/// The list, with conditions on arguments where they matter.
fn allowed() -> io::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .map(|&call| (call, Vec::new()))
        .collect();
    calls.insert(libc::SYS_clone3, Vec::new());
    // Threads, no processes.
    let thread = bits(libc::CLONE_THREAD);
    calls.insert(
        libc::SYS_clone,
        vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?],
    );
    // Data, no code.
    let no_code = SeccompCmpOp::MaskedEq(bits(libc::PROT_EXEC));
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        calls.insert(call, vec![rule(2, no_code.clone(), 0)?]);
    }
    // Signals to its own threads: how `abort` ends a process.
    let own = u64::from(std::process::id());
    calls.insert(libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, own)?]);
    // Names of threads.
    let name = bits(libc::PR_SET_NAME);
    calls.insert(libc::SYS_prctl, vec![rule(0, SeccompCmpOp::Eq, name)?]);
    // Flags of descriptors, and another number for one.
    let commands = [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_GETFL];
    let commands: io::Result<Vec<_>> = commands
        .into_iter()
        .map(|command| rule(1, SeccompCmpOp::Eq, bits(command)))
        .collect();
    calls.insert(libc::SYS_fcntl, commands?);
    Ok(calls)
}

/// Flags as the filter compares them.
fn bits(flags: i32) -> u64 {
    flags.cast_unsigned().into()
}

/// Whether argument number `argument` compares to `value`.
fn rule(argument: u8, how: SeccompCmpOp, value: u64) -> io::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value);
    SeccompRule::new(vec![condition.map_err(io::Error::other)?]).map_err(io::Error::other)
}
