//! Imported drafts are valid specs, whatever the document contains.

use super::{Draft, issue, open_spec, spec_kit};
use crate::specs::parse;

const SPEC_KIT: &str = "\
# Feature Specification: JSON output

**Feature Branch**: `003-json-output`

## User Scenarios & Testing *(mandatory)*

<!-- ACTION REQUIRED:
- [ ] not an item -->

### User Story 1 - Print JSON (Priority: P1)

A user pipes the result into another program.

**Acceptance Scenarios**:

1. **Given** a text, **When** it is counted with --json,
   **Then** one JSON object is printed
2. **Given** no text, **When** it is counted, **Then** the counts are 0

### Edge Cases

- What happens without a file?

## Requirements *(mandatory)*

- **FR-001**: System MUST print JSON with --json
- **FR-002**: System MUST keep the plain output [NEEDS CLARIFICATION: also on a terminal?]

## Success Criteria

- **SC-001**: `python3 -m json.tool` reads the output
";

fn valid(draft: &Draft) -> (usize, usize) {
    let yaml = draft.yaml();
    parse(&yaml).unwrap_or_else(|e| panic!("{e:?}\n{yaml}")).counts()
}

#[test]
fn a_feature_of_spec_kit_becomes_a_draft() {
    let draft = spec_kit("specs/003-json-output", SPEC_KIT);
    assert_eq!((draft.id.as_str(), draft.title.as_str()), ("json-output", "JSON output"));
    let criteria: Vec<(&str, &str)> = draft.criteria.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    assert_eq!(
        criteria,
        [
            ("us1", "Given a text, When it is counted with --json, Then one JSON object is printed"),
            ("us1-2", "Given no text, When it is counted, Then the counts are 0"),
            ("sc-001", "`python3 -m json.tool` reads the output"),
        ]
    );
    assert!(draft.goal.contains("Print JSON\n\nA user pipes"), "{}", draft.goal);
    assert!(draft.goal.contains("- System MUST print JSON with --json\n"), "{}", draft.goal);
    assert_eq!(draft.questions, ["also on a terminal?"]);
    assert!(draft.yaml().contains("# Open question: also on a terminal?\n"));
    assert_eq!(valid(&draft), (0, 3));
}

#[test]
fn a_change_of_openspec_becomes_a_draft() {
    let proposal = "# Change: Add two-factor login\n\n## Why\n\nPasswords leak.\n\n## What Changes\n\n- Ask for a code\n\n## Impact\n\n- users\n";
    let delta = "\
## ADDED Requirements

### Requirement: Second factor
The system SHALL ask for a code.

#### Scenario: Code is required
- **WHEN** the password is right
- **THEN** a code is asked for

#### Scenario: Wrong code
- **WHEN** the code is wrong
- **THEN** the login fails

## REMOVED Requirements

### Requirement: Remember me
";
    let draft = open_spec("openspec/changes/add-2fa", proposal, &[delta.to_owned()]);
    assert_eq!((draft.id.as_str(), draft.title.as_str()), ("add-2fa", "Add two-factor login"));
    assert_eq!(draft.goal, "Passwords leak.\n\n- Ask for a code\n");
    let criteria: Vec<String> = draft.criteria.iter().map(|(id, text)| format!("{id}: {text}")).collect();
    assert_eq!(
        criteria,
        [
            "code-is-required: Code is required; WHEN the password is right, THEN a code is asked for",
            "wrong-code: Wrong code; WHEN the code is wrong, THEN the login fails",
            "no-remember-me: This no longer holds: Remember me",
        ]
    );
    assert_eq!(valid(&draft), (0, 3));
}

#[test]
fn an_issue_becomes_a_draft() {
    let body = "### Problem\n\nIt crashes: \"x\"\u{1b}[2J\n\n### Acceptance criteria\n\n- No crash\n- A test\n\n### Tasks\n\n- [ ] Update the docs\n- plain\n";
    let draft = issue("issue", "Crash at start", body);
    let ids: Vec<&str> = draft.criteria.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!((draft.id.as_str(), ids), ("crash-at-start", vec!["no-crash", "a-test", "update-the-docs"]));
    assert_eq!(valid(&draft), (0, 3));
}

#[test]
fn hostile_documents_give_valid_drafts() {
    let items: String = (0..40).map(|n| format!("- [ ] {} {n}\n", "é\u{202e}\"'#:{}[]&*!|>%@`".repeat(40))).collect();
    for body in [
        items,
        "- [ ] a\n".repeat(9_000),
        format!("  leading\n---\n{}\n\t- [ ] tab\ttab\u{0}\n", "- [ ] : # x".repeat(50)),
        format!("{}\n- [ ] x", "y".repeat(200_000)),
        "- [ ] 1\n- [ ] 2e3\n- [ ] true\n- [ ] No\n- [ ] null\n".to_owned(),
    ] {
        let draft = issue("an\nissue", &format!("{}\n# t: \"x\" \u{0}", "T".repeat(300)), &body);
        let (tested, judged) = valid(&draft);
        assert_eq!((tested, judged), (0, draft.criteria.len().min(12)));
        if draft.criteria.len() > 12 {
            assert!(draft.yaml().contains("# A spec has at most 12 criteria."));
        }
    }
}
