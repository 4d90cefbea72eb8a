//! Commands in comments on a forge: `/skep approve`, `@skep-bot work on this`, `UNBLOCK #b1 …`. The text is from
//! outside: it is parsed, bounded and never interpreted otherwise.

use super::BlockId;

/// Begins a command, at the start of a line.
const START: &str = "/skep";
/// Asks for a run in a mention, in words.
const WORK: &str = "work on this";
/// Upper bound on the bytes of a command's text.
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Upper bound on the characters of an unknown command that are repeated.
const MAX_WORD_CHARS: usize = 32;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start a run for the issue; the text is added to the goal.
    Run {
        /// What to add to the goal.
        text: String,
    },
    /// Approve what the run asks about.
    Approve {
        /// The beginning of the commit id that is approved, if it was named.
        head: Option<String>,
    },
    /// Decline what the run asks about.
    Decline {
        /// What should be different.
        why: String,
    },
    /// Answer a question.
    Answer {
        /// The question; `None` = the oldest one.
        block: Option<BlockId>,
        /// The answer; empty = yes.
        text: String,
    },
    /// Pause the run.
    Pause,
    /// Resume the run.
    Resume,
    /// Cancel the run.
    Cancel {
        /// The reason.
        why: String,
    },
    /// Retry the run.
    Retry {
        /// A hint for the next attempt; may be empty.
        hint: String,
    },
    /// Report the state of the run.
    Status,
    /// Something else.
    Unknown {
        /// The word after `/skep`, shortened, with plain characters only.
        word: String,
    },
}

/// Parses the first command of a comment: after `/skep`, or after a mention of this login. Quoted lines, code blocks and
/// HTML comments contain none. The text of a command reaches to the end of the comment.
pub fn parse(comment: &str, login: Option<&str>) -> Option<Command> {
    find(comment, &|mentioned| login.is_some_and(|login| login.eq_ignore_ascii_case(mentioned)))
}

/// Returns whether a comment contains a command, whoever it mentions.
pub fn may_contain(comment: &str) -> bool {
    find(comment, &|_| true).is_some()
}

fn find(comment: &str, is_own: &dyn Fn(&str) -> bool) -> Option<Command> {
    if let Some((block, text)) = parse_unblock(comment) {
        return Some(Command::Answer { block: Some(block), text: bounded(text) });
    }
    let (mut fence, mut is_hidden, mut at) = (None, false, 0);
    for line in comment.split_inclusive('\n') {
        let here = at;
        at += line.len();
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) if !is_hidden => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, _) if !is_hidden && is_command(line) => return Some(command(&comment[here + START.len()..])),
            (None, _) if !is_hidden => {
                if let Some(found) = mention(&comment[here..], is_own) {
                    return Some(found);
                }
            }
            _ => {}
        }
        if fence.is_none() {
            is_hidden = match (line.rfind("<!--"), line.rfind("-->")) {
                (Some(start), end) if end.is_none_or(|end| end < start) => true,
                (_, Some(_)) => false,
                _ => is_hidden,
            };
        }
    }
    None
}

fn is_command(line: &str) -> bool {
    line.strip_prefix(START).is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace()))
}

/// Parses a mention with a known command. Whatever else is said to a login is talk between people.
fn mention(text: &str, is_own: &dyn Fn(&str) -> bool) -> Option<Command> {
    let named = text.strip_prefix('@')?;
    let end = named.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')))?;
    let (login, rest) = named.split_at(end);
    let rest = rest.strip_prefix([',', ':']).unwrap_or(rest);
    let rest = rest.strip_prefix([' ', '\t']).filter(|_| is_own(login))?.trim_start_matches([' ', '\t']);
    let asked = rest.get(..WORK.len()).filter(|words| words.eq_ignore_ascii_case(WORK)).map(|_| &rest[WORK.len()..]);
    if let Some(more) = asked.filter(|more| !more.starts_with(char::is_alphanumeric)) {
        return Some(Command::Run { text: bounded(more.trim_start_matches(['.', ',', ':', '!'])) });
    }
    Some(command(rest)).filter(|found| !matches!(found, Command::Unknown { .. }))
}

fn command(rest: &str) -> Command {
    let rest = rest.trim_start();
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (word, text) = (&rest[..end], bounded(&rest[end..]));
    match word.to_ascii_lowercase().as_str() {
        "run" => Command::Run { text },
        "approve" => {
            let first = text.split_whitespace().next().unwrap_or_default();
            let is_id = (7..=64).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_hexdigit());
            Command::Approve { head: is_id.then(|| first.to_ascii_lowercase()) }
        }
        "decline" => Command::Decline { why: text },
        "answer" => match named_block(&text) {
            Some((block, text)) => Command::Answer { block: Some(block), text: bounded(text) },
            None => Command::Answer { block: None, text },
        },
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "cancel" => Command::Cancel { why: text },
        "retry" => Command::Retry { hint: text },
        "status" => Command::Status,
        other => {
            let plain = other.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-');
            Command::Unknown { word: plain.take(MAX_WORD_CHARS).collect() }
        }
    }
}

/// Parses `UNBLOCK #b3 answer` or `unblock #3` at the start of a comment.
pub fn parse_unblock(comment: &str) -> Option<(BlockId, &str)> {
    let text = comment.trim_start();
    let (word, rest) = (text.get(..7)?, text.get(7..)?);
    let rest = rest.strip_prefix(|c: char| c.is_ascii_whitespace())?;
    named_block(rest).filter(|_| word.eq_ignore_ascii_case("unblock"))
}

/// Parses `#b3 answer` or `#3: answer`.
fn named_block(text: &str) -> Option<(BlockId, &str)> {
    let rest = text.trim_start().strip_prefix('#')?;
    let rest = rest.strip_prefix(['b', 'B']).unwrap_or(rest);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, answer) = rest.split_at(digits);
    let at_word_end = answer.chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let block = BlockId(number.parse().ok().filter(|_| at_word_end)?);
    Some((block, answer.trim_start_matches([':', ',', '.', '-']).trim()))
}

fn bounded(text: &str) -> String {
    let text = text.trim();
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_line_of_its_own() {
        let text = |text: &str| text.to_owned();
        for (comment, expected) in [
            ("/skep run", Command::Run { text: text("") }),
            ("/skep run\nand keep\nthe API", Command::Run { text: text("and keep\nthe API") }),
            ("Fine by me.\r\n/skep approve\r\n", Command::Approve { head: None }),
            ("/skep APPROVE 0123abcd, thanks", Command::Approve { head: None }),
            ("/skep approve 0123ABCD", Command::Approve { head: Some(text("0123abcd")) }),
            ("/skep decline rename it", Command::Decline { why: text("rename it") }),
            ("/skep answer Postgres", Command::Answer { block: None, text: text("Postgres") }),
            ("/skep answer #b2: yes", Command::Answer { block: Some(BlockId(2)), text: text("yes") }),
            ("UNBLOCK #b3 use\nboth", Command::Answer { block: Some(BlockId(3)), text: text("use\nboth") }),
            ("/skep pause", Command::Pause),
            ("/skep resume", Command::Resume),
            ("/skep cancel no longer needed", Command::Cancel { why: text("no longer needed") }),
            ("/skep retry", Command::Retry { hint: text("") }),
            ("/skep status", Command::Status),
            ("/skep", Command::Unknown { word: text("") }),
            ("/skep rm`$(-rf)`", Command::Unknown { word: text("rm-rf") }),
            ("```\n/skep cancel\n```\n/skep status", Command::Status),
            ("<!-- /skep cancel\n/skep cancel\n-->\n/skep status", Command::Status),
        ] {
            assert_eq!(parse(comment, None), Some(expected), "{comment:?}");
        }
    }

    #[test]
    fn quoted_and_embedded_text_is_no_command() {
        for comment in [
            "",
            "skep approve",
            "> /skep approve",
            "    /skep approve",
            "please /skep approve",
            "/skepapprove",
            "/SKEP approve",
            "```sh\n/skep approve\n```",
            "~~~\n```\n/skep approve\n~~~",
            "```\n/skep approve",
            "<!--\n/skep approve\n-->",
            "a <!-- b --> <!-- c\n/skep approve",
            "then UNBLOCK #b1",
        ] {
            assert_eq!(parse(comment, None), None, "{comment:?}");
        }
    }

    #[test]
    fn a_mention_is_a_command_only_for_its_login_and_with_a_known_command() {
        let parse = |comment: &str| parse(comment, Some("skep-bot"));
        let run = |text: &str| Some(Command::Run { text: text.to_owned() });
        assert_eq!(parse("@skep-bot work on this"), run(""));
        assert_eq!(parse("Nice catch.\n@Skep-Bot, Work on this: keep\nthe API"), run("keep\nthe API"));
        assert_eq!(parse("@skep-bot run keep the API"), run("keep the API"));
        assert_eq!(parse("@skep-bot: approve 0123abcd"), Some(Command::Approve { head: Some("0123abcd".to_owned()) }));
        assert_eq!(parse("@ann run the tests\n@skep-bot status"), Some(Command::Status));
        for comment in [
            "@skep-bot",
            "@skep-bot thanks!",
            "@skep-bot\nrun",
            "@skep-bots run",
            "@ann work on this",
            "please @skep-bot run",
            "> @skep-bot run",
            " @skep-bot run",
            "```\n@skep-bot run\n```",
            "<!--\n@skep-bot run\n-->",
            "@skep-bot work on thistle",
        ] {
            assert_eq!(parse(comment), None, "{comment:?}");
        }
        assert_eq!(super::parse("@skep-bot run", None), None);
        assert!(may_contain("@anybody run") && may_contain("/skep status") && !may_contain("@anybody hello"));
    }

    #[test]
    fn texts_are_bounded() {
        let Some(Command::Decline { why }) = parse(&format!("/skep decline {}", "é".repeat(20_000)), None) else {
            panic!()
        };
        assert_eq!(why.len(), MAX_TEXT_BYTES);
    }
}
