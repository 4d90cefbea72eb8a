//! Channels for messages: `notify test`.

use super::context::CliContext;
use super::exit::{ExitStatus, Stop};
use super::terminal::Style;
use serde_json::json;

/// `skep notify test`.
pub async fn test(cli: &CliContext<'_>, name: &str) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let tested = cli.backend.test_notify(cli.host, name).await?;
    terminal.object(&json!(tested))?;
    match &tested.error {
        None => terminal.styled(Style::Green, &format!("The channel {name} accepted a test message."))?,
        Some(why) => {
            terminal.styled(Style::Red, &format!("The channel {name} did not accept a test message: {why}."))?
        }
    }
    Ok(if tested.delivered { ExitStatus::Success } else { ExitStatus::Undelivered })
}
