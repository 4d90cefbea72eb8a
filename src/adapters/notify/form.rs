//! The forms of messages: facts and a template become JSON. Text from outside is bounded and can mention nobody, link
//! nowhere and end no string.

use super::settings::{BuiltIn, Template};
use crate::domain::Message;
use crate::render;
use crate::secrets::redact_all;
use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// Upper bound on the characters of one text from outside.
const MAX_TEXT_CHARS: usize = 300;
/// Upper bound on needs that are written.
const MAX_NEEDS: usize = 3;
/// Upper bound on a message, in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// Steps that a template may take.
const FUEL: u64 = 50_000;

/// Writes messages in one form.
#[derive(Debug)]
pub(super) struct Form {
    template: Template,
    /// Address of the pages, without a trailing slash; `None` = messages have no link.
    pages: Option<String>,
    /// Topic of ntfy.
    topic: String,
}

impl Form {
    /// Creates a form and tries it.
    ///
    /// # Errors
    /// Why the template cannot be used.
    pub fn new(template: Template, pages: Option<String>, topic: String) -> Result<Form, String> {
        let form = Form { template, pages, topic };
        form.json(&super::example())?;
        Ok(form)
    }

    /// Returns a message as JSON.
    ///
    /// # Errors
    /// Why the template cannot be used.
    pub fn json(&self, message: &Message) -> Result<String, String> {
        let text = |text: &str| self.text(text);
        let headline = headline(message);
        let mut lines = vec![text(&message.summary)];
        if !message.title.is_empty() {
            lines.insert(0, text(&message.title));
        }
        let needs: Vec<String> = message.needs.iter().take(MAX_NEEDS).map(|need| text(need)).collect();
        lines.extend(needs.iter().cloned());
        if message.cost_micros > 0 {
            lines.push(format!("Cost so far: {}", render::money(message.cost_micros)));
        }
        let url = self.pages.as_ref().map_or_else(String::new, |pages| format!("{pages}{}", message.path));
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(message.at.0).unwrap_or(0));
        let html = html(&headline, &lines, &url);
        let facts = context! {
            key => &message.key,
            event => message.event.name(),
            headline => headline,
            run => message.run.map(|run| run.to_string()),
            block => message.block,
            project => &message.project,
            title => text(&message.title),
            summary => text(&message.summary),
            needs => needs,
            lines => lines,
            html => html,
            cost_usd => message.cost_micros as f64 / 1_000_000.0,
            url => url,
            at => humantime::format_rfc3339_seconds(at).to_string(),
            topic => &self.topic,
        };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        let written = environment.render_str(self.source(), facts).map_err(|e| format!("its template fails: {e}"))?;
        if written.len() > MAX_BYTES {
            return Err(format!("its template makes a message of {} bytes, more than {MAX_BYTES}", written.len()));
        }
        // Parsed and written again: whatever a template does, what is sent is JSON.
        let value: Value =
            serde_json::from_str(&written).map_err(|e| format!("its template does not make JSON: {e}"))?;
        Ok(value.to_string())
    }

    fn source(&self) -> &str {
        match &self.template {
            Template::Own(text) => text,
            Template::BuiltIn(BuiltIn::Json) => include_str!("templates/json.json"),
            Template::BuiltIn(BuiltIn::Slack) => include_str!("templates/slack.json"),
            Template::BuiltIn(BuiltIn::Discord) => include_str!("templates/discord.json"),
            Template::BuiltIn(BuiltIn::Teams) => include_str!("templates/teams.json"),
            Template::BuiltIn(BuiltIn::Matrix) => include_str!("templates/matrix.json"),
            Template::BuiltIn(BuiltIn::Ntfy) => include_str!("templates/ntfy.json"),
        }
    }

    /// Returns text from outside as this form may contain it.
    fn text(&self, text: &str) -> String {
        let text = redact_all(text);
        let one_line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let visible = one_line.chars().filter(|c| !c.is_control() && !render::is_hidden(*c));
        let mut short: String = visible.take(MAX_TEXT_CHARS + 1).collect();
        if short.chars().count() > MAX_TEXT_CHARS {
            short.truncate(short.char_indices().nth(MAX_TEXT_CHARS - 1).map_or(0, |(at, _)| at));
            short.push('…');
        }
        if self.template == Template::BuiltIn(BuiltIn::Json) {
            return short;
        }
        // A zero-width space ends what a chat takes for a mention or an address.
        let defused = short.replace('@', "@\u{200b}").replace("://", ":\u{200b}//").replace('<', "‹").replace('>', "›");
        if self.template != Template::BuiltIn(BuiltIn::Discord) {
            return defused;
        }
        let mut escaped = String::with_capacity(defused.len());
        for c in defused.chars() {
            if "\\*_~`|#[]()".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    }
}

/// Returns the first line, in Skep's own words.
fn headline(message: &Message) -> String {
    use crate::domain::MessageEvent;
    let what = match message.event {
        MessageEvent::Question => "A run waits for you",
        MessageEvent::Failed => "A run ended without a delivery",
        MessageEvent::Ended => "A run ended",
        MessageEvent::Budget => "A budget reached an alert threshold",
        MessageEvent::Broken => "Skep needs its operator",
    };
    match (&message.run, message.project.as_str()) {
        (_, "") => what.to_owned(),
        (Some(run), project) => format!("{what}: {project}, run {}", run.abbrev()),
        (None, project) => format!("{what}: {project}"),
    }
}

fn html(headline: &str, lines: &[String], url: &str) -> String {
    let escape =
        |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let mut html = format!("<strong>{}</strong>", escape(headline));
    for line in lines {
        html.push_str(&format!("<br>{}", escape(line)));
    }
    if !url.is_empty() {
        html.push_str(&format!("<br><a href=\"{}\">Open in Skep</a>", escape(url)));
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MessageEvent, Timestamp};

    fn hostile() -> Message {
        Message {
            key: "r.b1.question.1".to_owned(),
            event: MessageEvent::Question,
            run: None,
            block: Some(1),
            project: "tool".to_owned(),
            title: "@channel <!everyone> \"}],\"x\":{\" \r\nX-Evil: 1 https://evil.example/?a=b [click](https://evil.example) \u{202e}\u{200b}".to_owned(),
            summary: "{{ 7 * 7 }} {% raw %} \\ \u{1b}[2J ".repeat(100),
            needs: vec!["@here".to_owned(); 50],
            cost_micros: 1_230_000,
            path: "/q/0/1".to_owned(),
            at: Timestamp(1_700_000_000_000),
        }
    }

    #[test]
    fn every_form_is_json_in_which_outside_text_is_only_text() {
        for template in BuiltIn::ALL {
            let pages = Some("https://skep.example".to_owned());
            let form = Form::new(Template::BuiltIn(template), pages, "alerts".to_owned()).unwrap();
            let json = form.json(&hostile()).unwrap();
            let name = template.name();
            let value: Value = serde_json::from_str(&json).unwrap();
            assert!(value.is_object() && value.get("x").is_none(), "{name}: {json}");
            assert!(json.len() < 8_000 && !json.contains('\u{202e}') && !json.contains("\\u001b"), "{name}: {json}");
            assert!(json.contains("{{ 7") && !json.contains("49"), "{name} runs no template of a text: {json}");
            assert!(json.contains("https://skep.example/q/0/1"), "{name}: {json}");
            if template != BuiltIn::Json {
                for live in ["@channel", "@here", "<!", "https://evil"] {
                    assert!(!json.contains(live), "{name} contains {live}: {json}");
                }
                assert!(template != BuiltIn::Discord || !json.contains("]("), "{name}: {json}");
            }
        }
    }

    #[test]
    fn an_own_template_is_tried_when_it_is_read() {
        let own = |text: &str| Form::new(Template::Own(text.to_owned()), None, String::new());
        let json = own("{\"text\": {{ (headline ~ \" \" ~ summary) | tojson }}}").unwrap().json(&hostile()).unwrap();
        assert!(json.starts_with("{\"text\":\"A run waits for you: tool "), "{json}");
        for (bad, why) in [
            ("{{ nothing }}", "template fails"),
            ("hello", "does not make JSON"),
            ("{\"a\": \"{{ title }}\"", "does not make JSON"),
            ("{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", "template fails"),
        ] {
            let error = own(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
