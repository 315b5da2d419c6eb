//! A nasty multi-layer image, unpacked by us and by the others, compared entry by entry.

use crate::tools::{Room, run, shell, skipped};
use crate::tree;
use edge_node::images::{Image, ImageStore, ImagesConfig, Progress};
use std::path::PathBuf;

/// Each is applied to the tree of those before, and becomes a layer.
const STEPS: [&str; 4] = [
    // Plain things with odd modes, owners, times, names, attributes; links of both kinds.
    "mkdir -p etc usr/bin usr/lib var/lib/app tmp home/user srv/deep/er/est opaque/a merged/dir
     chmod 1777 tmp; chmod 0700 home/user; chown 1000:1000 home/user; chmod 2755 var/lib/app
     ln -s usr/bin bin; ln -s /etc/hosts abs-link; ln -s ../../../etc/passwd escaping-link
     ln -s nowhere dangling
     echo hosts > etc/hosts; echo secret > etc/shadow; chmod 0000 etc/shadow
     echo prog > usr/bin/prog; chmod 4755 usr/bin/prog; ln usr/bin/prog usr/bin/prog2
     ln usr/bin/prog usr/lib/prog3
     echo cap > usr/bin/ping; chmod 755 usr/bin/ping
     mkfifo tmp/pipe; chmod 640 tmp/pipe; chown 33:33 tmp/pipe
     echo one > opaque/one; echo a > opaque/a/b; echo gone > gone; mkdir -p gone-dir/sub
     echo x > gone-dir/sub/x; echo keep > merged/keep; echo old > merged/dir/old
     printf 'odd' > \"$(printf 'new\\nline')\"; printf 'bytes' > \"$(printf '\\377\\376')\"
     n=$(printf 'n%.0s' $(seq 200)); mkdir -p long/$n; echo long > long/$n/$n
     truncate -s 3M sparse; printf middle | dd of=sparse bs=1 seek=1000000 conv=notrunc 2>/dev/null
     touch -d '1999-12-31 23:59:59.123456789 UTC' etc/hosts srv/deep; touch -d @0 gone-dir
     touch -h -d '2001-02-03 UTC' bin; : > empty; mknod -m 666 null c 1 3",
    // Whiteouts of files and directories, changes, an opaque directory, type changes.
    "rm gone; rm -rf gone-dir; rm -rf opaque; mkdir opaque; echo two > opaque/two
     echo changed >> etc/hosts; chmod 0711 home/user; chown 5:6 usr/lib/prog3
     rm dangling; mkdir dangling; echo in > dangling/in
     rm -rf merged/dir; echo 'now a file' > merged/dir; rm usr/bin/prog2
     mv etc/shadow etc/gshadow",
    // What was hidden comes back; a hard link is added to a file of a lower layer.
    "mkdir -p gone-dir/sub; echo y > gone-dir/sub/y; echo back > gone; ln usr/bin/ping usr/bin/ping6
     rm merged/dir; mkdir merged/dir; echo new > merged/dir/new; ln -s x empty-link; rm empty",
    "rm -rf home; chmod 0755 var/lib/app; touch usr/last",
];

const CAP_NET_RAW: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Extended attributes, set after the step of that number.
const ATTRIBUTES: [(usize, &str, &str, &[u8]); 4] = [
    (0, "usr/bin/ping", "security.capability", CAP_NET_RAW),
    (0, "etc/hosts", "user.note", b"some text"),
    (0, "var/lib/app", "user.dir", b"\0\xff"),
    (3, "etc/hosts", "user.note", b"other"),
];

/// Makes the image as an OCI layout, with umoci; `layout:nasty`.
fn make(room: &Room) -> String {
    let layout = room.text("layout");
    run("umoci", &["init", "--layout", &layout]);
    let image = format!("{layout}:nasty");
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["config", "--image", &image, "--config.entrypoint", "/usr/bin/prog"]);
    let bundle = room.text("bundle");
    run("umoci", &["unpack", "--image", &image, &bundle]);
    for (number, step) in STEPS.iter().enumerate() {
        let root = room.path("bundle/rootfs");
        shell(&root, step);
        for (_, path, key, value) in ATTRIBUTES.iter().filter(|(at, ..)| *at == number) {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.join(path), *key, value, flags).unwrap();
        }
        run("umoci", &["repack", "--refresh-bundle", "--image", &image, &bundle]);
    }
    image
}

async fn load(room: &Room, store: &str, archive: &str) -> (ImageStore, Image) {
    let store = ImageStore::open(&room.path(store), ImagesConfig::default()).unwrap();
    let file = tokio::fs::File::open(room.path(archive)).await.unwrap();
    let loaded = store.load(file, &Progress::none()).await.unwrap();
    let image = store.find(&loaded[0]).unwrap();
    (store, image)
}

/// Mounts an archive's image with podman, in a storage of its own.
fn podman(room: &Room, archive: &str) -> PathBuf {
    let storage =
        ["--root", &room.text("podman"), "--runroot", &room.text("podman-run")].map(str::to_string);
    let command = |args: &[&str]| {
        let mut all: Vec<&str> = storage.iter().map(String::as_str).collect();
        all.extend(["--storage-driver", "overlay"]);
        all.extend(args);
        run("podman", &all)
    };
    command(&["load", "-q", "-i", &room.text(archive)]);
    let id = command(&["images", "-q", "--no-trunc"]);
    PathBuf::from(command(&["image", "mount", id.lines().next().unwrap()]))
}

/// Without modification times: umoci cuts them to seconds.
fn timeless(tree: tree::Tree) -> tree::Tree {
    let cut = |line: String| line.split(' ').filter(|w| !w.starts_with("t=")).collect::<String>();
    tree.into_iter().map(|(path, line)| (path, cut(line))).collect()
}

#[tokio::test]
async fn a_nasty_image_unpacks_exactly_as_podman_unpacks_it() {
    let programs = ["umoci", "skopeo", "podman"];
    if skipped("a_nasty_image_unpacks_exactly_as_podman_unpacks_it", &programs) {
        return;
    }
    let room = Room::new("nasty");
    let image = make(&room);
    let source = format!("oci:{image}");
    for (kind, archive) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let target = format!("{kind}:{}:example.com/nasty:1", room.text(archive));
        run("skopeo", &["copy", "-q", &source, &target]);
    }
    shell(&room.path("."), "gzip -k oci.tar");
    let theirs = tree::read(&podman(&room, "oci.tar"));
    for archive in ["oci.tar", "docker.tar", "oci.tar.gz"] {
        let (_store, image) = load(&room, &format!("store-{archive}"), archive).await;
        assert_eq!(image.layers.len(), STEPS.len());
        assert_eq!(image.config.entrypoint, ["/usr/bin/prog"]);
        assert_eq!(image.reference, "example.com/nasty:1");
        let mount = room.overlay(&format!("mount-{archive}"), &image.layers);
        let ours = tree::read(&mount);
        tree::assert_same(&format!("{archive}, ours against podman's"), &ours, &theirs);
    }
    // And it is the tree that the image was made from.
    let (_store, image) = load(&room, "store-again", "oci.tar").await;
    let ours = tree::read(&room.overlay("again", &image.layers));
    let made = tree::read(&room.path("bundle/rootfs"));
    for path in ["./usr/bin/ping6", "./gone-dir/sub/y", "./opaque/two", "./merged/dir/new"] {
        assert!(ours.contains_key(path), "{path}");
    }
    let modified =
        |path: &str| std::fs::metadata(room.path("again").join(path)).unwrap().modified().unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(946_684_799);
    assert_eq!(modified("srv/deep").max(then), modified("srv/deep"), "the time of a directory");
    assert!(modified("srv/deep") < then + std::time::Duration::from_secs(1));
    tree::assert_same("ours against the tree it was made from", &timeless(ours), &timeless(made));
}
