//! Ranks rows for an order: BM25 over their words, weighed by author, age, paths and what became of the runs that were
//! given them.
//!
//! Invariant: the result depends on the rows, the query and the time only; rows of equal score are ordered by id.

use super::words::{distinct, each_word};
use super::{DAY_MS, Memory};
use crate::domain::id::{Principal, Timestamp};
use crate::domain::order::{Order, Step};

/// Parameters of BM25, as usual.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// Distinct words of a query that are read, and those that count: the rarest.
const MAX_READ: usize = 48;
const MAX_WORDS: usize = 24;
/// A word in more than this share of the rows says nothing, once there are enough rows.
const FREQUENT_SHARE: f64 = 0.1;
const ENOUGH_ROWS: usize = 50;
/// Weight of a row about a file of the order, or about one in the same folder.
const SAME_PATH: f64 = 1.5;
/// Weight of what an engine has stated.
const BY_ENGINE: f64 = 0.8;
/// Days after which a row counts half.
const HALF_LIFE_DAYS: f64 = 60.0;
/// Rows below this share of the best score are left out.
const CUT: f64 = 0.35;
/// Upper bound on the bytes of a query's text.
const MAX_QUERY_BYTES: usize = 8 * 1024;

/// What an order is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Text.
    pub text: String,
    /// Paths of files.
    pub paths: Vec<String>,
}

impl Query {
    /// Returns what an order is about: the task and not the whole goal, because what fits the goal misguides a task.
    pub fn of(order: &Order) -> Query {
        let mut text = String::new();
        let mut add = |part: &str| {
            text.push_str(part);
            text.push('\n');
        };
        let mut paths = Vec::new();
        match (order.step, &order.task) {
            (Step::Develop, Some(task)) => {
                add(&task.spec.title);
                add(&task.spec.text);
                task.spec.paths.iter().for_each(|path| add(path));
                // The newest note says what is wrong now.
                order.notes.iter().rev().for_each(|note| add(note.text.lines().next().unwrap_or_default()));
                paths.extend(task.spec.paths.iter().cloned());
            }
            (Step::Review, _) => {
                add(order.goal.lines().next().unwrap_or_default());
                order.diff.paths().for_each(&mut add);
                paths.extend(order.diff.paths().map(str::to_owned));
            }
            _ => add(&order.goal),
        }
        text.truncate(text.floor_char_boundary(MAX_QUERY_BYTES));
        Query { text, paths }
    }
}

/// How often runs that were given a row landed at once, and how often they did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Runs that landed after at most one round of rework.
    pub won: u64,
    /// Runs that landed later, or not because of their work.
    pub lost: u64,
}

impl Record {
    /// Returns the weight: 1 without runs, between 0.5 and 1.5.
    fn weight(self) -> f64 {
        let (won, all) = (self.won as f64 + 2.0, (self.won + self.lost) as f64 + 4.0);
        (won / all * 2.0).clamp(0.5, 1.5)
    }
}

/// Returns the indexes of the rows that fit a query with their scores, best first. All rows count as the collection.
pub fn rank(rows: &[(Memory, Record)], query: &Query, now: Timestamp) -> Vec<(usize, f64)> {
    let mut asked = distinct(&query.text, MAX_READ);
    asked.sort();
    let documents: Vec<Document> = rows.iter().map(|(row, _)| Document::of(row, &asked)).collect();
    let terms = terms(&documents, &asked);
    let total: usize = documents.iter().map(|d| d.length).sum();
    let average = (total as f64 / documents.len().max(1) as f64).max(1.0);
    let mut scored = Vec::new();
    for (index, (document, (row, record))) in documents.iter().zip(rows).enumerate() {
        let mut score = 0.0;
        let mut matched = 0;
        for Term { word, idf, is_telling } in &terms {
            let count = f64::from(document.counts.get(*word).copied().unwrap_or(0));
            if count > 0.0 {
                score += idf * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * document.length as f64 / average));
                matched += if *is_telling { 2 } else { 1 };
            }
        }
        let is_near = row.cites.iter().any(|cite| query.paths.iter().any(|path| are_near(&cite.path, path)));
        if matched + usize::from(is_near) < 2 || score <= 0.0 {
            continue;
        }
        let age_days = (now.0.saturating_sub(row.seen_at.0)).max(0) as f64 / DAY_MS as f64;
        score *= 0.5_f64.powf(age_days / HALF_LIFE_DAYS) * record.weight();
        score *= if is_near { SAME_PATH } else { 1.0 };
        score *= if row.author == Principal::skep() || row.author.is_person() { 1.0 } else { BY_ENGINE };
        scored.push((index, score));
    }
    let id = |index: &usize| rows.get(*index).map(|(row, _)| &row.id);
    scored.sort_by(|(a, first), (b, second)| second.total_cmp(first).then_with(|| id(a).cmp(&id(b))));
    let best = scored.first().map_or(0.0, |(_, score)| *score);
    scored.retain(|(_, score)| *score >= best * CUT);
    scored
}

/// How often a row has each word of a query, and how many words it has.
struct Document {
    counts: Vec<u32>,
    length: usize,
}

impl Document {
    /// Reads a row; `asked` is sorted.
    fn of(row: &Memory, asked: &[String]) -> Document {
        let mut document = Document { counts: vec![0; asked.len()], length: 0 };
        let paths = row.cites.iter().map(|cite| cite.path.as_str());
        for text in [row.title.as_str(), row.body.as_str()].into_iter().chain(paths) {
            each_word(text, |word| {
                document.length += 1;
                let index = asked.binary_search_by(|asked| asked.as_str().cmp(word));
                if let Some(count) = index.ok().and_then(|index| document.counts.get_mut(index)) {
                    *count += 1;
                }
            });
        }
        document
    }
}

/// A word of a query that counts, by its index.
struct Term {
    word: usize,
    /// Its inverse document frequency.
    idf: f64,
    is_telling: bool,
}

/// Returns the words of a query that count, in their order, so that sums are always added alike.
fn terms(documents: &[Document], asked: &[String]) -> Vec<Term> {
    let all = documents.len() as f64;
    let has = |document: &&Document, word: usize| document.counts.get(word).is_some_and(|count| *count > 0);
    let frequency = |word: usize| documents.iter().filter(|document| has(document, word)).count();
    let mut rarest: Vec<(usize, usize)> = (0..asked.len()).map(|word| (frequency(word), word)).collect();
    rarest.retain(|(n, _)| *n > 0 && (documents.len() <= ENOUGH_ROWS || *n as f64 <= all * FREQUENT_SHARE));
    rarest.sort_unstable();
    rarest.truncate(MAX_WORDS);
    let term = |(n, word): (usize, usize)| Term {
        word,
        idf: (1.0 + (all - n as f64 + 0.5) / (n as f64 + 0.5)).ln(),
        is_telling: asked.get(word).is_some_and(|word| is_telling(word)),
    };
    let mut terms: Vec<Term> = rarest.into_iter().map(term).collect();
    terms.sort_by_key(|term| term.word);
    terms
}

/// Returns whether a word alone says what a row is about: an identifier of several parts, or an error code.
fn is_telling(word: &str) -> bool {
    let has_digit = word.chars().any(|c| c.is_ascii_digit());
    word.contains('_') || has_digit && word.chars().any(char::is_alphabetic)
}

/// Returns whether two paths are equal or in the same folder. The root does not count: everything is below it.
fn are_near(cited: &str, path: &str) -> bool {
    fn folder(path: &str) -> Option<&str> {
        path.rsplit_once('/').map(|(folder, _)| folder)
    }
    cited == path || folder(cited).is_some_and(|of_cited| Some(of_cited) == folder(path))
}

/// Upper bound on the rows of one prompt.
const MAX_GIVEN: usize = 5;
/// Upper bound on those that come from one run.
const MAX_OF_ONE_RUN: usize = 2;
/// Upper bound on the bytes of their text, about 1,500 tokens.
const MAX_GIVEN_BYTES: usize = 5_000;
/// Upper bound on ranked rows whose citations are checked for one prompt.
pub const MAX_CHECKED: usize = 25;

/// Chooses rows from ranked ones until the prompt's share is full: few of one run, so that one bad run does not decide.
#[derive(Debug, Default)]
pub struct Selection {
    /// The rows.
    pub rows: Vec<Memory>,
    bytes: usize,
}

impl Selection {
    /// Returns whether a row may be added.
    pub fn has_room_for(&self, row: &Memory) -> bool {
        let of_run = self.rows.iter().filter(|other| other.run.is_some() && other.run == row.run).count();
        let is_known = self.rows.iter().any(|other| other.id == row.id);
        self.rows.len() < MAX_GIVEN
            && of_run < MAX_OF_ONE_RUN
            && !is_known
            && self.bytes + row.title.len() + row.body.len() <= MAX_GIVEN_BYTES
    }

    /// Adds a row.
    pub fn add(&mut self, row: Memory) {
        self.bytes += row.title.len() + row.body.len();
        self.rows.push(row);
    }
}
