//! Settings are taken whole or not at all: all new files are written and synced beside the old
//! ones, then a list of them is, and only then they take their places. Whoever is cut off in the
//! middle of that (a kill, a power cut) goes on from the list; what goes wrong is put back.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use edge_server::pki::{read_if_present, write_atomically};

use super::plan::{Board, File, Plan};
use super::{HOLD, Refusal, failed, put};

/// The list of what is to take its place.
pub(super) const LIST: &str = "etc/edged/edged.yaml.taking";
/// What a file is called until then.
const FRESH: &str = "new";
/// Directories that were made on the way, for who takes edged off the board again.
pub(super) const MADE: &str = "etc/edged/edged.yaml.directories";
const LOCALTIME: &str = "etc/localtime";

/// One step of the list. Its file is named as the board names it, without a slash in front: what is
/// prepared in a directory may be cut off there, and goes on where that is the root.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The fresh file takes the place of this one.
    Place(PathBuf),
    /// This one goes.
    Gone(PathBuf),
}

/// Makes the board's files what the plan says; gives the paths of those that changed.
///
/// # Errors
/// Names what could not be written. All files are as they were then.
pub(super) fn apply(plan: &Plan, board: &Board, root: &Path) -> Result<Vec<String>, Refusal> {
    if let Some(why) = &plan.torn {
        return Err(Refusal::Failed(why.clone()));
    }
    let new: Vec<&File> =
        plan.files.iter().filter(|file| board.files.get(file.path) != Some(&file.text)).collect();
    let mut changed: Vec<String> = new.iter().map(|file| format!("/{}", file.path)).collect();
    let mut steps = Vec::new();
    let made = make_dirs(&new, root);
    let staged = made.as_ref().map_err(|error| Refusal::Failed(error.clone()));
    let staged = staged.and_then(|_| stage(plan, &new, root, &mut steps));
    // What can't be replaced, only written over, has no fresh file beside it.
    let over = staged.inspect_err(|_| {
        drop_fresh(root, &steps);
        made.iter().flatten().rev().for_each(|dir| drop(fs::remove_dir(dir)));
    })?;
    note_dirs(made.unwrap_or_default(), root).inspect_err(|_| drop_fresh(root, &steps))?;
    changed.extend(plan.gone.iter().map(|path| format!("no /{path}")));
    let zone = steps.iter().any(|step| *step == Step::Place(LOCALTIME.into()));
    changed.extend(zone.then(|| format!("/{LOCALTIME}")));
    if changed.is_empty() {
        return Ok(changed);
    }
    let old_zone = fs::read_link(root.join(LOCALTIME)).ok();
    let done = write_list(root, &steps).and_then(|()| {
        // Until all is in its place, edged does not start with half of it.
        let _ = put(&root.join(HOLD), "settings are being taken\n", 0o644);
        over.iter().try_for_each(|file| put(&root.join(file.path), &file.text, file.mode))?;
        finish(root)
    });
    if let Err(refusal) = done {
        drop_fresh(root, &steps);
        put_back(plan, &new, board, root);
        if let (true, Some(target)) = (zone, old_zone) {
            let _ = link(&target, &root.join(LOCALTIME));
        }
        let _ = fs::remove_file(root.join(LIST));
        return Err(refusal);
    }
    Ok(changed)
}

/// Goes on with what an earlier process began, if it did.
///
/// # Errors
/// Names what can't take its place; the list stays.
pub(super) fn finish(root: &Path) -> Result<(), Refusal> {
    let list = root.join(LIST);
    let Some(text) = read_if_present(&list).map_err(|e| failed("read", &list, e))? else {
        return Ok(());
    };
    for step in read_list(&text) {
        match step {
            Step::Place(path) => {
                let path = root.join(path);
                place(&path).map_err(|e| failed("write", &path, e))?;
            }
            Step::Gone(path) => {
                let path = root.join(path);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        return Err(failed("remove", &path, e));
                    }
                    _ => sync_dir(&path),
                }
            }
        }
    }
    fs::remove_file(&list).map_err(|e| failed("remove", &list, e))?;
    sync_dir(&list);
    Ok(())
}

/// Makes the directories that the files want and that are missing; gives them, outer ones first.
/// One of those that can't be made takes none along.
fn make_dirs(new: &[&File], root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut made: Vec<PathBuf> = Vec::new();
    for file in new {
        let path = root.join(file.path);
        let mut missing: Vec<&Path> =
            path.ancestors().skip(1).take_while(|dir| !dir.exists()).collect();
        while let Some(dir) = missing.pop() {
            let private = dir.ends_with(".ssh");
            let mut builder = fs::DirBuilder::new();
            if let Err(error) = builder.mode(if private { 0o700 } else { 0o755 }).create(dir) {
                made.iter().rev().for_each(|dir| drop(fs::remove_dir(dir)));
                return Err(format!("make {}: {error}", dir.display()));
            }
            made.push(dir.to_owned());
        }
    }
    Ok(made)
}

/// Adds directories, beneath the root, to those that were made earlier.
fn note_dirs(made: Vec<PathBuf>, root: &Path) -> Result<(), Refusal> {
    let own = root.join("etc/edged");
    let path = root.join(MADE);
    let mut text = read_if_present(&path).ok().flatten().unwrap_or_default();
    let others = made.iter().filter(|dir| **dir != own);
    let lines: Vec<String> = others
        .map(|dir| format!("{}\n", dir.strip_prefix(root).unwrap_or(dir).display()))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    text.extend(lines);
    put(&path, &text, 0o644)
}

/// Writes the fresh files; gives those that can only be written over.
fn stage<'a>(
    plan: &Plan,
    new: &[&'a File],
    root: &Path,
    steps: &mut Vec<Step>,
) -> Result<Vec<&'a File>, Refusal> {
    let mut over = Vec::new();
    for file in new {
        let path = root.join(file.path);
        let seen = seen(root, &path).map_err(|e| failed("write", &path, e))?;
        let real = root.join(&seen);
        match fresh(&real, file.text.as_bytes(), file.mode) {
            Ok(()) => steps.push(Step::Place(seen)),
            Err(error)
                if real.is_file()
                    && matches!(
                        error.kind(),
                        ErrorKind::ReadOnlyFilesystem | ErrorKind::ResourceBusy
                    ) =>
            {
                over.push(*file);
            }
            Err(error) => {
                let _ = fs::remove_file(beside(&real));
                return Err(failed("write", &path, error));
            }
        }
    }
    if let Some(zone) = &plan.zone {
        let path = root.join(LOCALTIME);
        let ends = Path::new("zoneinfo").join(zone);
        if !fs::read_link(&path).is_ok_and(|had| had.ends_with(ends)) {
            let target = Path::new("/usr/share/zoneinfo").join(zone);
            link(&target, &beside(&path)).map_err(|e| failed("write", &path, e))?;
            steps.push(Step::Place(LOCALTIME.into()));
        }
    }
    steps.extend(plan.gone.iter().map(|path| Step::Gone(path.into())));
    Ok(over)
}

/// Where a file is, beneath the root, once links are followed.
fn seen(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let dir = path.parent().unwrap_or(root).canonicalize()?;
    let name = path.file_name().unwrap_or_default();
    let real = path.canonicalize().unwrap_or_else(|_| dir.join(name));
    let seen = real.strip_prefix(root.canonicalize()?).map(Path::to_owned);
    // A link from the root on: the board's own file was meant, and this machine's is what it finds.
    seen.map_err(|_| io::Error::other(format!("it leads to {}, outside", real.display())))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(FRESH);
    name.into()
}

/// Writes and syncs the file that is to take this one's place.
fn fresh(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::other("a directory is in its place"));
    }
    let beside = beside(path);
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The fresh file takes its place; one that has done so is no error.
fn place(path: &Path) -> io::Result<()> {
    let beside = beside(path);
    match fs::rename(&beside, path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A file that is a mount point.
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            let text = fs::read(&beside)?;
            let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::remove_file(&beside)
        }
        other => {
            sync_dir(path);
            other
        }
    }
}

fn link(target: &Path, at: &Path) -> io::Result<()> {
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(target, at)
}

fn sync_dir(path: &Path) {
    // What it would say has been said by the change itself.
    let _ = path.parent().map(|dir| fs::File::open(dir).and_then(|dir| dir.sync_all()));
}

fn drop_fresh(root: &Path, steps: &[Step]) {
    for step in steps {
        if let Step::Place(path) = step {
            let _ = fs::remove_file(beside(&root.join(path)));
        }
    }
}

/// Every file is again what it was.
fn put_back(plan: &Plan, new: &[&File], board: &Board, root: &Path) {
    for file in new {
        let path = root.join(file.path);
        let is = fs::read_to_string(&path).ok();
        let _ = match board.files.get(file.path) {
            Some(old) if is.as_ref() != Some(old) => put(&path, old, file.mode).is_ok(),
            None if is.as_ref() == Some(&file.text) => fs::remove_file(&path).is_ok(),
            _ => continue,
        };
    }
    for path in plan.gone.iter().filter(|path| !root.join(path).exists()) {
        let mode = super::plan::mode_of(path);
        let _ = board.files.get(path).map(|old| put(&root.join(path), old, mode));
    }
}

fn write_list(root: &Path, steps: &[Step]) -> Result<(), Refusal> {
    let line = |step: &Step| match step {
        Step::Place(path) => format!("place /{}\n", path.display()),
        Step::Gone(path) => format!("gone /{}\n", path.display()),
    };
    let text: String = steps.iter().map(line).collect();
    let path = root.join(LIST);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| write_atomically(&path, text.as_bytes(), 0o600))
        .map_err(|e| failed("write", &path, e))
}

fn read_list(text: &str) -> Vec<Step> {
    let step = |line: &str| match line.split_once(" /")? {
        ("place", path) => Some(Step::Place(path.into())),
        ("gone", path) => Some(Step::Gone(path.into())),
        _ => None,
    };
    text.lines().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a root in it.
    struct Image(PathBuf);

    impl Image {
        fn new(name: &str) -> Image {
            let dir = std::env::temp_dir().join(format!("edged-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("made/etc/edged")).unwrap();
            Image(dir)
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn plan() -> Plan {
        let file = |path| File { path, text: "new\n".to_owned(), mode: 0o644 };
        let files = vec![file("etc/hostname"), file("etc/hosts")];
        let (gone, zone) = (vec!["etc/edged/token"], Some("Europe/Berlin".to_owned()));
        Plan { files, gone, zone, ..Plan::default() }
    }

    #[test]
    fn an_image_that_was_cut_off_goes_on_where_it_is_the_root() {
        let image = Image::new("image");
        let (made, booted) = (image.0.join("made"), image.0.join("booted"));
        fs::write(made.join("etc/edged/token"), "").unwrap();
        fs::write(made.join("etc/names"), "old\n").unwrap();
        std::os::unix::fs::symlink("names", made.join("etc/hosts")).unwrap();
        let (plan, mut steps) = (plan(), Vec::new());
        let new: Vec<&File> = plan.files.iter().collect();
        stage(&plan, &new, &made, &mut steps).unwrap();
        write_list(&made, &steps).unwrap();
        let list = fs::read_to_string(made.join(LIST)).unwrap();
        assert_eq!(
            list,
            "place /etc/hostname\nplace /etc/names\nplace /etc/localtime\ngone /etc/edged/token\n"
        );
        fs::rename(&made, &booted).unwrap();
        finish(&booted).unwrap();
        let has = |path: &str| fs::read_to_string(booted.join(path)).unwrap_or_default();
        assert_eq!((has("etc/hostname"), has("etc/hosts")), ("new\n".into(), "new\n".into()));
        assert!(fs::symlink_metadata(booted.join("etc/hosts")).unwrap().is_symlink());
        assert!(fs::read_link(booted.join(LOCALTIME)).unwrap().ends_with("Europe/Berlin"));
        let left: Vec<_> = fs::read_dir(booted.join("etc")).unwrap().flatten().collect();
        assert_eq!(left.len(), 5, "{left:?}");
        assert_eq!(fs::read_dir(booted.join("etc/edged")).unwrap().count(), 0);
    }

    #[test]
    fn a_link_out_of_the_image_is_not_followed() {
        let image = Image::new("leads-out");
        let made = image.0.join("made");
        let outside = image.0.join("hostname");
        fs::write(&outside, "this machine's\n").unwrap();
        std::os::unix::fs::symlink(&outside, made.join("etc/hostname")).unwrap();
        let (plan, mut steps) = (plan(), Vec::new());
        let new: Vec<&File> = plan.files.iter().collect();
        let told = stage(&plan, &new, &made, &mut steps).err().unwrap().to_string();
        assert!(told.contains("made/etc/hostname: it leads to ") && told.ends_with("outside"));
        assert_eq!(fs::read_to_string(&outside).unwrap(), "this machine's\n");
        assert!(steps.is_empty());
    }
}
