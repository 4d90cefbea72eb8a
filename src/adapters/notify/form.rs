//! The forms of messages: facts and a template become JSON. Text from outside is bounded and can mention nobody, link
//! nowhere and end no string.

use super::content::{Content, defused, short};
use super::settings::{BuiltIn, Template};
use crate::domain::Message;
use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

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
        let content = Content::new(message, self.pages.as_deref(), &|text| self.text(text));
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(message.at.0).unwrap_or(0));
        let html = content.html();
        let facts = context! {
            key => &message.key,
            event => message.event.name(),
            headline => content.headline,
            run => message.run.map(|run| run.to_string()),
            block => message.block,
            project => &message.project,
            title => content.title,
            summary => content.summary,
            needs => content.needs,
            lines => content.lines,
            html => html,
            cost_usd => message.cost_micros as f64 / 1_000_000.0,
            url => content.url,
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
        if self.template == Template::BuiltIn(BuiltIn::Json) {
            return short(text);
        }
        let defused = defused(text);
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
