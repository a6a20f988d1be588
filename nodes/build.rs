//! Finds out which commit is built, by reading `.git` alone (no program is started), and which pages
//! lie in `web`.
//!
//! In: `.git/HEAD` and what it points to; the files of `web`. Out: `WEFT_COMMIT`, or `unknown` outside
//! of a repository; `web.rs`, the list of pages with their octets.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let git = folder.join("../.git");
    let commit = commit(&git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=WEFT_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=web");
    let list = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("web.rs");
    list_pages(&folder.join("web"), &list)
        .expect("the folder `web` is there and OUT_DIR is writable");
    for name in ["HEAD", "packed-refs", "refs/heads"] {
        let file = git.join(name);
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
}

/// Writes the list of the files of `web`, in the order of their names.
fn list_pages(web: &Path, list: &Path) -> std::io::Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir(web)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let mut text = "const FILES: &[(&str, &[u8])] = &[\n".to_owned();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(
            text,
            "    ({name:?}, include_bytes!({:?})),",
            file.display().to_string()
        );
    }
    text.push_str("];\n");
    fs::write(list, text)
}

/// Reads HEAD: a commit, or the name of a branch, which is a file of its own or a packed line.
fn commit(git: &Path) -> Option<String> {
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let head = head.trim();
    let Some(name) = head.strip_prefix("ref: ") else {
        return checked(head);
    };
    if let Ok(commit) = fs::read_to_string(git.join(name)) {
        return checked(commit.trim());
    }
    let packed = fs::read_to_string(git.join("packed-refs")).ok()?;
    let mut lines = packed.lines().filter_map(|line| line.split_once(' '));
    lines.find_map(|(commit, of)| (of == name).then(|| checked(commit))?)
}

/// Returns the first twelve digits of what is a commit.
fn checked(commit: &str) -> Option<String> {
    let is_commit = commit.len() >= 40 && commit.bytes().all(|octet| octet.is_ascii_hexdigit());
    is_commit.then(|| commit.chars().take(12).collect())
}
