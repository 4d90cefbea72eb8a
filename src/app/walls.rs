//! The walls around commands: which are wanted, whether they hold, and that nothing new is claimed when they don't.

use crate::adapters::sandbox::{Level, Policy, Refused, Sandbox, test};
use crate::cli::args::Isolation;
use crate::cli::exit::Trouble;
use crate::cli::reach::{Place, WallTried, WallsTested};
use crate::config::{Config, prepare_data_dir};

/// What the configuration says about isolation.
pub fn policy(_config: &Config) -> Policy {
    Policy::default()
}

/// Tries every hostile action at a level.
///
/// # Errors
/// When the walls cannot even be made.
pub async fn test(config: &Config, place: &Place, level: Option<Isolation>) -> Result<WallsTested, Trouble> {
    let mut policy = policy(config);
    match level {
        Some(Isolation::Strict) => policy.level = Level::Strict,
        Some(Isolation::Landlock) => policy.level = Level::Landlock,
        None => {}
    }
    let data_dir = &place.sources.data_dir;
    prepare_data_dir(data_dir).map_err(|p| crate::config::Problems(vec![p]))?;
    let sandbox = Sandbox::walled(&policy, &[], None).map_err(trouble)?;
    let rows = test::run(&sandbox, data_dir).await.map_err(trouble)?;
    let holds = test::verdict(sandbox.level(), &rows).is_ok();
    let tried = rows
        .into_iter()
        .map(|r| WallTried { action: r.action, promised: r.promised, held: r.held, found: r.found })
        .collect();
    Ok(WallsTested { level: sandbox.level().name().to_owned(), holds, tried })
}

/// A level that does not hold, as the end of a command.
pub fn trouble(refused: Refused) -> Trouble {
    Trouble::config(refused.what, refused.fix)
}
