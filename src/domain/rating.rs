//! Ratings of engines and outside agents: Glicko-2 over verified outcomes.
//!
//! An outcome is a game of a player, an engine or an agent in a role, against the kind of task: a project's tasks for
//! that role. Both sides are rated, so that hard kinds of tasks are worth more. A rating period is a day (UTC): all its
//! games count at once, so their order within the day changes nothing.
//!
//! Invariant: only [`OutcomeRow`]s count, which the journal proves. Nothing that a player says about itself does.

use super::id::{AttemptId, RunId};
use super::ledger_row::Day;
use super::order::{Role, Step};
use super::outcome::{OutcomeRow, OutcomeWord};
use skillratings::Outcomes;
use skillratings::glicko2::{Glicko2Config, Glicko2Rating, decay_deviation, glicko2_rating_period};
use std::collections::BTreeMap;

/// Maximum number of games of a player on one day in one project, so that volume does not replace quality.
const MAX_DAILY_GAMES: usize = 20;
/// Maximum number of games that are named as evidence.
const MAX_EVIDENCE: usize = 20;
/// Number of games below which a rating says too little to be compared.
pub const MIN_GAMES: u32 = 10;
/// Idle days after which the uncertainty is back at its start, so that counting more changes nothing.
const MAX_IDLE_DAYS: i64 = 4_000;

/// Rating of a player in a role.
#[derive(Clone, Debug, PartialEq)]
pub struct Rating {
    /// Display name of an engine, or `agent:<name>`.
    pub player: String,
    /// The role it was rated in.
    pub role: Role,
    /// Rating; 1500 is where everybody starts.
    pub rating: f64,
    /// Uncertainty: with a confidence of 95 %, the true rating is within twice this of `rating`.
    pub deviation: f64,
    /// Games won, drawn and lost.
    pub won: u32,
    /// Drawn games.
    pub drawn: u32,
    /// Lost games.
    pub lost: u32,
    /// The last games, newest first.
    pub evidence: Vec<GameEvidence>,
}

/// Outcome that counted as a game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GameEvidence {
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: AttemptId,
    /// The outcome.
    pub word: OutcomeWord,
}

impl Rating {
    /// Returns the number of games.
    pub fn games(&self) -> u32 {
        self.won + self.drawn + self.lost
    }

    /// Returns whether there are enough games to compare it.
    pub fn is_established(&self) -> bool {
        self.games() >= MIN_GAMES
    }

    /// Returns the rating that the player has at least, with a confidence of 97.5 %.
    pub fn lower_bound(&self) -> f64 {
        self.rating - 2.0 * self.deviation
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Score {
    Lost,
    Drawn,
    Won,
}

impl Score {
    fn of(word: OutcomeWord) -> Option<Score> {
        match word {
            OutcomeWord::Landed | OutcomeWord::Confirmed => Some(Score::Won),
            OutcomeWord::LandedLate => Some(Score::Drawn),
            OutcomeWord::Unlanded
            | OutcomeWord::Red
            | OutcomeWord::Unusable
            | OutcomeWord::Refuted
            | OutcomeWord::Missed => Some(Score::Lost),
            OutcomeWord::Void => None,
        }
    }

    fn outcome(self) -> Outcomes {
        match self {
            Score::Won => Outcomes::WIN,
            Score::Drawn => Outcomes::DRAW,
            Score::Lost => Outcomes::LOSS,
        }
    }

    fn reversed(self) -> Score {
        match self {
            Score::Won => Score::Lost,
            Score::Drawn => Score::Drawn,
            Score::Lost => Score::Won,
        }
    }
}

/// A game. The order of fields is the order in which games of a day are summed up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Game {
    day: Day,
    player: (Role, String),
    task: String,
    run: RunId,
    attempt: AttemptId,
    score: Score,
    word: OutcomeWord,
}

/// Computes all ratings. The player who has proven most comes first: those with enough games by their lower bound, then
/// the others by name.
pub fn ratings(rows: &[OutcomeRow]) -> Vec<Rating> {
    let games = games(rows);
    let mut players: BTreeMap<(Role, String), Player> = BTreeMap::new();
    let mut tasks: BTreeMap<String, Player> = BTreeMap::new();
    let last = games.last().map(|game| game.day);
    for of_day in games.chunk_by(|a, b| a.day == b.day) {
        play(of_day, &mut players, &mut tasks);
    }
    let mut rated: Vec<Rating> = players
        .into_iter()
        .map(|((role, name), player)| {
            let now = player.on(last.unwrap_or(player.day));
            let mut evidence = player.games;
            evidence.reverse();
            evidence.truncate(MAX_EVIDENCE);
            let count =
                |score| u32::try_from(player.scores.iter().filter(|s| **s == score).count()).unwrap_or(u32::MAX);
            Rating {
                player: name,
                role,
                rating: now.rating,
                deviation: now.deviation,
                won: count(Score::Won),
                drawn: count(Score::Drawn),
                lost: count(Score::Lost),
                evidence,
            }
        })
        .collect();
    rated.sort_by(|a, b| {
        let key = |r: &Rating| r.is_established();
        key(b).cmp(&key(a)).then_with(|| match a.is_established() {
            true => b.lower_bound().total_cmp(&a.lower_bound()),
            false => (&a.player, a.role).cmp(&(&b.player, b.role)),
        })
    });
    rated
}

/// Returns the games in order. An attempt plays one game: its worst outcome counts, because a later outcome corrects an
/// earlier one only downwards.
fn games(rows: &[OutcomeRow]) -> Vec<Game> {
    let mut of_attempts: BTreeMap<(RunId, AttemptId), Game> = BTreeMap::new();
    for row in rows {
        let (Some(attempt), Some(step), Some(score)) = (row.attempt, row.step, Score::of(row.word)) else { continue };
        let kind = match (step, row.word) {
            // To approve something wrong is another matter than to find something that is not there.
            (Step::Review, OutcomeWord::Missed) => "approve",
            _ => step.name(),
        };
        let game = Game {
            day: Day::of(row.at),
            player: (step.role(), row.engine.clone()),
            task: format!("{}/{kind}", row.project),
            run: row.run,
            attempt,
            score,
            word: row.word,
        };
        match of_attempts.get(&(row.run, attempt)) {
            Some(known) if (known.score, known.word) <= (game.score, game.word) => {}
            _ => drop(of_attempts.insert((row.run, attempt), game)),
        }
    }
    let mut games: Vec<Game> = of_attempts.into_values().collect();
    games.sort();
    let mut counts: BTreeMap<(Day, (Role, String), String), usize> = BTreeMap::new();
    games.retain(|game| {
        let count = counts.entry((game.day, game.player.clone(), game.task.clone())).or_default();
        *count += 1;
        *count <= MAX_DAILY_GAMES
    });
    games
}

/// A side of games.
struct Player {
    rating: Glicko2Rating,
    /// The day of the rating.
    day: Day,
    scores: Vec<Score>,
    games: Vec<GameEvidence>,
}

impl Player {
    fn new(day: Day) -> Player {
        Player { rating: Glicko2Rating::new(), day, scores: Vec::new(), games: Vec::new() }
    }

    /// Returns the rating before a later day: the uncertainty grows with each idle one.
    fn on(&self, day: Day) -> Glicko2Rating {
        let idle = (day.0 - self.day.0 - 1).clamp(0, MAX_IDLE_DAYS);
        (0..idle).fold(self.rating, |rating, _| decay_deviation(&rating))
    }
}

/// Plays the games of one day.
fn play(games: &[Game], players: &mut BTreeMap<(Role, String), Player>, tasks: &mut BTreeMap<String, Player>) {
    let Some(day) = games.first().map(|game| game.day) else { return };
    let config = Glicko2Config::new();
    // Everybody plays against the ratings of the morning.
    let mut player_games: BTreeMap<&(Role, String), Vec<(Glicko2Rating, Outcomes)>> = BTreeMap::new();
    let mut task_games: BTreeMap<&String, Vec<(Glicko2Rating, Outcomes)>> = BTreeMap::new();
    for game in games {
        let player = players.entry(game.player.clone()).or_insert_with(|| Player::new(day)).on(day);
        let task = tasks.entry(game.task.clone()).or_insert_with(|| Player::new(day)).on(day);
        player_games.entry(&game.player).or_default().push((task, game.score.outcome()));
        task_games.entry(&game.task).or_default().push((player, game.score.reversed().outcome()));
    }
    let update = |side: &mut Player, results: &[(Glicko2Rating, Outcomes)]| {
        side.rating = glicko2_rating_period(&side.on(day), results, &config);
        side.day = day;
    };
    for (key, results) in player_games {
        players.get_mut(key).into_iter().for_each(|player| update(player, &results));
    }
    for (key, results) in task_games {
        tasks.get_mut(key).into_iter().for_each(|task| update(task, &results));
    }
    for game in games {
        if let Some(player) = players.get_mut(&game.player) {
            player.scores.push(game.score);
            player.games.push(GameEvidence { run: game.run, attempt: game.attempt, word: game.word });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Usage;
    use super::super::id::{Sha, Timestamp};
    use super::super::outcome::Evidence;
    use super::super::project::ProjectName;
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    fn row(n: u128, engine: &str, step: Step, word: OutcomeWord, at: i64) -> OutcomeRow {
        OutcomeRow {
            run: RunId(uuid::Uuid::from_u128(n)),
            project: ProjectName::new("demo").unwrap(),
            attempt: Some(AttemptId(1)),
            word,
            step: Some(step),
            engine: engine.to_owned(),
            prompt_digest: None,
            round: 0,
            usage: Usage::default(),
            evidence: Evidence::Commit(Sha::from("1")),
            at: Timestamp(at),
        }
    }

    fn rows() -> Vec<OutcomeRow> {
        let words = [OutcomeWord::Landed, OutcomeWord::Red, OutcomeWord::LandedLate, OutcomeWord::Landed];
        let of = |n: i64| {
            let (engine, word) = (["agent:crab", "agent:fox", "open"][n as usize % 3], words[(n / 3) as usize % 4]);
            row(n as u128, engine, Step::Develop, word, n / 20 * DAY_MS + n)
        };
        (0..120).map(of).collect()
    }

    /// The worked example of Glickman, "Example of the Glicko-2 system": one player, three opponents, one period.
    #[test]
    fn the_worked_example_of_glickman_comes_out() {
        let rated = |rating, deviation| Glicko2Rating { rating, deviation, volatility: 0.06 };
        let results = [
            (rated(1400.0, 30.0), Outcomes::WIN),
            (rated(1550.0, 100.0), Outcomes::LOSS),
            (rated(1700.0, 300.0), Outcomes::LOSS),
        ];
        let after = glicko2_rating_period(&rated(1500.0, 200.0), &results, &Glicko2Config::new());
        assert!((after.rating - 1464.06).abs() < 1e-2, "{after:?}");
        assert!((after.deviation - 151.52).abs() < 1e-2, "{after:?}");
        assert!((after.volatility - 0.05999).abs() < 1e-4, "{after:?}");
    }

    #[test]
    fn the_order_within_a_day_changes_nothing() {
        let ordered = ratings(&rows());
        let mut state = 7_u64;
        for _ in 0..20 {
            let mut shuffled = rows();
            for at in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                shuffled.swap(at, (state >> 33) as usize % (at + 1));
            }
            assert_eq!(ratings(&shuffled), ordered);
        }
        assert_eq!(ordered.len(), 3);
        assert!(ordered.iter().all(|rating| rating.games() == 40 && rating.is_established()));
    }

    #[test]
    fn more_wins_rate_higher_and_idle_days_make_uncertain() {
        let play = |n: i64, engine: &str, word| row(n as u128, engine, Step::Develop, word, n * DAY_MS / 4);
        let mut rows = Vec::new();
        for n in 0..40 {
            rows.push(play(2 * n, "good", if n % 5 == 0 { OutcomeWord::Red } else { OutcomeWord::Landed }));
            rows.push(play(2 * n + 1, "bad", if n % 5 == 0 { OutcomeWord::Landed } else { OutcomeWord::Red }));
        }
        let now = ratings(&rows);
        assert_eq!((now[0].player.as_str(), now[1].player.as_str()), ("good", "bad"));
        assert!(now[0].rating > 1500.0 && now[1].rating < 1500.0, "{now:?}");
        assert_eq!((now[0].won, now[0].lost, now[0].evidence.len()), (32, 8, MAX_EVIDENCE));
        rows.push(row(999, "bad", Step::Develop, OutcomeWord::Landed, 2_000 * DAY_MS));
        let later = ratings(&rows);
        let good = later.iter().find(|rating| rating.player == "good").unwrap();
        assert!(good.deviation > now[0].deviation && good.rating == now[0].rating, "{later:?}");
    }

    #[test]
    fn an_attempt_counts_once_and_void_outcomes_never() {
        let landed = row(1, "crab", Step::Review, OutcomeWord::Confirmed, 5);
        let missed = OutcomeRow { word: OutcomeWord::Missed, at: Timestamp(9), ..landed.clone() };
        let both = ratings(&[landed.clone(), missed.clone()]);
        assert_eq!((both[0].won, both[0].lost, both[0].role), (0, 1, Role::Reviewer));
        assert_eq!(both, ratings(&[missed, landed.clone()]));
        let void = OutcomeRow { word: OutcomeWord::Void, ..landed.clone() };
        let of_run = OutcomeRow { attempt: None, step: None, ..landed };
        assert!(ratings(&[void, of_run]).is_empty());
    }

    #[test]
    fn volume_is_bounded_per_day() {
        let many: Vec<OutcomeRow> =
            (0..100).map(|n| row(n, "crab", Step::Develop, OutcomeWord::Landed, n as i64)).collect();
        assert_eq!(ratings(&many)[0].games() as usize, MAX_DAILY_GAMES);
    }
}
