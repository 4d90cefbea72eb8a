//! Wordings of agents and providers, and the moments that they mean.

use super::*;

/// 2026-11-20T12:00:00Z, a Friday.
const NOW: i64 = 1_795_176_000_000;

fn read(text: &str) -> Option<String> {
    let local = Zone::Named(Tz::America__New_York);
    let at = moments(text, Timestamp(NOW), local).into_iter().max()?;
    Some(DateTime::<Utc>::from_timestamp_millis(at).unwrap().format("%m-%d %H:%M:%S").to_string())
}

#[test]
fn moments_as_agents_and_providers_write_them() {
    for (text, expected) in [
        // Claude Code.
        ("You've hit your limit \u{b7} resets 3pm (Europe/Berlin)", "11-20 14:00:00"),
        ("5-hour limit reached \u{2219} resets 4am", "11-21 09:00:00"),
        ("You've hit your session limit \u{b7} resets 8:30pm (Asia/Tokyo)", "11-21 11:30:00"),
        ("Weekly limit reached \u{2219} resets Nov 24 at 1pm", "11-24 18:00:00"),
        ("You've hit your weekly limit \u{b7} resets Nov 24, 10:59am (America/New_York)", "11-24 15:59:00"),
        ("Your limit will reset at 12am.", "11-21 05:00:00"),
        ("Claude AI usage limit reached|1795183200", "11-20 14:00:00"),
        ("You will regain access on 2026-12-01 at 00:00 UTC.", "12-01 00:00:00"),
        // Codex.
        (
            "Upgrade to Pro (https://openai.com/chatgpt/pricing) or try again in 5 days 22 hours 11 minutes.",
            "11-26 10:11:00",
        ),
        ("or try again at Nov 29th, 2026 5:33 PM.", "11-29 22:33:00"),
        ("or try again at 3:29 PM.", "11-20 20:29:00"),
        ("try again in 2 days, 3 hours and 15 minutes", "11-22 15:15:00"),
        // Gemini.
        ("Your quota will reset after 13h12m3s.", "11-21 01:12:03"),
        ("Access resets at 11:00 PM PDT.", "11-21 06:00:00"),
        // Others.
        ("Your limit will reset at 2026-11-20 13:40:26", "11-20 18:40:26"),
        ("resets at 2026-11-20T13:40:26.5+01:00", "11-20 12:40:26"),
        ("resets at 2026-11-20T13:40:26Z", "11-20 13:40:26"),
        ("resets on Monday at 9am", "11-23 14:00:00"),
        ("resets Fri 6am", "11-27 11:00:00"),
        ("resets Friday, 8 a.m. GMT-5", "11-20 13:00:00"),
        ("Your quota resets on March 1, 2027", "03-01 05:00:00"),
        ("resets 1 December", "12-01 05:00:00"),
        ("try again tomorrow at 09:15 UTC+2", "11-21 07:15:00"),
        ("Please wait 43 minutes 12 seconds before trying again", "11-20 12:43:12"),
        ("try again in 2h 13m", "11-20 14:13:00"),
        ("resets monthly, 5 times", ""),
        ("retry after 90", ""),
        ("try again later", ""),
        ("connection reset by peer", ""),
        ("wait for limits to reset (every 5h and every week)", ""),
        ("reset 3 tests, 12 left", ""),
        ("try again at 25:99", ""),
        ("", ""),
    ] {
        assert_eq!(read(text).unwrap_or_default(), expected, "{text}");
    }
}

#[test]
fn a_time_that_was_just_reached_is_now_and_an_earlier_one_is_tomorrow() {
    assert_eq!(read("resets 6:50am").as_deref(), Some("11-20 11:50:00"));
    assert_eq!(read("resets 6:30am").as_deref(), Some("11-21 11:30:00"));
    assert_eq!(read("resets Nov 20 at 6:30am").as_deref(), Some("11-20 11:30:00"));
}

#[test]
fn a_skipped_hour_is_the_next_and_a_repeated_hour_the_later_one() {
    let zone = Zone::Named(Tz::Europe__Berlin);
    let at = |y, m, d, h| zone.moment(NaiveDate::from_ymd_opt(y, m, d).unwrap().and_hms_opt(h, 30, 0).unwrap());
    let utc = |y, m, d, h| {
        Zone::Fixed(FixedOffset::east_opt(0).unwrap())
            .moment(NaiveDate::from_ymd_opt(y, m, d).unwrap().and_hms_opt(h, 30, 0).unwrap())
    };
    assert_eq!(at(2026, 3, 29, 2), utc(2026, 3, 29, 1));
    assert_eq!(at(2026, 10, 25, 2), utc(2026, 10, 25, 1));
}

proptest::proptest! {
    #[test]
    fn garbage_is_tolerated(text in ".{0,120}", digits in "[0-9:/ -]{0,30}", now in proptest::num::i64::ANY) {
        for text in [format!("resets {text}"), format!("try again at {digits}"), format!("resets Feb {digits}")] {
            let _moments = moments(&text, Timestamp(now), Zone::Local);
        }
    }
}
