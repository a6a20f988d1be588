//! What `style.md` §13 asks of every file, checked by machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use weft_tests::root;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const PURE: [&str; 6] = [
    "fabric/contract",
    "fabric/sip",
    "fabric/media",
    "fabric/doors",
    "fabric/cluster",
    "actors",
];

#[test]
fn files_are_about_one_thing() {
    let mut long = Vec::new();
    for path in rust_files(&root()) {
        let lines = read(&path).lines().count();
        if lines > FILE_LINES_MAX && !is_test(&path) {
            long.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert!(
        long.is_empty(),
        "over {FILE_LINES_MAX} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn functions_fit_a_screen() {
    let mut long = Vec::new();
    for path in rust_files(&root()) {
        if is_test(&path) {
            continue;
        }
        for (name, line, count) in functions(&read(&path)) {
            if count > FUNCTION_LINES_MAX {
                long.push(format!("{}:{line} {name}: {count} lines", path.display()));
            }
        }
    }
    assert!(
        long.is_empty(),
        "over {FUNCTION_LINES_MAX} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn every_file_says_its_purpose() {
    let silent: Vec<_> = rust_files(&root())
        .into_iter()
        .filter(|path| !read(path).trim_start().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no //! at the top of {silent:?}");
}

#[test]
fn ractor_is_named_in_the_runtime_only() {
    let strays: Vec<_> = rust_files(&root())
        .into_iter()
        .filter(|path| !path.starts_with(root().join("fabric/runtime")) && !is_test(path))
        .filter(|path| code(&read(path)).contains("ractor::"))
        .collect();
    assert!(strays.is_empty(), "ractor is named in {strays:?}");
}

#[test]
fn pure_crates_name_no_clock_task_or_socket() {
    let words = [
        "Instant::now",
        "SystemTime::now",
        "tokio::",
        "sled::",
        "std::net::UdpSocket",
        "std::net::TcpStream",
        "std::thread",
        "std::fs",
        "getrandom",
        "rand::rng",
    ];
    let mut found = Vec::new();
    for folder in PURE {
        for path in rust_files(&root().join(folder).join("src")) {
            if is_test(&path) {
                continue;
            }
            let text = code(&read(&path));
            found.extend(
                words
                    .iter()
                    .filter(|word| text.contains(**word))
                    .map(|word| format!("{} names {word}", path.display())),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn conditional_compilation_is_for_tests_only() {
    let mut found = Vec::new();
    for folder in ["fabric", "actors"] {
        for path in rust_files(&root().join(folder)) {
            for (at, line) in read(&path).lines().enumerate() {
                let is_cfg = line.contains("cfg(") || line.contains("cfg!(");
                let allowed = line.contains("cfg(test)") || line.trim_start().starts_with("//");
                if is_cfg && !allowed {
                    found.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn actor_folders_have_their_four_files() {
    let mut missing = Vec::new();
    let folders = fs::read_dir(root().join("actors/src")).expect("actors");
    for folder in folders
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
    {
        for name in ["mod.rs", "core.rs", "snapshot.rs", "tests.rs"] {
            if !folder.join(name).exists() {
                missing.push(folder.join(name));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_limit_has_a_reason() {
    let text = read(&root().join("fabric/contract/src/limits.rs"));
    let mut before = "";
    let mut bare = Vec::new();
    for line in text.lines() {
        if line.starts_with("pub const") && !before.starts_with("///") {
            bare.push(line.to_owned());
        }
        before = line;
    }
    assert!(bare.is_empty(), "limits without a reason: {bare:#?}");
}

#[test]
fn every_dependency_has_a_reason() {
    let text = read(&root().join("Cargo.toml"));
    let table = text
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("the table of versions");
    let table = table.split("\n[").next().unwrap_or_default();
    let mut reasoned = false;
    let mut bare = Vec::new();
    for line in table.lines() {
        if line.starts_with('#') {
            reasoned = true;
        } else if line.is_empty() {
            reasoned = false;
        } else if !reasoned && !line.contains("path = ") && line.contains('=') {
            bare.push(line.to_owned());
        }
    }
    assert!(bare.is_empty(), "dependencies without a reason: {bare:#?}");
}

#[test]
fn no_file_names_a_registry_host() {
    let hosts = [
        "crates".to_owned() + ".io",
        "npmjs".to_owned() + ".org",
        "pypi".to_owned() + ".org",
    ];
    let mut found = Vec::new();
    for path in all_files(&root()) {
        if path.ends_with("Cargo.lock") {
            continue;
        }
        let text = read(&path);
        found.extend(
            hosts
                .iter()
                .filter(|host| text.contains(host.as_str()))
                .map(|host| format!("{} names {host}", path.display())),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_file_is_dead() {
    let files = rust_files(&root());
    let mut dead = Vec::new();
    let texts: Vec<_> = files
        .iter()
        .map(|path| (path.clone(), read(path)))
        .collect();
    let manifests: String = all_files(&root())
        .iter()
        .filter(|path| path.ends_with("Cargo.toml"))
        .map(|path| read(path))
        .collect();
    for path in &files {
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let stem = stem.unwrap_or_default();
        if ["lib", "main", "mod", "build"].contains(&stem.as_str())
            || path
                .components()
                .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "fuzz")
            || manifests.contains(&format!("{stem}.rs"))
        {
            continue;
        }
        let named = format!("mod {stem};");
        let pathed = format!("{stem}.rs\"]");
        let named_somewhere = texts.iter().any(|(other, text)| {
            other != path && (text.contains(&named) || text.contains(&pathed))
        });
        if !named_somewhere {
            dead.push(path.clone());
        }
    }
    assert!(dead.is_empty(), "no module names {dead:?}");
}

#[test]
fn seeds_that_failed_are_explained() {
    let folder = root().join("sim/seeds");
    let Ok(entries) = fs::read_dir(&folder) else {
        return;
    };
    let mut names = BTreeSet::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let text = read(&path);
        let explained = text
            .lines()
            .any(|line| line.trim_start().starts_with('#') && line.len() > 20);
        assert!(explained, "{} has no sentence", path.display());
        names.insert(path);
    }
    let code: String = rust_files(&root().join("sim"))
        .iter()
        .map(|path| read(path))
        .collect();
    assert!(
        names.is_empty() || code.contains("seeds/"),
        "no test runs sim/seeds"
    );
}

fn is_test(path: &Path) -> bool {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    stem.ends_with("tests")
        || path.components().any(|part| part.as_os_str() == "tests")
        || path.components().any(|part| part.as_os_str() == "suites")
}

fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Text without comment lines.
fn code(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Name, first line and length of each function, found by the indentation rustfmt gives.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let lines: Vec<_> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let head = trimmed.split('(').next().unwrap_or_default();
        let words: Vec<_> = head.split_whitespace().collect();
        let named = words
            .iter()
            .position(|word| *word == "fn")
            .is_some_and(|at| at + 1 < words.len());
        let is_function = !trimmed.starts_with("//") && named;
        // A signature without a body (a trait's) ends in a semicolon.
        let opener = lines[at..]
            .iter()
            .find(|l| l.ends_with('{') || l.ends_with(';') || l.ends_with('}'));
        if !is_function || !opener.is_some_and(|l| l.ends_with('{')) {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[at..]
            .iter()
            .position(|l| *l == end)
            .map_or(0, |length| length + 1);
        let name = head
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned();
        found.push((name, at + 1, length));
    }
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let files = all_files(folder);
    files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if ["target", ".git", "weft-data", "node_modules", ".work"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
