//! The changes of a run: its files, and the lines of the selected one.

use super::super::state::{Diff, DiffFile, DiffLine, State};
use super::{WIDE, cell, chosen, colored, good, heading, quiet, split_columns, split_lines, window};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Returns where the list of files and the lines are. In a narrow window the list is one line, with the selected file.
pub fn areas(_state: &State, body: Rect) -> (Rect, Rect) {
    let (_, rest) = split_lines(body, 1);
    if body.width >= WIDE { split_columns(rest, body.width / 4) } else { split_lines(rest, 1) }
}

/// Returns the number of lines of the selected file.
pub fn len(state: &State) -> usize {
    state.diff.as_ref().and_then(selected).map_or(0, |file| file.lines.len())
}

fn selected(diff: &Diff) -> Option<&DiffFile> {
    diff.files.as_ref()?.get(diff.file)
}

/// Draws the screen.
pub fn draw(state: &State, frame: &mut Frame<'_>, body: Rect) {
    let (head, _) = split_lines(body, 1);
    let Some(diff) = &state.diff else {
        frame.render_widget(Paragraph::new(Line::styled(" Open a run first, then press v.", quiet())), body);
        return;
    };
    let of_task = diff.task.as_ref().map(|task| format!(" · {task}")).unwrap_or_default();
    frame.render_widget(Paragraph::new(heading(format!(" {}{of_task}", diff.title))), head);
    let (list, text) = areas(state, body);
    let Some(files) = &diff.files else {
        frame.render_widget(Paragraph::new(Line::styled(" Fetching the changes…", quiet())), text);
        return;
    };
    if files.is_empty() {
        frame.render_widget(Paragraph::new(Line::styled(" There are no changes to show.", quiet())), text);
        return;
    }
    let rows: Vec<Line<'static>> = window(files.len(), diff.file, list.height)
        .filter_map(|at| Some((at, files.get(at)?)))
        .map(|(at, file)| row(state, diff, at, file, list.width))
        .collect();
    frame.render_widget(Paragraph::new(rows), list);
    let Some(file) = selected(diff) else { return };
    let last = state.scroll.saturating_add(usize::from(text.height)).min(file.lines.len());
    let visible = file.lines.get(state.scroll..last).unwrap_or_default();
    let lines: Vec<Line<'static>> = match visible.is_empty() {
        true => vec![Line::styled(format!(" {}", file.flags), quiet())],
        false => (state.scroll..).zip(visible).map(|(at, line)| of_line(state, diff, &file.path, at, line)).collect(),
    };
    frame.render_widget(Paragraph::new(lines), text);
}

fn row(state: &State, diff: &Diff, at: usize, file: &DiffFile, width: u16) -> Line<'static> {
    let mark = if diff.viewed.contains(&file.path) { '✓' } else { ' ' };
    let count = diff.files.as_ref().map_or(0, Vec::len);
    let (added, removed) = file.counts;
    let position = if state.size.0 < WIDE { format!("{}/{count} ", at + 1) } else { String::new() };
    let counts = format!(" +{added} -{removed}");
    let flags = if file.flags.is_empty() { String::new() } else { format!(" {}", file.flags) };
    let room = usize::from(width).saturating_sub(counts.len());
    // Of a long path the end says more.
    let path = format!("{mark}{position}{}{flags}", file.path);
    let excess = textwrap::core::display_width(&path).saturating_sub(room);
    let path = match excess {
        0 => path,
        n => format!("{mark}{position}…{}{flags}", file.path.chars().skip(n + 1).collect::<String>()),
    };
    let text = format!("{}{counts}", cell(&path, room));
    let style = match (at == diff.file, mark) {
        (true, _) => chosen(),
        (false, '✓') => quiet(),
        _ => Style::new(),
    };
    Line::styled(text, style)
}

fn of_line(state: &State, diff: &Diff, path: &str, at: usize, line: &DiffLine) -> Line<'static> {
    let number = |n: u64| if n > 0 { format!("{n:>5}") } else { " ".repeat(5) };
    let style = match line.sign {
        '+' => good(state),
        '-' => colored(state, Color::Red),
        '@' => colored(state, Color::Cyan),
        '\\' => quiet(),
        _ => Style::new(),
    };
    let gutter = if at == diff.line { chosen() } else { quiet() };
    if line.sign == '@' {
        let text = Span::styled(format!("@@ {}", line.text), style);
        return Line::from(vec![Span::styled(" ".repeat(11), gutter), text]);
    }
    let has_comment = line.new > 0 && diff.comments.contains_key(&(path.to_owned(), line.new));
    let mark = if has_comment { '●' } else { ' ' };
    let mut spans = vec![Span::styled(format!("{}{}{mark}", number(line.old), number(line.new)), gutter)];
    spans.push(Span::styled(line.sign.to_string(), style));
    let mut from = 0;
    for marked in &line.marks {
        let (Some(before), Some(changed)) = (line.text.get(from..marked.start), line.text.get(marked.clone())) else {
            break;
        };
        spans.push(Span::styled(before.to_owned(), style));
        spans.push(Span::styled(changed.to_owned(), style.add_modifier(Modifier::REVERSED)));
        from = marked.end;
    }
    spans.push(Span::styled(line.text.get(from..).unwrap_or_default().to_owned(), style));
    Line::from(spans)
}
