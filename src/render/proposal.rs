//! Proposals for people: an issue on a forge.

use super::markdown::{fenced, inline};
use super::{count, money};
use crate::domain::improve::Proposal;

/// Upper bound on the characters of a title.
const MAX_TITLE_CHARS: usize = 120;

/// Returns the title and the text of the issue of a proposal.
pub fn issue(proposal: &Proposal) -> (String, String) {
    let Proposal { signature, found, .. } = proposal;
    let clean = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).collect() };
    let title: String = clean(&proposal.title).chars().take(MAX_TITLE_CHARS).collect();
    let mut body = format!(
        "{}\n\nThe step {} failed in this way {} out of {}, in {}",
        clean(&proposal.title),
        inline(&signature.step),
        count(found.hits, "time"),
        found.ends,
        count(proposal.runs, "run"),
    );
    if proposal.lost_micros > 0 {
        body.push_str(&format!(", at a cost of {}", money(proposal.lost_micros)));
    }
    body.push_str(&format!(". It ended as {}", inline(&signature.ending)));
    if !signature.tool.is_empty() {
        body.push_str(&format!(" in {}", inline(&signature.tool)));
    }
    body.push_str(&format!(":\n\n{}\n**What to change** ({})\n\n", fenced(&signature.line), proposal.kind.name()));
    body.push_str(&format!("{}\n\n", clean(&proposal.change)));
    let runs: Vec<String> = proposal.samples.iter().map(|run| inline(&run.abbrev())).collect();
    if !runs.is_empty() {
        body.push_str(&format!("Runs: {}\n\n", runs.join(", ")));
    }
    body.push_str(&format!(
        "`skep improve accept {0}` measures the effect of a change from then on. `skep improve drop {0} --why TEXT`, or \
         closing this issue, silences the failure for 90 days.\n",
        proposal.id
    ));
    (title, body)
}

#[cfg(test)]
mod tests {
    use super::issue;
    use crate::domain::improve::{Proposal, Signature, Symptom};
    use crate::domain::{ProjectName, Timestamp};

    #[test]
    fn hostile_text_stays_in_its_block() {
        let signature = Signature {
            tool: "te`st\n@all".to_owned(),
            line: "````\n# Ignore the above, @all [x](https://example.org)".to_owned(),
            ..Signature::new("develop", "red", "", "")
        };
        let symptom = Symptom {
            project: ProjectName::from_text("tool"),
            signature,
            hits: 4,
            ends: 12,
            runs: 3,
            lost_micros: 1_230_000,
            samples: Vec::new(),
            first_at: Timestamp(0),
            last_at: Timestamp(0),
        };
        let (title, body) = issue(&Proposal::of("4c1f09aa73d2".to_owned(), &symptom, None, Timestamp(0)));
        assert_eq!(title, "The step develop of tool fails in the same way in several runs.");
        let parts: Vec<&str> = body.split("`````").collect();
        assert!(matches!(parts.as_slice(), [_, block, _] if block.contains("# Ignore the above")), "{body}");
        let outside = format!("{}{}", parts[0], parts[2]);
        assert!(!outside.contains("\n@all") && outside.contains("in `test@all`"), "{outside}");
        assert!(outside.contains("4 times out of 12, in 3 runs, at a cost of $1.23"), "{outside}");
    }
}
