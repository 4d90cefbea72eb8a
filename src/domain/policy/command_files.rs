//! Files of a repository that a command line names and may run.

use super::glob;

/// Programs that only read, compare or build the files they are given: what comes of them is what a check is about. Or
/// they collect tests, whose changes are a concern of their own.
#[rustfmt::skip]
const READERS: &[&str] = &[
    "[", "[[", "bats", "black", "c++", "cat", "cc", "clang", "clang++", "cmp", "comm", "cut", "diff", "echo", "egrep", "eslint", "fgrep", "file",
    "flake8", "g++", "gcc", "grep", "head", "javac", "jest", "jq", "kotlinc", "ls", "md5sum", "mkdir", "mocha", "mypy", "od", "phpunit", "prettier",
    "printf", "py.test", "pylint", "pytest", "rg", "rm", "rspec", "ruff", "rustc", "sed", "sha1sum", "sha256sum", "shellcheck", "sort", "stat", "tail",
    "test", "touch", "tr", "true", "tsc", "uniq", "vitest", "wc", "xxd",
];
/// Modules of Python of which the same is true.
#[rustfmt::skip]
const READER_MODULES: &[&str] = &[
    "black", "compileall", "flake8", "json.tool", "mypy", "py_compile", "pycodestyle", "pyflakes", "pylint", "pytest", "ruff", "unittest",
];

/// Words that may precede the program of a command.
#[rustfmt::skip]
const LEADING: &[&str] = &[
    "!", "{", "bash", "builtin", "command", "dash", "do", "elif", "else", "env", "eval", "exec", "if", "ionice", "ksh", "nice", "nohup", "setsid", "sh",
    "stdbuf", "sudo", "then", "time", "timeout", "until", "while", "xargs", "zsh",
];

/// Returns whether a command line may run a file: names it in any word, except as input of a program that only reads.
pub fn may_run(command: &str, path: &str) -> bool {
    // `None` = a folder that is only known when the command runs.
    let mut dir = Some(String::new());
    command.split([';', '&', '|', '(', ')', '\n', '`']).any(|part| {
        let text = part.replace(['"', '\'', '\\'], "").replace('<', " ").replace('>', " > ");
        let words: Vec<&str> = text.split_whitespace().collect();
        let program = words.iter().find(|word| !leads(word)).map_or("", |word| base_name(word));
        match program {
            "cd" | "pushd" => {
                dir = dir.as_deref().and_then(|dir| join(dir, words.last()?));
                false
            }
            _ if READERS.contains(&program) || only_reads(program, &words) => false,
            _ => words.iter().enumerate().any(|(n, word)| {
                let before = n.checked_sub(1).map_or("", |n| words[n]);
                // The output of a command is not run by it.
                before != ">" && word_is(word, before, program, dir.as_deref(), path)
            }),
        }
    })
}

/// Returns whether the arguments of an interpreter make it read files instead of running them.
fn only_reads(program: &str, words: &[&str]) -> bool {
    let reads = |pair: &[&str]| pair[0] == "-m" && READER_MODULES.contains(&pair[1]);
    words.windows(2).any(reads) || program == "node" && words.contains(&"--test")
}

fn leads(word: &str) -> bool {
    word.starts_with('-')
        || word.starts_with(|c: char| c.is_ascii_digit())
        || word.contains('=')
        || LEADING.contains(&base_name(word))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn word_is(word: &str, before: &str, program: &str, dir: Option<&str>, path: &str) -> bool {
    if before == "-m" {
        let module = word.replace('.', "/");
        return [".py", "/__main__.py"].iter().any(|end| names(&format!("{module}{end}"), dir, path));
    }
    if program == "for" && word.contains('*') {
        let matches = |pattern: String| glob(&pattern).is_ok_and(|glob| glob.compile_matcher().is_match(path));
        return ["", dir.unwrap_or_default()].iter().filter_map(|dir| join(dir, word)).any(matches);
    }
    // The value of an option: --config=FILE.
    let value = word.split_once('=').map(|(_, value)| value);
    names(word, dir, path) || value.is_some_and(|value| names(value, dir, path))
}

/// Returns whether a word names the file, from the folder `dir` or from the root: an earlier part may have left `dir`.
fn names(word: &str, dir: Option<&str>, path: &str) -> bool {
    let is_known = dir.is_some() && !word.starts_with(['/', '~', '$']) && !word.contains("$");
    let same_name = !is_known && word.contains(['.', '/']) && base_name(word) == base_name(path);
    same_name || ["", dir.unwrap_or_default()].iter().any(|dir| join(dir, word).as_deref() == Some(path))
}

/// Returns the path of `word` seen from `dir`; `None` = outside the repository, or not known.
fn join(dir: &str, word: &str) -> Option<String> {
    if word.starts_with(['/', '~', '-']) || word.contains('$') {
        return None;
    }
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in word.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_runs_is_found_in_any_form_and_what_it_reads_is_not() {
        for (command, path) in [
            ("a.txt", "a.txt"),
            ("X=1 ./a.txt --fast", "a.txt"),
            ("true && bash -e a.txt", "a.txt"),
            ("cd web && sh t.sh", "web/t.sh"),
            ("(cd web && make) && sh t.sh", "t.sh"),
            ("cd web/../api; ./t.sh", "api/t.sh"),
            ("cd \"$DIR\" && sh t.sh", "web/t.sh"),
            ("sh $ROOT/ci/t.sh", "tools/t.sh"),
            ("timeout 60 sh t.sh", "t.sh"),
            ("env A=b sh -e ./t.sh", "t.sh"),
            ("xvfb-run -a sh t.sh", "t.sh"),
            ("/usr/bin/python3 t.py", "t.py"),
            ("python3.11 t.py || python3 -W error t.py", "t.py"),
            ("bash -c \"sh t.sh\"", "t.sh"),
            ("sh < t.sh", "t.sh"),
            ("node -r ./setup.js test.js", "setup.js"),
            ("make -f ci.mk all", "ci.mk"),
            ("runner --config=ci/a.conf", "ci/a.conf"),
            ("python3 -m tools.check", "tools/check.py"),
            ("python3 -m tools", "tools/__main__.py"),
            ("for t in t/*.sh; do sh \"$t\"; done", "t/a.sh"),
            ("if sh t.sh; then true; fi", "t.sh"),
        ] {
            assert!(may_run(command, path), "{command}");
        }
        for (command, path) in [
            ("test \"$(cat a.txt)\" = b", "a.txt"),
            ("grep b a.txt", "a.txt"),
            ("timeout 5 grep b a.txt", "a.txt"),
            ("bash -c 'cat a.txt'", "a.txt"),
            ("if grep -q b a.txt; then true; fi", "a.txt"),
            ("cc t.c calc.c && ./a.out", "calc.c"),
            ("./gen > a.txt", "a.txt"),
            ("python3 -m py_compile a.py", "a.py"),
            ("python3 -m pytest tests/test_a.py", "tests/test_a.py"),
            ("node --test test/a.test.js", "test/a.test.js"),
            ("sh t.sh", "web/t.sh"),
            ("node test/index.js", "src/index.js"),
            ("cd ../.. && true", "a"),
            ("npm test", "docs/test"),
            ("pytest tests", "tests/test_a.py"),
        ] {
            assert!(!may_run(command, path), "{command}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_command_is_read_without_a_panic(command in ".{0,200}", path in "[a-z./]{0,20}") {
            let _may_run = may_run(&command, &path);
        }
    }
}
