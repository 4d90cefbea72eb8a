//! The plan as a graph: tasks in layers, each below everything that it needs. A table next to it says the same.

use super::hidden::visible;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Tasks above which a graph explains nothing.
const MAX_TASKS: usize = 40;
const WIDTH: usize = 176;
const HEIGHT: usize = 40;
const GAP_X: usize = 40;
const GAP_Y: usize = 14;
/// Characters of a title in a node.
const TITLE_CHARS: usize = 22;

/// Task of the graph.
pub struct Node {
    /// Id, `t1`.
    pub id: String,
    /// Name that needs refer to.
    pub name: String,
    /// Title, from outside.
    pub title: String,
    /// Names of the tasks it needs.
    pub needs: Vec<String>,
    /// Status word.
    pub status: &'static str,
}

/// Returns the graph; `None` if it would not explain anything.
pub fn graph(nodes: &[Node]) -> Option<Markup> {
    if nodes.len() < 2 || nodes.len() > MAX_TASKS || nodes.iter().all(|n| n.needs.is_empty()) {
        return None;
    }
    let layers = layers(nodes);
    let mut rows = BTreeMap::<usize, usize>::new();
    let mut places = Vec::with_capacity(nodes.len());
    for layer in &layers {
        let row = rows.entry(*layer).or_default();
        places.push((layer * (WIDTH + GAP_X), *row * (HEIGHT + GAP_Y)));
        *row += 1;
    }
    let width = (layers.iter().max().copied().unwrap_or(0) + 1) * (WIDTH + GAP_X) - GAP_X;
    let height = rows.values().max().copied().unwrap_or(1) * (HEIGHT + GAP_Y) - GAP_Y;
    let place_of = |name: &str| nodes.iter().position(|n| n.name == name).map(|at| places[at]);
    Some(html! {
        // A wide plan scrolls, by the keyboard, too.
        div.scroll tabindex="0" role="group" aria-label="Graph of the plan" {
            svg.plan width=(width + 4) height=(height + 4) viewBox={ "-2 -2 " (width + 4) " " (height + 4) } role="img"
                aria-label="The plan as a graph; the table below has the same tasks and their needs" {
                @for (node, (x, y)) in nodes.iter().zip(&places) {
                    @for (from_x, from_y) in node.needs.iter().filter_map(|need| place_of(need)) {
                        path.edge d={ "M" (from_x + WIDTH) " " (from_y + HEIGHT / 2) " C" (from_x + WIDTH + GAP_X / 2) " "
                            (from_y + HEIGHT / 2) " " (x.saturating_sub(GAP_X / 2)) " " (y + HEIGHT / 2) " " (x) " " (y + HEIGHT / 2) } {}
                    }
                }
                @for (node, (x, y)) in nodes.iter().zip(&places) {
                    g class={ "node s-" (node.status) } {
                        rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx="8" {}
                        text x=(x + 10) y=(y + 17) { (node.id) " · " (node.status.replace('_', " ")) }
                        text.title x=(x + 10) y=(y + 32) { (visible(&short(&node.title))) }
                    }
                }
            }
        }
    })
}

/// Returns the layer of each task: one more than the deepest task it needs. The domain has refused cycles; one would
/// only end the search.
fn layers(nodes: &[Node]) -> Vec<usize> {
    let mut layers = vec![0; nodes.len()];
    for _ in 0..nodes.len() {
        let mut moved = false;
        for (at, node) in nodes.iter().enumerate() {
            let needs = node.needs.iter().filter_map(|need| nodes.iter().position(|n| n.name == *need));
            let layer = needs.map(|need| layers[need] + 1).max().unwrap_or(0).min(nodes.len() - 1);
            moved |= layers[at] != layer;
            layers[at] = layer;
        }
        if !moved {
            break;
        }
    }
    layers
}

/// Returns the beginning of a title without hidden characters: in a graph there is no room to show them.
fn short(title: &str) -> String {
    let clean: String = title.chars().filter(|c| !super::hidden::is_hidden(*c) && !c.is_control()).collect();
    if clean.chars().count() <= TITLE_CHARS {
        return clean;
    }
    let cut: String = clean.chars().take(TITLE_CHARS - 1).collect();
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, needs: &[&str]) -> Node {
        let needs = needs.iter().map(|n| (*n).to_owned()).collect();
        Node { id: name.to_owned(), name: name.to_owned(), title: "<b>".to_owned(), needs, status: "pending" }
    }

    #[test]
    fn a_task_is_below_what_it_needs() {
        let nodes = [node("a", &[]), node("d", &["b", "c"]), node("b", &["a"]), node("c", &["b", "gone"])];
        assert_eq!(layers(&nodes), [0, 3, 1, 2]);
        let html = graph(&nodes).expect("a graph").into_string();
        assert!(html.contains("&lt;b&gt;") && html.matches("class=\"edge\"").count() == 4, "{html}");
        assert!(graph(&[node("a", &[])]).is_none());
        // A cycle cannot come from the domain, but must not hang the page.
        assert_eq!(layers(&[node("a", &["b"]), node("b", &["a"])]).len(), 2);
    }
}
