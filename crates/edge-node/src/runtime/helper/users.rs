//! Who a container runs as. Names mean what the image's own `/etc/passwd` and `/etc/group` say;
//! these are opened beneath the root's handle, since an image may hold links to anywhere.

use std::io::Read;

use nix::sys::stat::{SFlag, fstat};
use pathrs::Root;
use pathrs::flags::OpenFlags;

use super::Failure;
use crate::seams::ContainerSpec;

/// Most that is read of either file.
const LARGEST: u64 = 4 << 20;

/// A container's identity, all numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Always with `gid` itself, as containerd has it (CVE-2022-36109).
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

struct Passwd {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Works out the user from the image's `USER` and the security context.
pub(super) fn resolve(root: &Root, spec: &ContainerSpec) -> Result<User, Failure> {
    let user = look_up(&read(root, "etc/passwd"), &read(root, "etc/group"), spec)?;
    if spec.security.run_as_non_root && user.uid == 0 {
        return Err(Failure::Config(format!(
            "container has runAsNonRoot and image will run as root (pod: \"{}_{}({})\", \
             container: {})",
            spec.pod_name, spec.pod_namespace, spec.pod_uid, spec.name
        )));
    }
    Ok(user)
}

fn look_up(passwd: &str, group: &str, spec: &ContainerSpec) -> Result<User, Failure> {
    let (users, groups) = (parse_passwd(passwd), parse_group(group));
    let security = &spec.security;
    let (user, named_group) = match spec.image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (&*spec.image_user, None),
    };
    let number = security.run_as_user.or(if user.is_empty() { Some(0) } else { user.parse().ok() });
    let entry = match number {
        Some(uid) => users.iter().find(|u| u.uid == uid),
        None => Some(users.iter().find(|u| u.name == user).ok_or_else(|| {
            Failure::Config(format!(
                "unable to find user {user}: no matching entries in passwd file"
            ))
        })?),
    };
    let uid = number.or(entry.map(|e| e.uid)).unwrap_or(0);
    let gid = match (security.run_as_group, named_group) {
        (Some(gid), _) => gid,
        // A user of the pod's own choice does not bring the image's group.
        (None, Some(name)) if security.run_as_user.is_none() => match name.parse() {
            Ok(gid) => gid,
            Err(_) => groups.iter().find(|g| g.name == name).map(|g| g.gid).ok_or_else(|| {
                Failure::Config(format!(
                    "unable to find group {name}: no matching entries in group file"
                ))
            })?,
        },
        _ => entry.map_or(0, |e| e.gid),
    };
    let mut all = vec![gid];
    let member_of = groups.iter().filter(|g| entry.is_some_and(|e| g.members.contains(&e.name)));
    let more = member_of.map(|g| g.gid).chain(security.supplemental_groups.iter().copied());
    for gid in more {
        if !all.contains(&gid) {
            all.push(gid);
        }
    }
    let home = entry.map_or("", |e| &e.home);
    let home = if home.is_empty() { if uid == 0 { "/root" } else { "/" } } else { home };
    Ok(User { uid, gid, groups: all, home: home.to_owned() })
}

/// The file's text; nothing when it is missing or no plain file.
fn read(root: &Root, path: &str) -> String {
    let Ok(handle) = root.resolve(path) else { return String::new() };
    // The handle is only a path: a pipe or a device is found out before it could do harm.
    let plain = fstat(&handle).is_ok_and(|s| {
        SFlag::from_bits_truncate(s.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG
    });
    let mut text = String::new();
    if let Some(file) = plain.then(|| handle.reopen(OpenFlags::O_RDONLY).ok()).flatten() {
        let mut bytes = Vec::new();
        let _ = file.take(LARGEST).read_to_end(&mut bytes);
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    text
}

fn parse_passwd(text: &str) -> Vec<Passwd> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).unwrap_or("").to_owned();
            Some(Passwd { name: name.to_owned(), uid, gid, home })
        })
        .collect()
}

fn parse_group(text: &str) -> Vec<Group> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            let members = fields.next().unwrap_or("").split(',').map(str::to_owned).collect();
            Some(Group { name: name.to_owned(), gid, members })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tests::sample;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nweb:x:33:34:w:/srv:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:40:web,other\naudio:x:29:web\n";

    fn look(image_user: &str, change: impl Fn(&mut ContainerSpec)) -> Result<User, Failure> {
        let mut spec = sample("a");
        spec.image_user = image_user.into();
        change(&mut spec);
        look_up(PASSWD, GROUP, &spec)
    }

    #[test]
    fn every_form_of_user_is_resolved_as_containerd_does() {
        let ids = |user: &str| look(user, |_| {}).ok().map(|u| (u.uid, u.gid, u.groups));
        assert_eq!(ids(""), Some((0, 0, vec![0])));
        assert_eq!(ids("web"), Some((33, 34, vec![34, 40, 29])));
        assert_eq!(ids("33"), Some((33, 34, vec![34, 40, 29])));
        assert_eq!(ids("web:log"), Some((33, 40, vec![40, 29])));
        assert_eq!(ids("1000:1001"), Some((1000, 1001, vec![1001])));
        assert_eq!(ids("1000"), Some((1000, 0, vec![0])));
        assert_eq!(ids("nobody"), None);
        assert_eq!(ids("web:nogroup"), None);
        assert_eq!(look("web", |_| {}).ok().map(|u| u.home), Some("/srv".into()));
    }

    #[test]
    fn the_security_context_wins_over_the_image() {
        let user = look("web:log", |s| {
            s.security.run_as_user = Some(1000);
            s.security.supplemental_groups = vec![7, 0];
        });
        assert_eq!(user.ok().map(|u| (u.uid, u.gid, u.groups)), Some((1000, 0, vec![0, 7])));
        let user = look("web", |s| s.security.run_as_group = Some(5));
        assert_eq!(user.ok().map(|u| (u.uid, u.gid)), Some((33, 5)));
    }
}
