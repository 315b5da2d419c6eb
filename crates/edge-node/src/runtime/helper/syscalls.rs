//! The system calls of the default seccomp profile: containerd's list, by number on the
//! architecture that this is built for. Numbers from 403 on are the same everywhere.

use super::caps::bit;

macro_rules! numbers {
    ($($name:ident)*) => { &[$(libc::$name as i64),*] };
}

/// Allowed on every architecture.
const EVERYWHERE: &[i64] = numbers![
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir
    SYS_clock_adjtime SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_clone SYS_close
    SYS_connect SYS_copy_file_range SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl
    SYS_epoll_pwait SYS_eventfd2 SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_faccessat
    SYS_fallocate SYS_fanotify_mark SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat
    SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsetxattr
    SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_get_robust_list SYS_getcpu
    SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer
    SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom
    SYS_getresgid SYS_getresuid SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid
    SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1
    SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup SYS_io_submit
    SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kill SYS_lgetxattr SYS_linkat SYS_listen
    SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise
    SYS_membarrier SYS_memfd_create SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2
    SYS_mlockall SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive
    SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd
    SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_name_to_handle_at SYS_nanosleep SYS_openat
    SYS_personality SYS_pipe2 SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl
    SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_vm_readv SYS_process_vm_writev
    SYS_pselect6 SYS_ptrace SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead
    SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages
    SYS_removexattr SYS_renameat2 SYS_restart_syscall SYS_rt_sigaction
    SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend
    SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
    SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr
    SYS_sched_setparam SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget
    SYS_semop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_robust_list
    SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_setitimer
    SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid
    SYS_setsid SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt
    SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socket SYS_socketpair SYS_splice
    SYS_statfs SYS_statx SYS_symlinkat SYS_sync SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill
    SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime
    SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate
    SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4 SYS_waitid SYS_write
    SYS_writev
];

/// Allowed; the same number everywhere: pidfd_send_signal, pidfd_open, close_range, openat2,
/// faccessat2, epoll_pwait2, landlock (3), memfd_secret, process_mrelease, futex_waitv,
/// cachestat, fchmodat2, map_shadow_stack, futex (3), mseal, xattrat (4).
const NEW: &[i64] = &[
    424, 434, 436, 437, 439, 441, 444, 445, 446, 447, 448, 449, 451, 452, 453, 454, 455, 456, 462,
    463, 464, 465, 466,
];

/// The calls of the two older architectures that newer ones do without.
#[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
const OLD: &[i64] = numbers![
    SYS_access SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_wait SYS_eventfd
    SYS_fork SYS_futimesat SYS_getdents SYS_getpgrp SYS_inotify_init SYS_lchown SYS_link SYS_lstat
    SYS_mkdir SYS_mknod SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_rmdir
    SYS_signalfd SYS_stat SYS_symlink SYS_unlink SYS_utimes SYS_vfork
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "arm")))]
const OLD: &[i64] = &[];

/// The calls of one architecture alone, io_pgetevents among them.
#[cfg(target_arch = "x86_64")]
const OWN: &[i64] = numbers![
    SYS_alarm SYS_arch_prctl SYS_epoll_ctl_old SYS_epoll_wait_old SYS_fadvise64 SYS_get_thread_area
    SYS_getrlimit SYS_mmap SYS_modify_ldt SYS_newfstatat SYS_select SYS_semtimedop
    SYS_renameat SYS_rseq SYS_set_thread_area SYS_setrlimit SYS_sync_file_range SYS_time SYS_utime
];
#[cfg(target_arch = "aarch64")]
const OWN: &[i64] = numbers![SYS_fadvise64 SYS_mmap SYS_newfstatat SYS_semtimedop];
#[cfg(target_arch = "arm")]
const OWN: &[i64] = numbers![
    SYS__llseek SYS__newselect SYS_chown32 SYS_fchown32 SYS_fcntl64
    SYS_fstat64 SYS_fstatat64 SYS_fstatfs64 SYS_ftruncate64 SYS_getegid32 SYS_geteuid32
    SYS_getgid32 SYS_getgroups32 SYS_getresgid32 SYS_getresuid32 SYS_getuid32 SYS_lchown32
    SYS_lstat64 SYS_mmap2 SYS_recv SYS_renameat SYS_semtimedop SYS_setrlimit SYS_send
    SYS_sendfile64 SYS_setfsgid32
    SYS_setfsuid32 SYS_setgid32 SYS_setgroups32 SYS_setregid32 SYS_setresgid32 SYS_setresuid32
    SYS_setreuid32 SYS_setuid32 SYS_sigaction SYS_sigpending SYS_sigprocmask SYS_sigreturn
    SYS_sigsuspend SYS_stat64 SYS_statfs64 SYS_truncate64 SYS_ugetrlimit
];
/// What libc lacks on some: io_pgetevents, renameat, rseq, fadvise64_64, sync_file_range and the
/// limits; of 32-bit architectures the calls with 64-bit times (all but clock_settime64, 404),
/// and the breakpoint, cacheflush, usr and set_tls calls of arm.
#[cfg(target_arch = "x86_64")]
const RAW: &[i64] = &[333];
#[cfg(target_arch = "aarch64")]
const RAW: &[i64] = &[38, 84, 163, 164, 292, 293];
#[cfg(target_arch = "arm")]
const RAW: &[i64] = &[
    270, 341, 398, 399, 403, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 416, 417, 418, 419,
    420, 421, 422, 423, 0xf0001, 0xf0002, 0xf0003, 0xf0004, 0xf0005, 0xf0006,
];

/// What each capability opens up.
const BY_CAPABILITY: &[(&str, &[i64])] = &[
    ("DAC_READ_SEARCH", numbers![SYS_open_by_handle_at]),
    (
        "SYS_ADMIN",
        numbers![
            SYS_bpf SYS_fanotify_init SYS_lookup_dcookie SYS_mount SYS_perf_event_open SYS_quotactl
            SYS_setdomainname SYS_sethostname SYS_setns SYS_syslog SYS_umount2 SYS_unshare
            SYS_pivot_root
        ],
    ),
    // open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, clone3, mount_setattr,
    // quotactl_fd, statmount, listmount.
    ("SYS_ADMIN", &[428, 429, 430, 431, 432, 433, 435, 442, 443, 457, 458]),
    ("SYS_BOOT", numbers![SYS_reboot]),
    ("SYS_CHROOT", numbers![SYS_chroot]),
    ("SYS_MODULE", numbers![SYS_delete_module SYS_init_module SYS_finit_module]),
    ("SYS_PACCT", numbers![SYS_acct]),
    ("SYS_PTRACE", numbers![SYS_kcmp]),
    ("SYS_PTRACE", &[438, 440]), // pidfd_getfd, process_madvise
    #[cfg(target_arch = "x86_64")]
    ("SYS_RAWIO", numbers![SYS_iopl SYS_ioperm]),
    ("SYS_TIME", numbers![SYS_settimeofday SYS_clock_settime]),
    #[cfg(target_arch = "arm")]
    ("SYS_TIME", &[404]),
    ("SYS_TTY_CONFIG", numbers![SYS_vhangup]),
    ("SYS_NICE", numbers![SYS_get_mempolicy SYS_mbind SYS_set_mempolicy]),
    ("SYS_NICE", &[450]), // set_mempolicy_home_node
    ("SYSLOG", numbers![SYS_syslog]),
    ("BPF", numbers![SYS_bpf]),
    ("PERFMON", numbers![SYS_perf_event_open]),
];

/// What no capability opens up. A call on neither list does not exist for a container, so that
/// programs fall back from ones that are newer than the list.
const REFUSED: &[i64] = numbers![
    SYS_add_key SYS_keyctl SYS_request_key SYS_kexec_load SYS_move_pages SYS_swapoff SYS_swapon
    SYS_userfaultfd
];
/// io_uring (3).
const REFUSED_NEW: &[i64] = &[425, 426, 427];

/// clone3, which hides its flags from a filter: it does not exist, so that libc uses clone.
const CLONE3: i64 = 435;

/// The calls that a container with these capabilities may make.
pub(super) fn allowed(capabilities: u64) -> Vec<i64> {
    let opened = BY_CAPABILITY
        .iter()
        .filter(|(name, _)| bit(name).is_some_and(|b| capabilities & b != 0))
        .flat_map(|(_, calls)| calls.iter());
    [EVERYWHERE, NEW, OLD, OWN, RAW].into_iter().flatten().chain(opened).copied().collect()
}

/// The calls that exist but are not for it.
pub(super) fn refused(capabilities: u64) -> Vec<i64> {
    let open = allowed(capabilities);
    BY_CAPABILITY
        .iter()
        .flat_map(|(_, calls)| calls.iter())
        .chain(REFUSED)
        .chain(REFUSED_NEW)
        .copied()
        .filter(|n| *n != CLONE3 && !open.contains(n))
        .collect()
}
