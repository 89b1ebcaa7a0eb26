//! The search for circles: Tarjan, "Depth-first search and linear graph algorithms", SIAM Journal on Computing 1
//! (2), 1972.

use std::collections::{BTreeMap, BTreeSet};

/// Returns the strongly connected components that have more than one node.
pub(super) fn strongly_connected<'g, N: Ord + Copy + 'g>(
    nodes: impl Iterator<Item = N>,
    arrows: &[(N, N)],
) -> Vec<BTreeSet<N>> {
    let mut next: BTreeMap<N, Vec<N>> = BTreeMap::new();
    for (from, to) in arrows {
        next.entry(*from).or_default().push(*to);
    }
    let mut search =
        Search { next, index: BTreeMap::new(), low: BTreeMap::new(), open: Vec::new(), found: Vec::new() };
    for node in nodes {
        if !search.index.contains_key(&node) {
            search.visit(node);
        }
    }
    search.found
}

struct Search<N> {
    next: BTreeMap<N, Vec<N>>,
    index: BTreeMap<N, usize>,
    low: BTreeMap<N, usize>,
    /// The nodes whose component isn't complete.
    open: Vec<N>,
    found: Vec<BTreeSet<N>>,
}

impl<N: Ord + Copy> Search<N> {
    fn visit(&mut self, node: N) {
        let index = self.index.len();
        self.index.insert(node, index);
        self.low.insert(node, index);
        self.open.push(node);
        for next in self.next.get(&node).cloned().unwrap_or_default() {
            let reached = if !self.index.contains_key(&next) {
                self.visit(next);
                self.low[&next]
            } else if self.open.contains(&next) {
                self.index[&next]
            } else {
                continue;
            };
            let low = self.low[&node].min(reached);
            self.low.insert(node, low);
        }
        if self.low[&node] != index {
            return;
        }
        let start = self.open.iter().position(|open| *open == node).unwrap();
        let component: BTreeSet<N> = self.open.split_off(start).into_iter().collect();
        if component.len() > 1 {
            self.found.push(component);
        }
    }
}
