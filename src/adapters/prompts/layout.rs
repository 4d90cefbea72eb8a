//! The layout of a repository in a few lines: what stands at its root, and the folders below.

use std::collections::BTreeMap;

/// Upper bound of the lines.
const MAX_LINES: usize = 60;

/// Returns one line per entry at the root, folders with the number of their files, and below each folder its folders if
/// there is room for all of them. `paths` are the files of the repository.
pub(super) fn layout(paths: &[String]) -> Vec<String> {
    let (mut folders, mut inner, mut files) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for path in paths {
        let Some((folder, rest)) = path.split_once('/') else {
            files.push(path.clone());
            continue;
        };
        *folders.entry(folder).or_insert(0_usize) += 1;
        if let Some((below, _)) = rest.split_once('/') {
            *inner.entry((folder, below)).or_insert(0_usize) += 1;
        }
    }
    let is_detailed = folders.len() + inner.len() + files.len() <= MAX_LINES;
    let line = |name: &str, count: usize| format!("{name}/ ({count} file{})", if count == 1 { "" } else { "s" });
    let mut lines = Vec::new();
    for (folder, count) in &folders {
        lines.push(line(folder, *count));
        if is_detailed {
            let inside = inner.range((*folder, "")..).take_while(|((of, _), _)| of == folder);
            lines.extend(inside.map(|((folder, below), count)| line(&format!("{folder}/{below}"), *count)));
        }
    }
    lines.extend(files);
    let more = lines.len().saturating_sub(MAX_LINES);
    lines.truncate(MAX_LINES);
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str]) -> Vec<String> {
        layout(&paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn folders_come_before_files_with_what_is_in_them() {
        let lines = of(&["Cargo.toml", "src/cli/a.rs", "src/cli/b.rs", "src/lib.rs", "src-tools/x/y.rs", "README.md"]);
        let expected = ["src/ (3 files)", "src/cli/ (2 files)", "src-tools/ (1 file)", "src-tools/x/ (1 file)"];
        assert_eq!(lines, [&expected[..], &["Cargo.toml", "README.md"]].concat());
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_large_repository_is_cut() {
        let paths: Vec<String> = (0..50).flat_map(|n| [format!("d{n:02}/a/x"), format!("d{n:02}/b/x")]).collect();
        let lines = layout(&paths);
        assert_eq!((lines.len(), lines[0].as_str()), (50, "d00/ (2 files)"));
        let paths: Vec<String> = (0..500).map(|n| format!("f{n}")).collect();
        let lines = layout(&paths);
        assert_eq!((lines.len(), lines[MAX_LINES].as_str()), (MAX_LINES + 1, "… and 440 more"));
    }
}
