//! Names of failures, by which a failure is recognized when the same check fails again.
//!
//! Test runners and logs add to a name what two executions do not share: how long a test took, when a line was written,
//! an address in memory. Other numbers stay, because a number is often all that distinguishes two tests.

/// Upper bound on the bytes of a bracketed duration or timestamp.
const MAX_GROUP_BYTES: usize = 48;
/// Marks after which vitest and others write a duration without brackets.
const MARKS: &[&str] = &["× ", "✗ ", "✕ ", "✖ ", "✘ "];
/// Units of durations.
const UNITS: &[&str] = &[
    "ns", "us", "µs", "μs", "ms", "s", "m", "h", "sec", "secs", "min", "mins", "second", "seconds", "minute",
    "minutes", "hour", "hours",
];
const DAYS: &[&str] = &["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Smallest port that systems give to a client or to a server that asks for any port.
const EPHEMERAL_PORTS: u32 = 32_768;

/// Returns a line of output as a name: without timestamps, addresses, process ids, and the duration.
pub fn of_line(line: &str) -> String {
    without_duration(&without_stamps(line))
}

/// Returns whether every failure is among the `earlier` ones. A name that occurs more often than before is a new
/// failure.
pub fn all_known(failures: &[String], earlier: &[String]) -> bool {
    let mut left: Vec<String> = earlier.iter().map(|name| identity(name)).collect();
    failures.iter().all(|name| {
        let name = identity(name);
        left.iter().position(|known| *known == name).map(|at| left.swap_remove(at)).is_some()
    })
}

/// Returns what two executions share of a name: a failure that is fixed or added before it changes its number in the
/// list, and an edit of the file changes its line.
fn identity(name: &str) -> String {
    let line = of_line(name);
    without_line_numbers(without_list_number(&line).unwrap_or(line))
}

/// Removes timestamps, addresses and process ids.
pub fn without_stamps(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let before = shown.chars().next_back();
        let is_start = before.is_none_or(|b| !b.is_alphanumeric() && !matches!(b, '_' | '.' | ':' | '-'));
        let is_word = before.is_none_or(char::is_whitespace);
        let stamp = is_start.then(|| timestamp(rest)).flatten();
        if let Some(len) = stamp.or_else(|| is_word.then(|| group(rest, is_timestamp)).flatten()) {
            rest = &rest[len..];
            if is_word {
                rest = rest.trim_start();
            }
            if shown.is_empty() {
                rest = rest.trim_start_matches(['-', '|', ':', ',', ' ']);
            }
        } else if let Some((kept, len)) = address(rest, before, &shown) {
            shown.push_str(kept);
            shown.push('…');
            rest = &rest[len..];
        } else {
            shown.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    shown.truncate(shown.trim_end().len());
    shown
}

/// Removes the duration that a test runner wrote: at the end, or, as nextest does, after the first word.
pub fn without_duration(line: &str) -> String {
    let line = line.trim_end();
    if let Some((word, rest)) = line.split_once(' ')
        && !word.is_empty()
        && word.bytes().all(|b| b.is_ascii_uppercase())
        && let Some(len) = group(rest, is_duration)
    {
        return format!("{word} {}", rest[len..].trim_start());
    }
    if let Some((name, comment)) = line.rsplit_once(" # ").filter(|_| line.starts_with("not ok "))
        && (is_duration(comment) || comment.starts_with("time=") || comment.starts_with("duration_ms"))
    {
        return name.trim_end().to_owned();
    }
    let (body, colon) = line.strip_suffix(':').map_or((line, ""), |body| (body, ":"));
    let bracket = || {
        let open = match body.chars().next_back()? {
            ')' => '(',
            ']' => '[',
            '>' => '<',
            _ => return None,
        };
        let at = body.rfind(open).filter(|at| body[..*at].ends_with(' '))?;
        group(&body[at..], is_duration).map(|_| at)
    };
    let bare = || {
        let is_marked = MARKS.iter().any(|mark| body.starts_with(mark));
        let at = body.rfind(' ').filter(|_| is_marked)?;
        let name = body[..at].trim_end();
        (is_duration(&body[at..]) && name.contains(' ')).then_some(at)
    };
    match bracket().or_else(bare) {
        Some(at) => format!("{}{colon}", body[..at].trim_end()),
        None => line.to_owned(),
    }
}

/// Returns the length of a group in brackets at the start whose content is as wanted.
fn group(text: &str, is_wanted: impl Fn(&str) -> bool) -> Option<usize> {
    let close = match text.as_bytes().first()? {
        b'(' => ')',
        b'[' => ']',
        b'<' => '>',
        _ => return None,
    };
    let len = text.find(close).filter(|len| *len <= MAX_GROUP_BYTES)?;
    is_wanted(&text[1..len]).then_some(len + 1)
}

/// Returns whether a text is a duration: `0.15s`, `3 ms`, `< 1 ms`, `1m2.5s`, `1 m 2 s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim().trim_start_matches(['<', '~', ' ']);
    let mut parts = 0;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ','));
        if after.len() == rest.len() || !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return false;
        }
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        if !UNITS.contains(&&after[..end]) {
            return false;
        }
        rest = after[end..].trim_start();
        parts += 1;
    }
    parts > 0
}

fn is_timestamp(text: &str) -> bool {
    let text = text.trim();
    timestamp(text) == Some(text.len())
}

/// Returns the length of a timestamp at the start: a date with a time, or a time of day.
fn timestamp(text: &str) -> Option<usize> {
    let of_milliseconds = digits(text, 13).filter(|_| text.starts_with('1'));
    let with_date = || {
        let date = iso_date(text).or_else(|| named_date(text))?;
        let time = text[date..].trim_start_matches(['T', ' ']);
        Some(text.len() - time.len() + time_of_day(time)?)
    };
    let len = of_milliseconds.or_else(with_date).or_else(|| time_of_day(text))?;
    let after = text[len..].trim_start_matches(':').chars().next();
    after.is_none_or(|c| !c.is_alphanumeric() && c != '_').then_some(len)
}

/// Returns `count` if exactly as many digits are at the start.
fn digits(text: &str, count: usize) -> Option<usize> {
    (text.bytes().take(count + 1).take_while(u8::is_ascii_digit).count() == count).then_some(count)
}

/// `2026-11-30`, `2026/11/30`
fn iso_date(text: &str) -> Option<usize> {
    let separator = text[digits(text, 4)?..].chars().next().filter(|c| matches!(c, '-' | '/'))?;
    digits(&text[5..], 2)?;
    digits(text[7..].strip_prefix(separator)?, 2)?;
    Some(10)
}

/// `Nov 30`, `Mon Nov 30`, `Mon, 30 Nov 2026`
fn named_date(text: &str) -> Option<usize> {
    let named = |rest: &str, names: &[&str]| names.iter().any(|n| rest.starts_with(n));
    if !named(text, DAYS) && !named(text, MONTHS) {
        return None;
    }
    let (mut len, mut has_month) = (0, false);
    for word in text.split_inclusive(' ').take(5) {
        let bare = word.trim().trim_end_matches(',');
        let is_month = MONTHS.contains(&bare);
        let is_number = !bare.is_empty() && bare.len() <= 4 && bare.bytes().all(|b| b.is_ascii_digit());
        if !is_month && !is_number && !DAYS.contains(&bare) && !bare.is_empty() {
            break;
        }
        has_month |= is_month;
        len += word.len();
    }
    has_month.then_some(len)
}

/// `17:42:46`, `17:42:46.707Z`, `17:42:46,707`, `17:42:46+01:00`, `17:42:46 UTC`
fn time_of_day(text: &str) -> Option<usize> {
    let mut len = 0;
    for part in 0..3 {
        if part > 0 {
            len += text[len..].starts_with(':').then_some(1)?;
        }
        len += digits(&text[len..], 2)?;
    }
    let number = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if text[len..].starts_with(['.', ',']) {
        let fraction = number(&text[len + 1..]);
        len += if fraction > 0 { 1 + fraction } else { 0 };
    }
    if text[len..].starts_with('Z') {
        return Some(len + 1);
    }
    if text[len..].starts_with(['+', '-']) {
        let zone = &text[len + 1..];
        let hours = digits(zone, 2).filter(|_| zone[2..].starts_with(':') && digits(&zone[3..], 2).is_some());
        len += match hours {
            Some(_) => 6,
            None => digits(zone, 4).map_or(0, |_| 5),
        };
    }
    for zone in [" UTC", " GMT"] {
        len += if text[len..].starts_with(zone) { zone.len() } else { 0 };
    }
    Some(len)
}

/// Returns the part of an address or process id at the start that stays, and the length of all of it.
fn address<'a>(text: &'a str, before: Option<char>, shown: &str) -> Option<(&'a str, usize)> {
    let hex = |text: &str| text.bytes().take_while(u8::is_ascii_hexdigit).count();
    let number = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let is_end = |len: usize| text[len..].chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let is_name = before.is_some_and(|b| b.is_alphanumeric() || b == '_');
    if let Some(rest) = text.strip_prefix("0x").filter(|_| !is_name) {
        let len = 2 + hex(rest);
        return (len >= 8 && is_end(len)).then_some((&text[..2], len));
    }
    // The identity of a Java object.
    if let Some(rest) = text.strip_prefix('@').filter(|_| is_name || before == Some(';')) {
        let len = hex(rest);
        let is_hash = (6..=8).contains(&len) && rest[..len].bytes().any(|b| b.is_ascii_digit());
        let ends = rest[len..].chars().next().is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '-' | '_'));
        return (is_hash && ends).then_some((&text[..1], len + 1));
    }
    // The process id of a log line: `prog[123]:`
    if let Some(rest) = text.strip_prefix('[').filter(|_| is_name) {
        let len = number(rest);
        return (len > 2 && rest[len..].starts_with("]:")).then_some((&text[..1], len + 1));
    }
    // A sanitizer: `==123==`
    if let Some(rest) = text.strip_prefix("==").filter(|_| shown.is_empty()) {
        let len = number(rest);
        return (len > 0 && rest[len..].starts_with("==")).then_some((&text[..2], len + 2));
    }
    // The id of a thread of Rust: `thread 'main' (123) panicked`
    if let Some(rest) = text.strip_prefix('(').filter(|_| shown.starts_with("thread '") && shown.ends_with("' ")) {
        let len = number(rest);
        return (len > 0 && rest[len..].starts_with(')')).then_some((&text[..1], len + 1));
    }
    if let Some(rest) = text.strip_prefix(':') {
        let len = number(rest);
        let is_local = ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| shown.ends_with(host));
        let is_ephemeral = len == 5 && rest[..len].parse::<u32>().is_ok_and(|port| port >= EPHEMERAL_PORTS);
        return (is_local && is_ephemeral).then_some((&text[..1], len + 1));
    }
    None
}

/// Removes the number of a failure in its list: `1) adds`, `not ok 3 - adds`, `3 - adds (Failed)`, `(3/10) adds`.
fn without_list_number(line: &str) -> Option<String> {
    let after_number = |text: &str, separator: &str| {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let rest = rest.strip_prefix(separator).filter(|_| rest.len() < text.len())?;
        Some(rest.trim_start().to_owned())
    };
    if let Some(rest) = line.strip_prefix("not ok ") {
        return Some(format!("not ok {}", after_number(rest, "")?.trim_start_matches(['-', ' '])));
    }
    if let Some((word, rest)) = line.split_once(' ').filter(|(word, _)| word.bytes().all(|b| b.is_ascii_uppercase()))
        && let Some(len) = group(rest, |inner| {
            let is_number = |n: &str| !n.trim().is_empty() && n.trim().bytes().all(|b| b.is_ascii_digit());
            inner.split_once('/').is_some_and(|(at, all)| is_number(at) && is_number(all))
        })
    {
        return Some(format!("{word} {}", rest[len..].trim_start()));
    }
    let is_ctest = line.ends_with("(Failed)") || line.ends_with("(Timeout)");
    after_number(line, ") ").or_else(|| after_number(line, " - ").filter(|_| is_ctest))
}

/// Removes line numbers after paths: `a.go:12:3: …`, `CalcTest.adds:12 …`, `a.ts(3,4): …`.
fn without_line_numbers(line: String) -> String {
    let words = line.split(' ').map(|word| {
        let bare = word.trim_end_matches([':', ',']);
        let is_number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        let path = match bare.strip_suffix(')').and_then(|open| open.rsplit_once('(')) {
            Some((path, at)) if bare.len() < word.len() && at.split(',').all(is_number) => path,
            _ => bare.trim_end_matches(|c: char| c.is_ascii_digit() || c == ':'),
        };
        let has_letter = path.chars().next_back().is_some_and(char::is_alphabetic);
        let is_path =
            has_letter && path.contains(['.', '/']) && !matches!(bare[path.len()..].chars().next(), Some('0'..='9'));
        if is_path { path } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        let of = |text: &str| vec![text.to_owned()];
        all_known(&of(a), &of(b)) && all_known(&of(b), &of(a))
    }

    #[test]
    fn a_failure_is_recognized_although_its_time_differs() {
        for (first, second) in [
            ("--- FAIL: TestKnown (0.15s)", "--- FAIL: TestKnown (0.24s)"),
            ("--- FAIL: TestKnown/empty_input#01 (0.00s)", "--- FAIL: TestKnown/empty_input#01 (1m2.50s)"),
            ("✖ adds (1.2ms)", "✖ adds (0.931207ms)"),
            ("✕ adds (5 ms)", "✕ adds (1.2 s)"),
            ("✕ adds", "✕ adds (5 ms)"),
            ("× src/a.test.ts > sum > adds 5ms", "× src/a.test.ts > sum > adds 12ms"),
            ("× adds 5ms", "× adds 1.20s"),
            ("1) waits (2003ms):", "1) waits (2011ms):"),
            ("Failed Calc.Tests.Adds [3 ms]", "Failed Calc.Tests.Adds [< 1 ms]"),
            ("Failed Calc.Tests.Adds(a: 5) [1 m 2 s]", "Failed Calc.Tests.Adds(a: 5) [59 s]"),
            ("test tests::adds ... FAILED <0.005s>", "test tests::adds ... FAILED <0.014s>"),
            ("FAIL [   0.005s] calc tests::adds", "FAIL [  12.104s] calc tests::adds"),
            ("FAIL [   0.005s] ( 3/10) calc tests::adds", "FAIL [   0.007s] (  4/11) calc tests::adds"),
            ("not ok 3 - adds # time=3.5ms", "not ok 3 - adds # time=12ms"),
            ("✗ adds [1.20ms]", "✗ adds [0.97ms]"),
            // JUnit
            ("CalcTest.adds (12 ms)", "CalcTest.adds (9 ms)"),
            ("CalcTest.at[2026-11-30T17:42:46.707Z]", "CalcTest.at[2026-11-30T17:42:59.001Z]"),
            ("CalcTest.accepts Object@1b2c3d4e", "CalcTest.accepts Object@7f31245a"),
            // Logs
            (
                "2026-11-30T17:42:46.707Z - [Slack CLI] - error: Error: boom",
                "2026-12-01T08:00:01.120Z - [Slack CLI] - error: Error: boom",
            ),
            ("[17:42:46] Error: boom", "[09:12:01.123] Error: boom"),
            ("2026/11/30 17:42:46 a.go:12: boom", "2026/11/30 18:00:00 a.go:12: boom"),
            ("Nov 30 17:42:46 box prog[123]: Error: x", "Dec  1 07:12:13 box prog[4711]: Error: x"),
            ("Mon Nov 30 17:42:46 2026 Error: x", "Tue Dec 1 17:42:46 2026 Error: x"),
            ("E   ValueError: <A object at 0x7f12ab34cd56>", "E   ValueError: <A object at 0x7fffab34cd10>"),
            ("thread 'main' (4711) panicked at src/a.rs:3:5:", "thread 'main' (99) panicked at src/a.rs:3:5:"),
            ("Error: connect 127.0.0.1:43211", "Error: connect 127.0.0.1:50007"),
            // The place in the list, and in the file
            ("1) CalcTest::testAdds", "12) CalcTest::testAdds"),
            ("not ok 3 - adds", "not ok 4 - adds"),
            ("2 - adds (Failed)", "3 - adds (Failed)"),
            ("rspec ./spec/calc_spec.rb:3 # Calc adds", "rspec ./spec/calc_spec.rb:14 # Calc adds"),
            ("[ERROR]   CalcTest.adds:12 expected: <3>", "[ERROR]   CalcTest.adds:19 expected: <3>"),
            ("src/a.ts(3,4): error TS1: x", "src/a.ts(33,4): error TS1: x"),
        ] {
            assert!(same(first, second), "{} | {}", identity(first), identity(second));
        }
    }

    #[test]
    fn what_distinguishes_two_tests_stays() {
        for (first, second) in [
            ("--- FAIL: TestA1 (0.15s)", "--- FAIL: TestA2 (0.15s)"),
            ("--- FAIL: TestA/5ms (0.15s)", "--- FAIL: TestA/10ms (0.15s)"),
            ("✖ waits 5 ms for it (1.2ms)", "✖ waits 10 ms for it (1.2ms)"),
            ("✕ waits (5 ms) twice (1 ms)", "✕ waits (6 ms) twice (1 ms)"),
            ("× waits 5ms 12ms", "× waits 10ms 12ms"),
            ("FAILED tests/a.py::test_wait[5ms]", "FAILED tests/a.py::test_wait[10ms]"),
            ("FAILED tests/a.py::test_at[2020-01-01]", "FAILED tests/a.py::test_at[2021-01-01]"),
            ("Failed Calc.Adds(5) [3 ms]", "Failed Calc.Adds(6) [3 ms]"),
            ("CalcTest.adds(1)", "CalcTest.adds(2)"),
            ("CalcTest.adds(2s)", "CalcTest.adds(3s)"),
            ("CalcTest.page[1]", "CalcTest.page[2]"),
            ("Error: connect localhost:6379", "Error: connect localhost:5432"),
            ("a.go:12: boom", "b.go:12: boom"),
            ("test v1.2 ... FAILED", "test v1.3 ... FAILED"),
            ("a@0.1.2 failed", "a@0.1.3 failed"),
        ] {
            assert!(!same(first, second), "{} | {}", identity(first), identity(second));
        }
    }

    #[test]
    fn a_name_that_occurs_more_often_is_new() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let base = names(&["--- FAIL: TestNew (0.01s)", "× waits 5ms"]);
        assert!(all_known(&names(&["× waits 6ms", "--- FAIL: TestNew (0.02s)"]), &base));
        assert!(!all_known(&names(&["--- FAIL: TestNew (0.01s)", "--- FAIL: TestNew (0.02s)"]), &base));
        assert!(!all_known(&names(&["× waits 5ms", "× waits 10ms"]), &base));
    }

    #[test]
    fn any_text_has_a_name() {
        for text in [
            "",
            " ",
            "[",
            "(",
            "× ",
            "× 5ms",
            "0x",
            "é[12]:",
            "==",
            "@1é",
            "2026-1é-3",
            "12:3é:00",
            "Mon é",
            "1) ",
            "17:42:46.",
            "17:42:46+0é:00",
            "not ok ",
            "not ok 1",
        ] {
            identity(text);
            identity(&format!("{text}{text} {text}"));
        }
        assert_eq!(of_line("× 5ms"), "× 5ms");
        assert_eq!(of_line("[ERROR]   a (1 s)"), "[ERROR]   a");
    }
}
