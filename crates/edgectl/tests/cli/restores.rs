//! Backups and restores on bad days: the disk is full, the connection breaks, no board is left, the
//! passphrase is typed.

use crate::backups::{get, refused, shown, world};
use crate::keyboard::Terminal;
use crate::world::{World, run_words};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A directory beside a world's own.
fn beside(world: &World, what: &str) -> PathBuf {
    PathBuf::from(format!("{}-{what}", world.dir().display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_board_is_left_none_comes_back() {
    let world = world().await;
    let file = shown(&world.dir().join("b.edgebak"));
    world.run(&format!("backup {file}")).await.ok();
    let other = beside(&world, "lost");
    let data = other.join("data");
    let into = format!("restore {file} --data-dir {} --boards-lost --force", shown(&data));
    world.run(&into).await.ok();
    edge_server::backup::install(&data, "board").unwrap();
    let kubeconfig = other.join("old.kubeconfig");
    fs::copy(world.kubeconfig(), &kubeconfig).unwrap();
    let back = World::over(other).await;
    assert_eq!(get(&back, &kubeconfig, "nodes -o name").await, "");
    let all = "pods -o jsonpath={range.items[*]}{.metadata.name}={.spec.nodeName};{end}";
    let pods = get(&back, &kubeconfig, all).await;
    assert!(pods.contains("there=;") && pods.contains("here=;"), "{pods}");
    assert!(pods.split_terminator(';').all(|pod| pod.ends_with('=')), "{pods}");
}

/// A small file system in memory.
struct Disk(PathBuf);

impl Disk {
    /// `None`, loudly, where that is not allowed.
    fn new(dir: PathBuf, size: &str) -> Option<Disk> {
        fs::create_dir_all(&dir).unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "edgectl-full"]).arg(&dir);
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Disk(dir));
        }
        eprintln!("SKIPPED: a full disk needs root to mount a tmpfs");
        None
    }

    /// Leaves so many bytes free.
    fn leave(&self, bytes: u64) {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        let free = disk.f_bavail * disk.f_frsize;
        fs::write(self.0.join("ballast"), vec![1; (free - bytes) as usize]).unwrap();
    }

    fn roomy(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_refuses_before_anything_is_written() {
    let world = world().await;
    let file = shown(&world.dir().join("b.edgebak"));
    world.run(&format!("backup {file}")).await.ok();
    let Some(disk) = Disk::new(beside(&world, "full"), "48m") else { return };
    let spare = World::over(disk.0.join("spare")).await;
    disk.leave(4 << 20);
    let restore = format!("restore {file} --force");
    refused(spare.run(&restore).await, "has no room for the backup, which takes 9 MB");
    assert!(!spare.dir().join("data/restore/arriving").exists());
    spare.run("create configmap goes-on").await.ok();
    spare.run("delete configmap goes-on").await.ok();

    // The same of a server that starts with a backup waiting; and later, with room, it is taken.
    disk.roomy();
    let data = disk.0.join("other");
    let into = format!("restore {file} --data-dir {} --force", shown(&data));
    world.run(&into).await.ok();
    disk.leave(4 << 20);
    let why = edge_server::backup::install(&data, "board").unwrap_err().to_string();
    assert!(why.contains("has no room for the backup") && !why.contains('\n'), "{why}");
    assert!(edge_server::backup::is_pending(&data) && !data.join("store").exists());
    disk.roomy();
    edge_server::backup::install(&data, "board").unwrap();
    let _running = spare.start(&restore);
    let taken = tokio::time::timeout(Duration::from_secs(20), spare.server.restored()).await;
    taken.expect("it is taken");
}

/// Passes bytes on between clients and a server, until the server has sent so many.
async fn passed_on(to: std::net::SocketAddr, most: u64) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (count, server) = (count.clone(), TcpStream::connect(to).await.unwrap());
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut piece = [0; 1024];
                    while let Ok(got @ 1..) = from_server.read(&mut piece).await {
                        let before = count.fetch_add(got as u64, Ordering::SeqCst);
                        let left = most.saturating_sub(before).min(got as u64) as usize;
                        let passed = to_client.write_all(&piece[..left]).await;
                        if passed.is_err() || left < got {
                            break;
                        }
                    }
                };
                tokio::select! { _ = up => {} () = down => {} }
            });
        }
    });
    (port, sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_breaks_off_leaves_nothing() {
    let world = world().await;
    let fetch = async |port: u16, file: &Path| {
        let server = format!("https://127.0.0.1:{port}");
        let file = shown(file);
        run_words(&world.kubeconfig(), &["--server", &server, "backup", &file], "").await
    };
    let (port, sent) = passed_on(world.server.address(), u64::MAX).await;
    fetch(port, &world.dir().join("whole.edgebak")).await.ok();
    let all = sent.load(Ordering::SeqCst);
    assert!(all > 20_000, "{all}");
    for part in [all / 4, all / 2, all - 1000] {
        let (port, _) = passed_on(world.server.address(), part).await;
        let file = world.dir().join("cut.edgebak");
        refused(fetch(port, &file).await, "the backup broke off");
        assert!(!file.exists() && !file.with_extension("edgebak.part").exists(), "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passphrase_is_typed_and_not_seen() {
    let world = world().await;
    let (kubeconfig, file) = (world.kubeconfig(), world.dir().join("b.edgebak"));
    let typed = tokio::task::spawn_blocking(move || {
        let path = shown(&file);
        let at = |line: &str| Terminal::run(&kubeconfig, &format!("{line} {path}"));
        let backup = || at("backup --encrypt").answer("Passphrase: ", "s3cret\u{7f}t\r");
        let (screen, status) = backup().answer("Again: ", "s3crets\r").end();
        assert!(status == 1 && screen.contains("not the same: nothing was done"), "{screen}");
        let (screen, status) = at("backup --encrypt").answer("Passphrase: ", "s3c\u{3}").end();
        assert!(status == 1 && screen.contains("nothing was typed"), "{screen}");
        assert!(!file.exists());
        let (made, status) = backup().answer("Again: ", "s3cret\r").end();
        assert!(status == 0 && made.contains(", encrypted"), "{made}");
        let check = |keys: &str| at("restore --check").answer("Passphrase: ", keys).end();
        let (screen, status) = check("S3cret\r");
        assert!(status == 1 && screen.contains("passphrase is not the one"), "{screen}");
        let (screen, status) = check("s3cret\r");
        assert!(status == 0 && screen.contains("is whole"), "{screen}");
        [made, screen].concat()
    });
    let typed = typed.await.unwrap();
    assert!(!typed.contains("cret"), "{typed}");
}
