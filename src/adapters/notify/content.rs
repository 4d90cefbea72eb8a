//! What a message says: bounded, visible text without secrets, in lines that every channel puts into its own form.

use crate::domain::{Message, MessageEvent};
use crate::render;
use crate::secrets::redact_all;

/// Upper bound on the characters of one text from outside.
const MAX_TEXT_CHARS: usize = 300;
/// Upper bound on needs that are written.
const MAX_NEEDS: usize = 3;

/// The parts of a message.
pub(super) struct Content {
    /// The first line, in Skep's own words.
    pub headline: String,
    /// Title of the goal; empty = none.
    pub title: String,
    /// What happened.
    pub summary: String,
    /// What is needed.
    pub needs: Vec<String>,
    /// Title, summary, needs and cost, each on a line.
    pub lines: Vec<String>,
    /// Address of the page about it; empty = the service has no address.
    pub url: String,
}

impl Content {
    /// Reads a message. `pages` is the address of the pages without a trailing slash, `text` makes outside text
    /// harmless for the channel.
    pub fn new(message: &Message, pages: Option<&str>, text: &dyn Fn(&str) -> String) -> Content {
        let (title, summary) = (text(&message.title), text(&message.summary));
        let needs: Vec<String> = message.needs.iter().take(MAX_NEEDS).map(|need| text(need)).collect();
        let mut lines = vec![summary.clone()];
        if !title.is_empty() {
            lines.insert(0, title.clone());
        }
        lines.extend(needs.iter().cloned());
        if message.cost_micros > 0 {
            lines.push(format!("Cost so far: {}", render::money(message.cost_micros)));
        }
        let url = pages.map_or_else(String::new, |pages| format!("{pages}{}", message.path));
        Content { headline: headline(message), title, summary, needs, lines, url }
    }

    /// Returns the message as HTML without any style.
    pub fn html(&self) -> String {
        let escape =
            |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let mut html = format!("<strong>{}</strong>", escape(&self.headline));
        for line in &self.lines {
            html.push_str(&format!("<br>{}", escape(line)));
        }
        if !self.url.is_empty() {
            html.push_str(&format!("<br><a href=\"{}\">Open in Skep</a>", escape(&self.url)));
        }
        html
    }
}

/// Returns text from outside as one line of visible characters without secrets, at most 300 of them.
pub(super) fn short(text: &str) -> String {
    let text = redact_all(text);
    let one_line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let visible = one_line.chars().filter(|c| !c.is_control() && !render::is_hidden(*c));
    let mut short: String = visible.take(MAX_TEXT_CHARS + 1).collect();
    if short.chars().count() > MAX_TEXT_CHARS {
        short.truncate(short.char_indices().nth(MAX_TEXT_CHARS - 1).map_or(0, |(at, _)| at));
        short.push('…');
    }
    short
}

/// Returns the text as [`short`] does, in which a reader's program sees no mention, link or tag.
pub(super) fn defused(text: &str) -> String {
    // A zero-width space ends what a chat takes for a mention or an address.
    short(text).replace('@', "@\u{200b}").replace("://", ":\u{200b}//").replace('<', "‹").replace('>', "›")
}

/// Returns the first line, in Skep's own words.
fn headline(message: &Message) -> String {
    let what = match message.event {
        MessageEvent::Question => "A run waits for you",
        MessageEvent::Failed => "A run ended without a delivery",
        MessageEvent::Ended => "A run ended",
        MessageEvent::Budget => "A budget reached an alert threshold",
        MessageEvent::Broken => "Skep needs its operator",
        MessageEvent::Digest => "The last day of Skep",
    };
    match (&message.run, message.project.as_str()) {
        (_, "") => what.to_owned(),
        (Some(run), project) => format!("{what}: {project}, run {}", run.abbrev()),
        (None, project) => format!("{what}: {project}"),
    }
}
