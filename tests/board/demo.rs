//! The first command of the README, as a person types it: it must come up, show replicas that
//! answer, and leave the machine as it was.

use std::process::{Command, Stdio};

use super::command::{must, run, until};
use super::machine::built;

#[test]
fn comes_up_answers_and_leaves_nothing() {
    if !super::can_run() {
        return;
    }
    let name = format!("edt-demo-{}", std::process::id());
    must("ip", &["netns", "add", &name]);
    let inside = |program: &std::ffi::OsStr| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{name}")).arg("--").arg(program);
        command
    };
    must("ip", &["-n", &name, "link", "set", "lo", "up"]);
    let log = std::env::temp_dir().join(format!("{name}.log"));
    let out = std::fs::File::create(&log).expect("a log");
    let mut command = inside(built("edged").as_os_str());
    command.arg("demo").stdin(Stdio::null()).stdout(out).stderr(Stdio::inherit());
    let mut demo = command.spawn().expect("the demo starts");
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the demo tells what to type next", || {
        assert!(demo.try_wait().expect("a child").is_none(), "it ended: {}", text());
        text().contains("Ctrl-C").then_some(()).ok_or_else(text)
    });
    let told = text();
    let answers: Vec<&str> = told.lines().filter(|l| l.contains("answered by web-")).collect();
    assert_eq!(answers.len(), 6, "{told}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(demo.id()).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::SIGINT).expect("signalled");
    let status = until("the demo cleans up and ends", || {
        demo.try_wait().map_err(|e| e.to_string())?.ok_or_else(text)
    });
    assert!(status.success(), "{}", text());
    let links = run({
        let mut ip = inside("ip".as_ref());
        ip.args(["-o", "link"]);
        ip
    });
    assert_eq!(links.ok().lines().count(), 1, "only loopback is left");
    let dir = std::env::temp_dir().join(format!("edged-demo-{pid}"));
    assert!(!dir.exists(), "{} is left", dir.display());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&dir.display().to_string()), "{mounts}");
    must("ip", &["netns", "del", &name]);
    let _ = std::fs::remove_file(&log);
}
