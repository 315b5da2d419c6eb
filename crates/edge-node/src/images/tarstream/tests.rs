//! Archives as different tools write them, and as nobody should.

use super::super::tests::samples::{Tar, record};
use super::*;
use std::io::Write;
use std::process::{Command, Stdio};
use tar::EntryType;

fn entries(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut tar = TarReader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = tar.next()? {
        let mut data = Vec::new();
        tar.read_to_end(&mut data)?;
        entries.push((entry, data));
    }
    Ok(entries)
}

#[test]
fn a_pax_size_wins_over_the_header() {
    // The header says 0, PAX says 8: a reader that believes the header would take the data for
    // headers, and a hidden entry for a real one.
    let mut tar = Tar::default().pax(b"size", b"8");
    tar.add(EntryType::Regular, b"f", b"", b"", |header| header.set_size(0));
    tar.0.extend_from_slice(b"12345678");
    tar.0.resize(tar.0.len().next_multiple_of(512), 0);
    let found = entries(&tar.file("g", b"x").end()).unwrap();
    assert_eq!(found[0].1, b"12345678");
    assert_eq!((found[1].0.path.as_slice(), found.len()), (&b"g"[..], 2));
}

#[test]
fn links_and_directories_have_no_data_whatever_they_say() {
    let mut tar = Tar::default();
    tar.add(EntryType::Directory, b"d", b"", b"", |header| header.set_size(512));
    let found = entries(&tar.file("f", b"x").end()).unwrap();
    assert_eq!((found.len(), found[1].1.as_slice()), (2, &b"x"[..]));
}

#[test]
fn gnu_long_names_and_global_headers_are_read() {
    let long = "n".repeat(180);
    let target = "t".repeat(150);
    let tar = Tar::default()
        .raw(EntryType::XGlobalHeader, b"pax", b"19 comment=a commit", b"")
        .raw(EntryType::GNULongName, b"././@LongLink", format!("{long}\0").as_bytes(), b"")
        .raw(EntryType::GNULongLink, b"././@LongLink", format!("{target}\0").as_bytes(), b"")
        .raw(EntryType::Symlink, b"nnn", b"", b"ttt");
    let found = entries(&tar.end()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.path, long.as_bytes());
    assert_eq!(found[0].0.link, target.as_bytes());
}

#[test]
fn damaged_archives_are_errors_and_never_hang() {
    let whole = Tar::default().pax(b"path", b"name").file("f", &[7; 1000]).file("g", b"x").end();
    for cut in 0..whole.len() - 1024 {
        let result = entries(&whole[..cut]);
        // A cut between entries looks like an archive without its end; digests find that.
        let between = cut % 512 == 0 && (cut == 0 || cut >= 3 * 512 + 1024);
        assert!(result.is_err() || between, "cut at {cut}");
    }
    for (bytes, word) in [
        (Tar::default().pax(b"path", b"x").end(), "after an extension"),
        (
            [Tar::default().file("f", b"").0, vec![0; 512], Tar::default().file("g", b"").0]
                .concat(),
            "lone block",
        ),
        (vec![b'x'; 2048], "checksum"),
        (
            Tar::default().raw(EntryType::XHeader, b"p", b"5 a=b\n", b"").file("f", b"").end(),
            "length is wrong",
        ),
        (
            Tar::default().raw(EntryType::XHeader, b"p", b"7 path\n", b"").file("f", b"").end(),
            "no '='",
        ),
        (Tar::default().pax(b"size", b"-1").file("f", b"").end(), "number"),
        (Tar::default().pax(b"size", b"18446744073709551615").file("f", b"").end(), "beyond"),
        (Tar::default().pax(b"uid", b"99999999999").file("f", b"").end(), "number"),
    ] {
        let error = entries(&bytes).expect_err(word).to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    let mut long = Tar::default();
    long.add(EntryType::GNULongName, b"l", b"", b"", |header| header.set_size(9 << 30));
    assert!(entries(&long.end()).unwrap_err().to_string().contains("a name that long"));
}

#[test]
fn bad_bytes_anywhere_never_panic() {
    let mut records = Vec::new();
    record(&mut records, b"GNU.sparse.map", b"0,1,5,1");
    record(&mut records, b"GNU.sparse.size", b"9");
    let mut tar = Tar::default();
    tar.records(&records);
    let whole = tar.file("f", b"ab").dir("d").symlink("s", "t").end();
    let mut seed = 1u32;
    for at in 0..whole.len() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut bad = whole.clone();
        bad[at] ^= (seed >> 24) as u8 | 1;
        drop(entries(&bad));
        // With the checksum made right again, deeper code is reached.
        let block = at / 512 * 512;
        let mut header = Header::from_byte_slice(&bad[block..block + 512]).clone();
        header.set_cksum();
        bad[block..block + 512].copy_from_slice(header.as_bytes());
        drop(entries(&bad));
    }
}

#[test]
fn what_gnu_tar_writes_is_read_in_all_its_formats() {
    let dir = super::super::tests::samples::Scratch::new("gnutar");
    let mut sparse = std::fs::File::create(dir.0.join("sparse")).unwrap();
    sparse.write_all(b"start").unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all(b"more").unwrap();
    drop(sparse);
    std::fs::write(dir.0.join("x".repeat(150)), b"long").unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
    ] {
        let tar = Command::new("tar")
            .args(["-c", "--sparse", "-C"])
            .arg(&dir.0)
            .args(format)
            .arg(".")
            .stderr(Stdio::inherit())
            .output();
        let Ok(tar) = tar else {
            eprintln!("SKIPPED what_gnu_tar_writes_is_read_in_all_its_formats: no tar");
            return;
        };
        let found = entries(&tar.stdout).unwrap();
        let (entry, data) = found.iter().find(|(e, _)| e.path == b"./sparse").unwrap();
        assert_eq!(entry.size, 8 << 20, "{format:?}");
        assert!(entry.runs.is_some() && data.starts_with(b"startmore"), "{format:?}");
        assert!(found.iter().any(|(e, d)| e.path.len() == 152 && d == b"long"), "{format:?}");
    }
}
